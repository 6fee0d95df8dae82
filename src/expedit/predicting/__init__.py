"""Many images through one model: where they come from, batches, what is written of them, and going on after a kill."""

SURE = 0.5
"""Score from which on an instance is drawn, if nothing else is asked for."""
