import os
import tempfile
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "agg")
# Tests neither find nor leave anything in the user's cache.
os.environ["CIFAR_HELPERS_CACHE"] = tempfile.mkdtemp(prefix="cifar_helpers_cache_")

import numpy as np
import pytest
from tiny_study import ROOT, TinyStudy

from cifar_helpers import data

# By the time that they take.
LONGEST = (
    "notebooks cluster extension kills variants faults training resuming teaching data models"
    " pipeline backbones results phases"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that no process is left alone with one at the end."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def toy_splits() -> data.Splits:
    """The toy set cut down to a few images: enough to train a step on."""
    return data.load("toy", train_size=64)


def _untraced() -> Iterator[None]:
    """TensorFlow runs each step as it stands: tracing takes far longer than the few steps here."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


untraced = pytest.fixture(_untraced)
untraced_module = pytest.fixture(_untraced, scope="module")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype="uint8")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """An empty study, run from its own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    return TinyStudy(tmp_path)


@pytest.fixture
def environment():
    """Variables for a runner in a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
