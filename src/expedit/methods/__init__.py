"""One file per method; each knows no backbone."""

from ..core import Method
from .act import ACT
from .ailurus import AiluRus
from .algm import ALGM
from .ats import ATS
from .cubistmerge import CubistMerge
from .evit import EViT
from .evovit import EvoViT
from .expedit import Expedit
from .mixedscale import MixedScale
from .mpm import MPM
from .pitome import PiToMe
from .pool import Pool
from .presets import PRESETS, Preset
from .regions import Regions
from .shrink import Shrink, Shrunk
from .tome import ToMe
from .tome2d import ToMe2D

METHODS: dict[str, type[Method]] = {
    "expedit": Expedit,
    "regions": Regions,
    "evit": EViT,
    "tome": ToMe,
    "act": ACT,
    "pool": Pool,
    "pitome": PiToMe,
    "tome2d": ToMe2D,
    "ailurus": AiluRus,
    "algm": ALGM,
    "mpm": MPM,
    "shrink": Shrink,
    "cubistmerge": CubistMerge,
    "ats": ATS,
    "evovit": EvoViT,
    "mixedscale": MixedScale,
}

__all__ = [
    "ACT",
    "ALGM",
    "ATS",
    "METHODS",
    "MPM",
    "PRESETS",
    "AiluRus",
    "CubistMerge",
    "EViT",
    "EvoViT",
    "Expedit",
    "MixedScale",
    "PiToMe",
    "Pool",
    "Preset",
    "Regions",
    "Shrink",
    "Shrunk",
    "ToMe",
    "ToMe2D",
]
