"""``expedit.predict``."""

import numpy as np
import pytest

import expedit
from expedit.models import ViT


def test_a_model_without_a_card_is_told_so():
    bare = expedit.accelerate(
        ViT(image_size=(48, 64), patch=8, width=32, depth=3, heads=4), "pool(alpha=1, grid=(3, 4))"
    )
    with pytest.raises(ValueError, match="ViT has no card, which says what its classes are"):
        expedit.predict(bare, np.zeros((48, 64, 3), np.uint8))
