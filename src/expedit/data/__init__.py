"""Data sets by name, and `open_dataset`, which takes what a user types."""

from .layouts import LAYOUTS, open_dataset

__all__ = ["LAYOUTS", "open_dataset"]
