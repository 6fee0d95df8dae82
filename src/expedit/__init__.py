"""Large pre-trained vision transformers for dense prediction, faster without any training.

Names are looked up when they are first used, so that ``expedit --help`` does not import torch. No module is called
like a public function: importing it would hide the function.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import core as core
    from . import draw as draw
    from . import metrics as metrics
    from . import models as models
    from . import surgery as surgery
    from . import video as video
    from .checkpoints.zoo import load
    from .exporting.program import export
    from .inference import predict
    from .methods import ACT, ALGM, METHODS, AiluRus, EViT, Expedit, PiToMe, Pool, Regions, Shrink, ToMe, ToMe2D
    from .prediction import Prediction
    from .surgery import accelerate
    from .tuning.search import tune

__version__ = "0.1.0"

__all__ = [
    "ACT",
    "ALGM",
    "ATS",
    "METHODS",
    "MPM",
    "AiluRus",
    "CubistMerge",
    "EViT",
    "EvoViT",
    "Expedit",
    "MixedScale",
    "PiToMe",
    "Pool",
    "Prediction",
    "Regions",
    "Shrink",
    "ToMe",
    "ToMe2D",
    "accelerate",
    "export",
    "load",
    "predict",
    "tune",
]

_HOME = {
    **dict.fromkeys(__all__, "methods"),
    "accelerate": "surgery",
    "export": "exporting.program",
    "load": "checkpoints.zoo",
    "predict": "inference",
    "Prediction": "prediction",
    "tune": "tuning.search",
}

_MODULES = ("core", "draw", "metrics", "models", "surgery", "video")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted((*__all__, *_MODULES, "__version__"))
