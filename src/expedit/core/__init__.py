"""The sandwich: reduce the tokens, run anything on the few, read all of them back. Imports torch only."""

from .attention import GroupedQueries, attention, show
from .companions import Rotation
from .cuts import FEATURES, LOGITS, Anatomy, Around, Attend, Cut, Guide, Kernel, Method, Plan, Reducer, Span, attn, mlp
from .engine import Branch, Context, Step, drive, without_guide
from .tokens import Companion, Grid, Side, Sizes, Stream, TokenMap, to_map, to_tokens

__all__ = [
    "FEATURES",
    "LOGITS",
    "Anatomy",
    "Around",
    "Attend",
    "Branch",
    "Companion",
    "Context",
    "Cut",
    "Grid",
    "GroupedQueries",
    "Guide",
    "Kernel",
    "Method",
    "Plan",
    "Reducer",
    "Rotation",
    "Side",
    "Sizes",
    "Span",
    "Step",
    "Stream",
    "TokenMap",
    "attention",
    "attn",
    "drive",
    "mlp",
    "show",
    "to_map",
    "to_tokens",
    "without_guide",
]
