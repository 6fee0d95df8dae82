"""``expedit predict MODEL PATH… --ray``: on a cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.card import Card


def run(args: argparse.Namespace, card: Card) -> int:
    """All images, as a data set of Ray."""
    return 0
