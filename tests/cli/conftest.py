"""Small models and pictures for the verbs."""

import numpy as np
import pytest
import torch
from PIL import Image

from expedit.checkpoints import safetensors_format
from expedit.models import Segmenter


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A semantic model that looks at windows."""
    torch.manual_seed(1)
    model = Segmenter(classes=5, image_size=(64, 64), patch=8, width=32, depth=3, heads=2, head_layers=1)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    safetensors_format.save(model, path)
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path
