import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_training import BACKBONE, STOPPING, TINY, TRANSFER, find_backbone

from cifar_helpers import data, files, models, recipes, results, training
from cifar_helpers.backend import keras
from cifar_helpers.training import checkpoints, epochs, progress, trainings

pytestmark = pytest.mark.usefixtures("untraced_module")  # test_kills resumes a traced training
CACHED = replace(TRANSFER, phases=(replace(TRANSFER.phases[0], epochs=4),))


@pytest.fixture(scope="module")
def toy_splits(toy_splits) -> data.Splits:
    """With fewer test images, since many trainings here are evaluated."""
    test = data.Split(toy_splits.test.images[:100], toy_splits.test.labels[:100])
    return replace(toy_splits, test=test)


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    monkeypatch.setitem(models.BACKBONES, "tiny", BACKBONE)


def _train(recipe, splits, out="", **options):
    weights = find_backbone("") if recipe.model == "transfer" else None
    options = {"seed": 0, "precision": "float32", "verbose": False, "weights": weights} | options
    return training.train(recipe, splits, out=str(out), **options)


@pytest.fixture(scope="module")
def whole(toy_splits):
    """Uninterrupted trainings, each done once."""
    done = {}

    def train(recipe):
        if recipe not in done:
            done[recipe] = _train(recipe, toy_splits)
        return done[recipe]

    return train


def _weights(model):
    return [np.asarray(weight) for weight in model.get_weights()]


class _Interrupted(Exception):
    pass


def _interrupt(recipe, epoch, splits, out, monkeypatch, **options) -> None:
    """Train until that many epochs have been checkpointed."""
    finish = epochs.EpochLog.on_epoch_end

    def on_epoch_end(self, number, logs=None):
        finish(self, number, logs)
        if self.epochs_before == epoch:
            raise _Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(epochs.EpochLog, "on_epoch_end", on_epoch_end)
        with pytest.raises(_Interrupted):
            _train(recipe, splits, out, **options)


@pytest.mark.parametrize(
    ("recipe", "epoch"),
    [(TINY, 1), (TINY, 3), (STOPPING, 1), (STOPPING, 3), (TRANSFER, 3)],
    ids=["averaging-1", "averaging-3", "stopping-1", "stopping-3", "fine_tuning"],
)
def test_an_interrupted_training_ends_in_the_same_weights(
    recipe, epoch, whole, toy_splits, tmp_path, monkeypatch
):
    _interrupt(recipe, epoch, toy_splits, tmp_path, monkeypatch)
    resumed, uninterrupted = _train(recipe, toy_splits, tmp_path), whole(recipe)
    pairs = zip(_weights(uninterrupted.model), _weights(resumed.model), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=2e-5)
    np.testing.assert_allclose(uninterrupted.history["loss"], resumed.history["loss"], atol=1e-4)
    assert uninterrupted.best_epoch == resumed.best_epoch


def test_a_training_on_cached_features_resumes_to_the_last_bit(
    whole, toy_splits, tmp_path, monkeypatch
):
    _interrupt(CACHED, 3, toy_splits, tmp_path, monkeypatch)
    resumed, uninterrupted = _train(CACHED, toy_splits, tmp_path), whole(CACHED)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert resumed.history[name] == uninterrupted.history[name]
    for one, other in zip(_weights(uninterrupted.model), _weights(resumed.model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_other_parameters_is_left_alone(whole, toy_splits, tmp_path, monkeypatch):
    _interrupt(replace(TINY, label_smoothing=0.2), 1, toy_splits, tmp_path, monkeypatch)
    run = _train(TINY, toy_splits, tmp_path)
    np.testing.assert_allclose(run.history["loss"], whole(TINY).history["loss"], atol=1e-4)


def test_a_damaged_checkpoint_is_kept_apart(whole, toy_splits, tmp_path, capsys):
    path = results.checkpoint_path(tmp_path, TINY, 0, whole(TINY).parameters_hash)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK\x03\x04 not really")
    run = _train(TINY, toy_splits, tmp_path)
    assert len(run.history["loss"]) == 3
    assert path.with_suffix(".corrupt").exists()
    assert "could not be read: kept as" in capsys.readouterr().out


@pytest.fixture(scope="module")
def interrupted(toy_splits, tmp_path_factory):
    """A folder with a checkpoint of two epochs."""
    out = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        _interrupt(TINY, 2, toy_splits, out, patch)
    return out


@pytest.fixture
def checkpoint(interrupted):
    """Its checkpoint, read anew: the state and the arrays."""
    (path,) = (interrupted / "checkpoints").rglob("*.npz")
    return checkpoints.read_checkpoint(path)


def _misfit(saved, whole) -> str:
    return checkpoints.misfit(saved, whole(TINY).parameters_hash, whole(TINY).model)


def test_resuming_says_after_which_epoch(interrupted, toy_splits, tmp_path, capsys):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    _train(TINY, toy_splits, tmp_path, verbose=True)
    assert "resuming after epoch 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"keras": "2.0"}, "was made with keras 2.0, now it is"),
        ({"tensorflow": "2.0.0"}, "was made with tensorflow 2.0.0, now it is"),
        ({"backend": "jax"}, "was made with backend jax, now it is tensorflow"),
        ({"numpy": "1.0.0"}, "was made with numpy 1.0.0, now it is"),
    ],
)
def test_other_versions_of_what_computes_the_numbers_do_not_fit(
    versions, message, checkpoint, whole
):
    checkpoint["state"]["versions"] |= versions
    assert message in _misfit(checkpoint, whole)


