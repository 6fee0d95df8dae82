"""``expedit.predict``."""

import numpy as np
import pytest
import torch

import expedit
from expedit.models import ViT


def test_a_model_without_a_card_is_told_so():
    bare = expedit.accelerate(
        ViT(image_size=(48, 64), patch=8, width=32, depth=3, heads=4), "pool(alpha=1, grid=(3, 4))"
    )
    with pytest.raises(ValueError, match="ViT has no card, which says what its classes are"):
        expedit.predict(bare, np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize("image", [[1, 2], None, 3.5, {"path": "x.jpg"}, torch.zeros(3, 4, 4)])
def test_what_is_no_image_is_refused_in_a_sentence(image):
    with pytest.raises(ValueError, match="expected a path, a Pillow image or an array"):
        expedit.predict(expedit.load("segmenter-mini"), image)
