import os

os.environ.setdefault("MPLBACKEND", "agg")

import numpy as np
import pytest

from cifar_helpers import data


@pytest.fixture(scope="session")
def toy_splits() -> data.Splits:
    """The toy set cut down to a few images: enough to train a step on."""
    return data.load("toy", train_size=64)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")