def test_versions_that_decide_no_number_fit(checkpoint, whole):
    others = dict.fromkeys(("papermill", "jax", "python", "cifar-helpers"), "0.0.1")
    patch = np.__version__.rpartition(".")[0] + ".99"
    checkpoint["state"]["versions"] |= others | {"numpy": patch}
    assert _misfit(checkpoint, whole) == ""


def test_other_parameters_or_another_network_do_not_fit(checkpoint, whole):
    assert checkpoints.misfit(checkpoint, "0" * 64, whole(TINY).model) == "is of other parameters"
    checkpoint["model"].pop()
    assert _misfit(checkpoint, whole) == "is of another network"


def test_a_checkpoint_that_does_not_fit_is_kept_apart(
    interrupted, checkpoint, toy_splits, tmp_path, monkeypatch, capsys
):
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(keras, "__version__", "99.0")
    run = _train(TINY, toy_splits, tmp_path)
    assert len(run.history["loss"]) == 3
    assert "was made with keras" in capsys.readouterr().out
    assert len(list((tmp_path / "checkpoints").rglob("*.other"))) == 1


def test_a_checkpoint_that_cannot_be_written_leaves_no_part_of_it(
    toy_splits, tmp_path, monkeypatch
):
    def full(file, **arrays):
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        _train(TINY, toy_splits, tmp_path)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert [path.name for path in left] == ["baseline_cnn.json"]  # how far it is


def test_a_training_that_was_stopped_before_its_record_keeps_its_fine_tuned_layers(
    toy_splits, tmp_path, monkeypatch
):
    monkeypatch.setattr(trainings, "evaluate", lambda run, **options: None)
    finished, again = (_train(TRANSFER, toy_splits, tmp_path) for _ in range(2))
    counts = [models.parameter_counts(run.model) for run in (finished, again)]
    backbone = sum(
        int(np.prod(weight.shape))
        for layer in models.backbone_layers(again.model)
        for weight in layer.trainable_weights
    )
    assert counts[0] == counts[1] and backbone > 0
    assert again.best_epoch == finished.best_epoch


# How far the trainings are


def _progress(out, model="baseline_cnn"):
    return json.loads((out / "progress" / f"{model}.json").read_text())


def test_the_progress_file_follows_the_trainings(toy_splits, tmp_path, monkeypatch):
    pairs = training.plan("baseline_cnn", ["improved"], seeds=[0, 1], epochs=3, out=str(tmp_path))
    (first, second) = _progress(tmp_path)["trainings"]
    assert first["status"] == second["status"] == "waiting"
    assert (first["epoch"], first["epochs"], first["phases"]) == (0, 3, 1)
    recipe = pairs[0][0]
    _interrupt(recipe, 2, toy_splits, tmp_path, monkeypatch)
    (first, second) = _progress(tmp_path)["trainings"]
    assert (first["status"], first["epoch"], first["phase"]) == ("running", 2, 1)
    assert 0 <= first["val_accuracy"] <= 1 and first["seconds_per_epoch"] > 0
    assert second["status"] == "waiting"
    _train(recipe, toy_splits, tmp_path)
    (first, second) = _progress(tmp_path)["trainings"]
    assert (first["status"], first["epoch"]) == ("finished", 3)
    training.plan("baseline_cnn", ["improved"], seeds=[0, 1], epochs=3, out=str(tmp_path))
    assert [each["status"] for each in _progress(tmp_path)["trainings"]] == ["finished", "waiting"]
    _train(recipe, toy_splits, tmp_path)  # found, not trained
    assert [each["status"] for each in _progress(tmp_path)["trainings"]] == ["finished", "waiting"]


