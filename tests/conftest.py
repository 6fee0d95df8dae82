from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference tensors and small real data beside the checkout; never part of the repository."""
    if not SHARED.is_dir():
        pytest.skip("reference data is missing: expected the folder ../shared beside the checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _inference() -> None:
    torch.manual_seed(0)
