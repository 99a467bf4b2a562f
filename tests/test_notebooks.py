"""The five notebooks: how they are written, and small copies of them that really run."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import papermill
import pytest

from cifar_helpers import models, results
from cifar_helpers.backend import keras
from cifar_helpers.models import backbones

NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/*.ipynb"))
TINY = {
    "01_baseline_cnn": {"recipes": ["reference", "improved"], "precision": "auto"},
    "02_vgg10": {"recipes": ["callbacks"]},
    "03_resnet20": {"recipes": ["improved"]},
    "04_transfer_learning": {
        "recipes": ["96px"],
        "image_size": [32],
        "backbone": "efficientnet-lite0",
    },
    "05_comparison": {},
}
RECORDS = {
    "01_baseline_cnn": [("baseline_cnn", "reference"), ("baseline_cnn", "improved")],
    "02_vgg10": [("vgg10", "callbacks")],
    "03_resnet20": [("resnet20", "improved")],
    "04_transfer_learning": [("transfer", "96px")],
}
SECTIONS = ["Setup", "Data", "Model", "Training", "Evaluation", "What each part is worth"]
SECTIONS += ["What we learned", "Try it"]
COMPARISON = [
    "Results",
    "Where the models disagree",
    "A closer look",
    "Cost against accuracy",
    "Conclusions",
    "Limits",
    "Next steps",
]


def _code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _shown_text(notebook) -> str:
    """All text of the outputs: streams, sentences and tables."""
    texts = []
    for cell in _code(notebook):
        for output in cell.outputs:
            texts.append(output.get("text", ""))
            data = output.get("data", {})
            texts += [data.get("text/markdown", ""), data.get("text/html", "")]
    return "\n".join(texts)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param.stem, nbformat.read(request.param, as_version=4)


def test_there_are_five_notebooks():
    assert [path.stem for path in NOTEBOOKS] == list(TINY)


def test_headings_are_the_same_in_all_model_notebooks(notebook):
    name, content = notebook
    text = "\n".join(c.source for c in content.cells if c.cell_type == "markdown")
    wanted = COMPARISON if name == "05_comparison" else SECTIONS
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == wanted
    assert re.match(rf"# {int(name[:2])} · ", text)


def test_the_first_code_cell_holds_the_parameters_one_a_line(notebook):
    _, content = notebook
    cell = _code(content)[0]
    assert cell.metadata.tags == ["parameters"]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|list|bool) = [^=#]+  # [^=]+", line), line


def test_code_cells_are_short_and_act_on_this_environment_only(notebook):
    _, content = notebook
    for cell in _code(content):
        assert len(cell.source.splitlines()) <= 25
        assert not re.search(r"^\s*[!%]|sys\.path|warnings\.", cell.source, re.MULTILINE)
        assert "def " not in cell.source or "architecture" in cell.metadata.tags


@pytest.mark.parametrize("name", RECORDS)
def test_the_network_in_a_notebook_is_that_of_the_package(name):
    """Layer by layer; with the package's weights it gives the same probabilities."""
    content = nbformat.read(NOTEBOOKS[list(TINY).index(name)], as_version=4)
    (cell,) = [each for each in _code(content) if "architecture" in each.metadata.get("tags", [])]
    weights = backbones.resolve("efficientnet-lite0")
    names = {"splits": SimpleNamespace(class_names=range(10)), "weights": weights}
    names |= {"keras": keras, "models": models, "backbones": backbones, "image_size": [32]}
    exec(cell.source, names)
    taught, entry = names["network"], models.MODELS[RECORDS[name][0][0]]
    options = {"weights": weights, "image_size": 32} if entry.has_backbone else {}
    real = getattr(models, entry.name)(**options)
    assert [(each.name, each.output.shape) for each in taught.layers] == [
        (each.name, each.output.shape) for each in real.layers
    ]
    assert len(taught.trainable_weights) == len(real.trainable_weights)
    taught.set_weights(real.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(np.array(taught(images)), np.array(real(images)), atol=1e-5)


def test_committed_notebooks_are_executed_in_order_without_errors(notebook):
    _, content = notebook
    cells = _code(content)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert not [cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]


def test_committed_notebooks_show_real_cifar10_and_no_warning(notebook):
    _, content = notebook
    shown = _shown_text(content)
    assert "CIFAR-10 from" in shown and "another complete copy" not in shown
    assert not re.search("Warning|Traceback", shown)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Small copies of the notebooks, run in order into one folder."""
    out = tmp_path_factory.mktemp("run")
    for path in NOTEBOOKS:
        small = {"dataset": "toy", "out": str(out), **TINY[path.stem]}
        if path.stem != "05_comparison":
            small |= {"train_size": 64, "epochs": 1, "seeds": [0]}
        papermill.execute_notebook(
            path, out / path.name, parameters=small, kernel_name="python3", progress_bar=False
        )
    return out


@pytest.mark.parametrize("name", RECORDS)
def test_a_small_copy_leaves_its_records(executed, name):
    for model, recipe in RECORDS[name]:
        record = json.loads((executed / "results" / model / recipe / "seed0.json").read_text())
        assert record["dataset"]["name"] == "toy set"
        assert record["dataset"]["train_images"] == 64
        assert record["epochs"]["run"] == len(record["epochs"]["phases"])
        assert 0 <= record["test"]["accuracy"] <= 1
        assert (executed / "models" / f"{model}-{recipe}-seed0.keras").exists()


def test_the_comparison_reads_all_records_and_names_what_is_missing(executed):
    shown = _shown_text(nbformat.read(executed / "05_comparison.ipynb", as_version=4))
    assert len(results.load_results(executed)) == 5
    assert "Missing:" in shown and "VGG-10 base" in shown and "ResNet-20 reference" in shown
    assert "the images are drawn, not CIFAR-10" in shown


@pytest.mark.parametrize("name", TINY)
def test_a_small_copy_says_that_the_images_are_drawn(executed, name):
    shown = _shown_text(nbformat.read(executed / f"{name}.ipynb", as_version=4))
    assert "Toy run" in shown
    assert "published" not in shown.lower() and "original study" not in shown.lower()


@pytest.mark.parametrize("name", TINY)
def test_a_small_copy_is_quiet(executed, name):
    outputs = [
        output
        for cell in _code(nbformat.read(executed / f"{name}.ipynb", as_version=4))
        for output in cell.outputs
    ]
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_running_again_gives_the_same_tables_and_sentences(executed):
    """Nbval runs the copies once more and compares the cells that are computed from records.

    As one notebook, whose kernel imports TensorFlow once; what 2 and 3 compute from records, 1 does too.
    """
    chosen = [path for path in NOTEBOOKS if path.name[:2] not in ("02", "03")]
    whole, *others = [nbformat.read(executed / path.name, as_version=4) for path in chosen]
    for other in others:
        whole.cells += other.cells
    # Nothing of these is compared.
    slow = ("network.compile(", "some = ", "few = ")
    whole.cells = [cell for cell in whole.cells if not cell.source.startswith(slow)]
    for number, cell in enumerate(whole.cells):
        cell.id = str(number)
    nbformat.write(whole, executed / "again.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run([*command, "again.ipynb"], capture_output=True, text=True, cwd=executed)
    assert ran.returncode == 0, ran.stdout[-3000:]


def test_no_two_tables_of_a_page_share_their_style(executed):
    for name in TINY:
        shown = _shown_text(nbformat.read(executed / f"{name}.ipynb", as_version=4))
        names = re.findall(r'<table id="(\w+)"', shown)
        assert len(set(names)) == len(names)


def _compare(folder: Path) -> str:
    """What notebook 5 shows with its defaults, but for a folder that holds no records."""
    executed = folder / "05.ipynb"
    papermill.execute_notebook(
        NOTEBOOKS[-1],
        executed,
        parameters={"out": str(folder / "empty")},
        kernel_name="python3",
        progress_bar=False,
    )
    return _shown_text(nbformat.read(executed, as_version=4))


def test_the_comparison_of_a_fresh_checkout_shows_the_published_records(tmp_path, monkeypatch):
    """Without CIFAR-10: predictions and labels are in the records, one sentence stands for pictures."""
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    (tmp_path / "file").touch()  # a cache in which nothing can be kept, so nothing is downloaded
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path / "file" / "cache"))
    shown = _compare(tmp_path)
    assert "these are the published ones" in shown and "without pictures" in shown
    assert "ResNet-20" in shown and "agree on a class that is not the label" in shown


@pytest.mark.skipif(not os.environ.get("CIFAR10_DIR"), reason="CIFAR10_DIR is not set")
def test_the_comparison_shows_published_records_beside_another_copy(tmp_path, monkeypatch):
    """A complete copy of CIFAR-10 in which some pixels differ."""
    copy = tmp_path / "cifar-10-batches-py"
    copy.mkdir()
    for path in Path(os.environ["CIFAR10_DIR"]).resolve().glob("*_batch*"):
        (copy / path.name).symlink_to(path)
    (copy / "batches.meta").symlink_to(Path(os.environ["CIFAR10_DIR"]).resolve() / "batches.meta")
    batch = pickle.loads((copy / "data_batch_1").read_bytes(), encoding="bytes")
    batch[b"data"] = batch[b"data"].copy()
    batch[b"data"][0, :7] ^= 255
    (copy / "data_batch_1").unlink()
    (copy / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))
    monkeypatch.setenv("CIFAR10_DIR", str(copy))
    shown = _compare(tmp_path)
    assert "these are the published ones" in shown and "without pictures" not in shown
    assert "another complete copy" in shown