def test_a_plan_keeps_what_another_process_finished_while_it_was_made(tmp_path, monkeypatch):
    """The other process is done while this one waits for the lock."""
    recipe = recipes.of_model("vgg10")[0]
    file = progress.progress_file(str(tmp_path), "vgg10")

    @contextlib.contextmanager
    def finish_meanwhile(*_, **__):
        done = {"recipe": recipe.name, "seed": 0, "status": "finished"}
        file.write_text(json.dumps({"trainings": [done]}))
        yield

    monkeypatch.setattr(progress.filelock, "FileLock", finish_meanwhile)
    progress.write_plan(str(tmp_path), "vgg10", [(recipe, 0), (recipe, 1)])
    told = progress.read_progress(str(tmp_path), "vgg10")
    assert [row["status"] for row in told] == ["finished", "waiting"]


def test_the_time_of_an_epoch_is_that_of_its_phase(tmp_path):
    """An epoch of fine-tuning takes many times as long as one of the head on cached features."""
    (recipe,) = recipes.select("transfer", ["improved"])
    history = {"val_accuracy": [0.5, 0.6], "accuracy": [0.5, 0.6], "seconds": [2.0, 2.0]}
    run = SimpleNamespace(recipe=recipe, seed=0, history=history, phase_epochs=[2])

    def told():
        progress.note_progress(str(tmp_path), run, "running", 2)
        (row,) = progress.read_progress(str(tmp_path), "transfer")
        return row["val_accuracy"], row["seconds_per_epoch"]

    assert told() == (0.6, None)
    for name, value in (("val_accuracy", 0.7), ("accuracy", 0.7), ("seconds", 300.0)):
        history[name].append(value)
    assert told() == (0.7, 300.0)
    (row,) = progress.read_progress(str(tmp_path), "transfer")
    assert row["epochs"] == 2 + recipe.phases[1].epochs  # the head was stopped after two


NOTE_100_TIMES = """
import sys
from types import SimpleNamespace
from cifar_helpers import recipes
from cifar_helpers.training.progress import note_progress

recipe, out, seed = recipes.of_model("vgg10")[0], sys.argv[1], int(sys.argv[2])
for epoch in range(1, 101):
    history = dict.fromkeys(("accuracy", "val_accuracy", "seconds"), [0.5] * epoch)
    run = SimpleNamespace(recipe=recipe, seed=seed, history=history, phase_epochs=[])
    note_progress(out, run, "running", 1)
"""


def test_two_processes_that_train_the_same_model_keep_each_others_progress(tmp_path):
    words = [sys.executable, "-c", NOTE_100_TIMES, str(tmp_path)]
    both = [subprocess.Popen([*words, seed]) for seed in ("0", "1")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    rows = _progress(tmp_path, "vgg10")["trainings"]
    assert {row["seed"]: row["epoch"] for row in rows} == {0: 100, 1: 100}


def test_a_reader_that_keeps_the_progress_file_open_ends_no_training(
    toy_splits, tmp_path, monkeypatch
):
    """As on Windows, where a file that is open cannot be replaced."""
    replaced, tries = os.replace, []

    def replace_closed(source, target):
        if os.path.basename(os.path.dirname(target)) == "progress":
            tries.append(target)
            raise PermissionError(13, "The process cannot access the file")
        replaced(source, target)

    monkeypatch.setattr(os, "replace", replace_closed)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    run = _train(TINY.capped(1), toy_splits, tmp_path)
    assert run.result is not None and tries


def test_a_file_that_is_open_for_a_moment_is_replaced(tmp_path, monkeypatch):
    replaced, refusals = os.replace, [PermissionError(13, "open"), PermissionError(13, "open")]

    def replace_later(source, target):
        if refusals:
            raise refusals.pop()
        replaced(source, target)

    monkeypatch.setattr(os, "replace", replace_later)
    files.write_json(tmp_path / "x.json", [1])
    assert json.loads((tmp_path / "x.json").read_text()) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
