"""One file per method; each knows no backbone."""

from ..core import Method
from .act import ACT
from .evit import EViT
from .expedit import Expedit
from .pitome import PiToMe
from .pool import Pool
from .tome import ToMe

METHODS: dict[str, type[Method]] = {
    "expedit": Expedit,
    "evit": EViT,
    "tome": ToMe,
    "act": ACT,
    "pool": Pool,
    "pitome": PiToMe,
}

__all__ = ["ACT", "METHODS", "EViT", "Expedit", "PiToMe", "Pool", "ToMe"]
