"""What the package promises to those who extend it: one entry each, and no other file touched.

A copy of the checkout is given a recipe, a network, a backbone and a data set of seven classes, each
by one entry beside its own new file; one command then takes them through training, evaluation,
records, tables, figures, sentences and pages.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("cifar_helpers", "notebooks", "results", "run_all.py", "pyproject.toml")

RECIPES = """
    Recipe(
        model="mlp",
        name="slow",
        changes="a tenth of the learning rate",
        phases=(Phase(epochs=2, batch_size=16, optimizer="adam", learning_rate=1e-4),),
    ),
    Recipe(
        model="mlp",
        name="improved",
        group="improved",
        changes="two dense layers",
        phases=(Phase(epochs=2, batch_size=16, optimizer="adam", learning_rate=1e-3),),
        augmentation="flip",
    ),
"""
NETWORK = '''"""A multilayer perceptron."""

from cifar_helpers.backend import keras


def mlp(*, classes: int = 10) -> keras.Model:
    """Two dense layers on the pixels: images in [0, 255] -> probabilities."""
    images = keras.layers.Input((32, 32, 3), name="images")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(images)
    x = keras.layers.Flatten(name="head_flatten")(x)
    x = keras.layers.Dense(16, activation="relu", name="head_dense")(x)
    x = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="predictions")(x)
    return keras.Model(images, x, name="mlp")
'''
NETWORK_ENTRY = """
    Model(
        name="mlp",
        label="Perceptron",
        color="#56B4E9",
        builder="cifar_helpers.models.mlp:mlp",
        notebook="06_mlp",
    ),
"""
BACKBONE = '''"""A backbone of one convolution, with weights of its own."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np

from cifar_helpers.backend import keras
from cifar_helpers.models.backbones import Weights


def build(image_shape):
    """Images in [0, 255] -> features, an eighth of the height and width."""
    images = keras.layers.Input(image_shape, name="images")
    x = keras.layers.Rescaling(1 / 255, name="rescale")(images)
    x = keras.layers.Conv2D(8, 3, strides=8, padding="same", name="stem_conv")(x)
    x = keras.layers.ReLU(name="stem_activation")(x)
    return keras.Model(images, x, name="onelayer")


def load(model, path):
    """Set its weights from the file."""
    with np.load(path) as file:
        model.get_layer("stem_conv").set_weights([file["kernel"], file["bias"]])


def find(weights_file=""):
    """Weights drawn from a seed, in a file."""
    path = Path(tempfile.gettempdir()) / "onelayer-of-a-test.npz"
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype("float32")
    np.savez(path, kernel=kernel, bias=np.zeros(8, "float32"))
    sha256 = hashlib.sha256(kernel.tobytes()).hexdigest()
    return Weights("onelayer", "onelayer 1.0", sha256, str(path))
'''
BACKBONE_ENTRY = """
    Backbone(
        name="onelayer",
        label="OneLayer",
        builder="cifar_helpers.models.onelayer:build",
        loader="cifar_helpers.models.onelayer:load",
        finder="cifar_helpers.models.onelayer:find",
    ),
"""


def _add_entry(path: Path, table: str, entry: str) -> None:
    """Write an entry at the end of a table, a name assigned something in brackets."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"{table}"))
    end = next(index for index in range(start, len(lines)) if lines[index].strip() == ")")
    lines[end:end] = entry.strip("\n").splitlines()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


DATA_SET = '''"""Seven kinds of stripes."""

import numpy as np

from cifar_helpers.data.sets import Contents, Split


def read(data_dir):
    """Draw them."""
    return Contents(_draw(210, 0), _draw(70, 1), tuple(f"stripe{number}" for number in range(7)))


