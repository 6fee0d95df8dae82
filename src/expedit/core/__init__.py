"""The sandwich: reduce the tokens, run anything on the few, read all of them back. Imports torch only."""

from .cuts import FEATURES, LOGITS, Anatomy, Around, Attend, Cut, Guide, Kernel, Method, Plan, Reducer, Span, attn, mlp
from .engine import Step, drive
from .tokens import Grid, Stream, TokenMap, to_map, to_tokens

__all__ = [
    "FEATURES",
    "LOGITS",
    "Anatomy",
    "Around",
    "Attend",
    "Cut",
    "Grid",
    "Guide",
    "Kernel",
    "Method",
    "Plan",
    "Reducer",
    "Span",
    "Step",
    "Stream",
    "TokenMap",
    "attn",
    "drive",
    "mlp",
    "to_map",
    "to_tokens",
]
