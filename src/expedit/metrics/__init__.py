"""Figures of merit, independent of models and methods."""

from .semantic import SemanticScores, confusion

__all__ = ["SemanticScores", "confusion"]