def _draw(count, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 7
    images = rng.integers(0, 100, (count, 32, 32, 3), dtype=np.uint8)
    for image, label in zip(images, labels):
        image[4 * label : 4 * label + 4] += 150
    return Split(images, labels)
'''
DATA_SET_ENTRY = """
        DataSet(
            name="stripes",
            label="stripes",
            subject="seven kinds of stripes",
            reader="cifar_helpers.data.stripes:read",
        ),
"""
NEW = {
    "cifar_helpers/models/mlp.py": NETWORK,
    "cifar_helpers/models/onelayer.py": BACKBONE,
    "cifar_helpers/data/stripes.py": DATA_SET,
}
ENTRIES = [
    ("cifar_helpers/recipes.py", "RECIPES", RECIPES),
    ("cifar_helpers/models/table.py", "MODELS", NETWORK_ENTRY),
    ("cifar_helpers/models/table.py", "BACKBONES", BACKBONE_ENTRY),
    ("cifar_helpers/data/sets.py", "DATASETS", DATA_SET_ENTRY),
]
ROWS = {
    ("transfer", "improved"),
    ("mlp", "slow"),
    ("mlp", "improved"),
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the checkout with the four additions, and what one command made of it."""
    root = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    for name, content in NEW.items():
        (root / name).write_text(content, encoding="utf-8")
    for name, table, entry in ENTRIES:
        _add_entry(root / name, table, entry)
    notebook = (root / "notebooks" / "01_baseline_cnn.ipynb").read_text(encoding="utf-8")
    (root / "notebooks" / "06_mlp.ipynb").write_text(notebook.replace("baseline_cnn", "mlp"))
    words = "--dataset stripes --epochs 1 --seeds 0 --recipes slow improved --backbone onelayer"
    words += " --image-size 32 --precision float32 --notebooks 04 05 06"
    variables = {name: value for name, value in os.environ.items() if name != "CIFAR10_DIR"}
    done = subprocess.run(
        [sys.executable, "run_all.py", *words.split(), "--out", "run"],
        cwd=root,
        env=variables | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def _records(root: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in root.glob("run/results/*/*/seed*.json")]


def test_one_entry_each_and_no_other_file_is_touched(extended):
    changed = {name for name, *_ in ENTRIES} | set(NEW) | {"notebooks/06_mlp.ipynb"}
    for path in sorted(extended.rglob("*")):
        name = path.relative_to(extended).as_posix()
        if path.is_dir() or name.startswith("run/") or "__pycache__" in name or name in changed:
            continue
        assert filecmp.cmp(path, ROOT / name, shallow=False), name


def test_each_is_trained_evaluated_and_recorded(extended):
    records = _records(extended)
    assert {(record["model"], record["recipe"]) for record in records} == ROWS
    assert {record["seed"] for record in records} == {0}
    for record in records:
        assert record["dataset"]["name"] == "stripes"
        assert len(record["per_class"]) == len(record["confusion_matrix"]) == 7
    backbones = {(record["backbone"] or {}).get("backbone") for record in records}
    assert backbones == {None, "onelayer"}


@pytest.mark.parametrize("name", ["04_transfer_learning", "05_comparison", "06_mlp"])
def test_notebooks_show_them(extended, name):
    shown = _shown(extended / "run" / "notebooks" / f"{name}.ipynb")
    assert "stripe6" in shown or name == "05_comparison"
    assert "Original" not in shown and "published" not in shown and "CIFAR-10 from" not in shown


def test_the_comparison_ranks_all_of_them(extended):
    shown = _shown(extended / "run" / "notebooks" / "05_comparison.ipynb")
    for words in ("Perceptron", "OneLayer", "slow"):
        assert words in shown


def test_the_new_notebook_runs_before_the_comparison(extended):
    run = json.loads((extended / "run" / "run.json").read_text())["notebooks"]
    assert run["06_mlp"]["started"] <= run["05_comparison"]["started"]
    assert "Perceptron" in _shown(extended / "run" / "notebooks" / "06_mlp.ipynb")


def test_the_front_page_lists_their_rows(extended):
    page = (extended / "run" / "html" / "index.html").read_text(encoding="utf-8")
    for words in ("Perceptron", "OneLayer", "slow", "seven kinds of stripes", "06_mlp.html"):
        assert words in page


def _shown(path: Path) -> str:
    """All text of a notebook's outputs."""
    texts = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            shown = output.get("data", {})
            texts += [shown.get("text/markdown", ""), shown.get("text/html", "")]
    return "\n".join(texts)
