import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_study import ROOT

from cifar_helpers import models, recipes, results, training
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Phase, Recipe

TINY = Recipe(
    model="baseline_cnn",
    name="improved",
    changes="",
    phases=(
        Phase(
            epochs=3,
            batch_size=16,
            optimizer="adamw",
            learning_rate=1e-3,
            schedule="linear",
            warmup=0.2,
            weight_decay=1e-2,
            ema=0.9,
        ),
    ),
    augmentation="crop2_flip",
    label_smoothing=0.1,
)
STOPPING = replace(
    TINY,
    phases=(
        Phase(
            epochs=4,
            batch_size=16,
            optimizer="adam",
            learning_rate=1e-3,
            early_stopping=2,
            reduce_on_plateau=1,
        ),
    ),
)
TRANSFER = Recipe(
    model="transfer",
    name="96px",
    changes="",
    phases=(
        Phase(epochs=2, batch_size=16, optimizer="adam", learning_rate=1e-3),
        Phase(epochs=2, batch_size=16, optimizer="adam", learning_rate=1e-3, unfrozen=None),
    ),
    augmentation="flip",
    dropout=0.1,
    image_size=32,
)


def _weights(model):
    return [np.asarray(weight) for weight in model.get_weights()]


@pytest.mark.parametrize("model", recipes.MODELS)
def test_one_epoch_of_every_recipe_trains_and_gives_a_record(model, toy_splits):
    for recipe in recipes.select(model, ["reference", "improved"], epochs=1):
        recipe = replace(recipe, image_size=32)
        run = training.train(
            recipe, toy_splits, seed=0, weights="efficientnet-lite0", verbose=False
        )
        assert len(run.history["loss"]) == recipe.epochs
        assert np.isfinite(run.history["loss"]).all()
        assert run.phase_epochs == [1] * len(recipe.phases)


def test_training_lowers_the_loss(toy_splits):
    recipe = replace(TINY, phases=(replace(TINY.phases[0], epochs=12),), augmentation="none")
    run = training.train(recipe, toy_splits, seed=0, verbose=False)
    assert run.history["loss"][-1] < 0.9 * run.history["loss"][0]


def test_the_same_seed_gives_the_same_weights(toy_splits):
    first, second = (training.train(TINY, toy_splits, seed=3, verbose=False) for _ in range(2))
    for one, other in zip(_weights(first.model), _weights(second.model), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_another_seed_gives_other_weights(toy_splits):
    first, second = (training.train(TINY, toy_splits, seed=s, verbose=False) for s in (0, 1))
    assert not np.allclose(_weights(first.model)[0], _weights(second.model)[0])


class _Interrupted(Exception):
    pass


def _interrupt_after(epochs, monkeypatch):
    """Let training break off once that many epochs have been checkpointed."""
    finish = training._Log.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        finish(self, epoch, logs)
        if self.epochs_before == epochs:
            raise _Interrupted

    monkeypatch.setattr(training._Log, "on_epoch_end", on_epoch_end)


@pytest.mark.parametrize(
    ("recipe", "epochs"),
    [(TINY, 1), (TINY, 3), (STOPPING, 1), (STOPPING, 3), (TRANSFER, 3)],
    ids=["averaging-1", "averaging-3", "stopping-1", "stopping-3", "fine_tuning"],
)
def test_an_interrupted_training_ends_in_the_same_weights(
    recipe, epochs, toy_splits, tmp_path, monkeypatch
):
    options = {"seed": 0, "weights": "efficientnet-lite0", "verbose": False}
    whole = training.train(recipe, toy_splits, **options)
    with monkeypatch.context() as patch:
        _interrupt_after(epochs, patch)
        with pytest.raises(_Interrupted):
            training.train(recipe, toy_splits, out=str(tmp_path), **options)
    resumed = training.train(recipe, toy_splits, out=str(tmp_path), **options)
    for one, other in zip(_weights(whole.model), _weights(resumed.model), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    np.testing.assert_allclose(whole.history["loss"], resumed.history["loss"], atol=1e-4)
    assert whole.best_epoch == resumed.best_epoch


def test_a_checkpoint_of_other_parameters_is_not_taken_up(toy_splits, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _interrupt_after(1, patch)
        with pytest.raises(_Interrupted):
            training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    other = replace(TINY, label_smoothing=0.2)
    run = training.train(other, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    fresh = training.train(other, toy_splits, seed=0, verbose=False)
    np.testing.assert_allclose(run.history["loss"], fresh.history["loss"], atol=1e-4)


def test_a_damaged_checkpoint_is_set_aside(toy_splits, tmp_path, capsys):
    wanted = training.train(TINY, toy_splits, seed=0, verbose=False).parameters_hash
    path = results.checkpoint_path(tmp_path, TINY, 0, wanted)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK\x03\x04 not really")
    run = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    assert len(run.history["loss"]) == 3
    assert path.with_suffix(".corrupt").exists()
    assert "could not be read: set aside" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": {"keras": "2.0"}}, "was made with keras 2.0, now it is"),
        ({"parameters_hash": "0" * 64}, "is of other parameters"),
        (None, "is of another network"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_set_aside(
    change, message, toy_splits, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        _interrupt_after(1, patch)
        with pytest.raises(_Interrupted):
            training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    (path,) = (tmp_path / "checkpoints").rglob("*.npz")
    saved = training._read_checkpoint(path)
    saved["state"] |= change or {}
    saved["model"] = saved["model"] if change else saved["model"][:-1]
    arrays = {name: saved[name] for name in ("model", "optimizer", "best")}
    training._write_checkpoint(path, arrays, saved["state"])
    run = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    assert len(run.history["loss"]) == 3
    assert message in capsys.readouterr().out
    assert path.with_suffix(".other").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_no_part_of_it(
    toy_splits, tmp_path, monkeypatch
):
    def full(file, **arrays):
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("model", recipes.MODELS)
def test_the_same_seed_gives_the_same_record(model, toy_splits, tmp_path):
    """Weights and predictions to the last bit; only times and dates may differ."""
    recipe = replace(recipes.select(model, ["improved"], epochs=1)[0], image_size=32)
    records = []
    for number in range(2):
        options = {"seed": 0, "weights": "efficientnet-lite0", "out": str(tmp_path / str(number))}
        run = training.train(recipe, toy_splits, verbose=False, **options)
        result = training.evaluate(run)
        records.append((result.record, result.probabilities))
    (one, probabilities), (other, again) = records
    np.testing.assert_array_equal(probabilities, again)
    changing = {"seconds", "images_per_second", "prediction_seconds_per_image"}
    changing |= {"created", "history"}
    assert {k: v for k, v in one.items() if k not in changing} == {
        k: v for k, v in other.items() if k not in changing
    }
    assert one["history"]["loss"] == other["history"]["loss"]


def test_a_finished_run_is_not_trained_again(toy_splits, tmp_path, monkeypatch):
    run = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    result = training.evaluate(run, out=str(tmp_path))
    monkeypatch.setattr(training, "build", None)  # would fail if it were needed
    again = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    assert again.model is None
    assert training.evaluate(again, out=str(tmp_path)).record == result.record


@pytest.fixture(scope="module")
def fine_tuned(toy_splits):
    """A transfer model before training, and after its two phases."""
    weights = backbones.resolve("efficientnet-lite0")
    before = training.build(TRANSFER, weights)
    run = training.train(TRANSFER, toy_splits, seed=0, weights=weights, verbose=False)
    layers = zip(models.backbone_layers(before), models.backbone_layers(run.model), strict=True)
    return [
        (old.name, np.asarray(old), np.asarray(new))
        for one, other in layers
        for old, new in zip(one.weights, other.weights, strict=True)
    ]


def test_fine_tuning_leaves_the_backbones_statistics_alone(fine_tuned):
    statistics = [row for row in fine_tuned if row[0] in ("moving_mean", "moving_variance")]
    assert len(statistics) > 90
    for _, old, new in statistics:
        np.testing.assert_array_equal(old, new)


def test_fine_tuning_trains_all_else_that_is_opened(fine_tuned):
    trained = [row for row in fine_tuned if row[0] not in ("moving_mean", "moving_variance")]
    assert not [name for name, old, new in trained if np.array_equal(old, new)]


def test_weight_averages_are_what_is_kept(toy_splits):
    plain = replace(TINY, phases=(replace(TINY.phases[0], ema=0.0),))
    averaged = training.train(TINY, toy_splits, seed=0, verbose=False)
    last = training.train(plain, toy_splits, seed=0, verbose=False)
    assert averaged.history["loss"][0] == pytest.approx(last.history["loss"][0], abs=1e-4)
    assert not np.allclose(_weights(averaged.model)[0], _weights(last.model)[0])
    probabilities = training.predict(averaged.model, averaged.splits.validation.images)
    right = (probabilities.argmax(axis=1) == averaged.splits.validation.labels).mean()
    assert right == pytest.approx(averaged.history["val_accuracy"][-1], abs=1e-6)


def test_early_stopping_goes_back_to_the_best_epoch(toy_splits):
    phase = replace(STOPPING.phases[0], epochs=30, learning_rate=3e-2)
    recipe = replace(STOPPING, phases=(phase,), label_smoothing=0.0)
    run = training.train(recipe, toy_splits, seed=0, verbose=False)
    losses = run.history["val_loss"]
    assert len(losses) < 30
    assert run.best_epoch == int(np.argmin(losses)) + 1


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_schedule_peaks_after_the_warm_up_and_ends_at_zero(shape):
    schedule = training.WarmupDecay(peak=0.2, steps=100, warmup=0.1, shape=shape)
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates[0] == pytest.approx(0.02)
    assert rates.max() == pytest.approx(0.2, rel=0.02)
    assert rates.argmax() in (9, 10)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    assert (np.diff(rates[10:]) <= 1e-7).all()


def test_label_smoothing_agrees_with_keras():
    labels = np.array([0, 2])
    predicted = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], "float32")
    ours = training._SmoothedCrossEntropy(0.1)(labels, predicted)
    theirs = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(np.eye(3)[labels], predicted)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_weight_decay_spares_biases_and_batch_norms():
    phase = Phase(1, 8, "sgd", 0.1, weight_decay=0.5)
    optimizer = training._optimizer(phase, steps=1)
    model = models.resnet20()
    optimizer.build(model.trainable_variables)
    decays = {v.path: optimizer._use_weight_decay(v) for v in model.trainable_variables}
    assert all(used == path.endswith("kernel") for path, used in decays.items())
    assert any(decays.values())


def test_reference_stands_for_all_reference_rows():
    names = [recipe.name for recipe in recipes.select("vgg10", ["reference"])]
    assert names == ["base", "callbacks", "optimized"]


def test_epochs_cap_every_phase():
    (recipe,) = recipes.select("transfer", ["96px"], epochs=5)
    assert [phase.epochs for phase in recipe.phases] == [5, 5]


def test_an_unknown_recipe_is_refused_by_name():
    with pytest.raises(UserError, match="resnet"):
        recipes.select("vgg10", ["resnet"])


def test_the_plan_resizes_the_reference_rows_and_caps_the_improved_one():
    plan = training.plan("transfer", ["reference", "improved"], seeds=[0], image_size=[48, 64])
    sizes = {recipe.name: recipe.image_size for recipe, _ in plan}
    assert sizes == {"96px": 48, "224px": 64, "improved": 64}


def test_the_plan_fine_tunes_each_backbone_by_its_own_schedule_as_deep_and_as_large():
    wanted = ["96px", "224px", "improved"]
    plans = {
        backbone: [
            recipe
            for recipe, _ in training.plan(
                "transfer", wanted, seeds=[0], epochs=9, image_size=[96, 64], backbone=backbone
            )
        ]
        for backbone in backbones.NAMES
    }
    published, lite0 = plans[backbones.V2B0], plans[backbones.LITE0]
    assert [recipe.phases[1].learning_rate for recipe in published[:2]] == [1e-5, 1e-5]
    for ours, theirs in zip(lite0[:2], published[:2], strict=True):
        assert ours.phases[0] == theirs.phases[0]
        assert ours.phases[1].schedule == "cosine" and ours.phases[1].epochs == 9
        assert ours.phases[1].unfrozen == theirs.phases[1].unfrozen
        assert ours.image_size == theirs.image_size
        assert ours.changes.startswith(theirs.changes)
    assert lite0[2] == published[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds must be different"),
        ({"seeds": [0, 0]}, "seeds must be different"),
        ({"epochs": -1}, "epochs must be 1 or more"),
        ({"image_size": []}, "image_size must hold"),
        ({"wanted": ["96px"]}, "at least one of vgg10"),
    ],
)
def test_a_plan_of_nonsense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        training.plan(**({"model": "vgg10", "wanted": ["base"], "seeds": [0]} | changes))


def test_a_training_that_was_stopped_before_its_record_keeps_its_fine_tuned_layers(
    toy_splits, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "evaluate", lambda run, **options: None)
    options = {"seed": 0, "weights": "efficientnet-lite0", "verbose": False, "out": str(tmp_path)}
    finished = training.train(TRANSFER, toy_splits, **options)
    again = training.train(TRANSFER, toy_splits, **options)
    counts = [models.parameter_counts(run.model) for run in (finished, again)]
    assert counts[0] == counts[1] and counts[0]["trainable"] > 3_000_000
    assert again.best_epoch == finished.best_epoch


DETERMINISTIC = """
import json
from dataclasses import replace
from cifar_helpers import data, recipes, results, training

splits = data.load("toy", train_size=64)
for model in recipes.MODELS:
    recipe = replace(recipes.select(model, ["improved"], epochs=1)[0], image_size=32)
    run = training.train(
        recipe, splits, seed=0, weights="efficientnet-lite0", deterministic=True, verbose=False
    )
    record = training.evaluate(run).record
    without = results.parameters_hash(
        recipe, 0, run.splits, "efficientnet-lite0", precision=run.precision
    )
    found = record["deterministic"], record["parameters_hash"], without, record["test"]["loss"]
    print("found", json.dumps(found))
"""


def test_every_model_trains_with_deterministic_kernels():
    # In a process of its own: TensorFlow cannot be told to go back.
    ran = subprocess.run([sys.executable, "-c", DETERMINISTIC], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("found")]
    assert len(lines) == len(recipes.MODELS)
    for line in lines:
        deterministic, name, without, loss = json.loads(line.removeprefix("found"))
        assert deterministic is True
        assert name != without  # neither record is ever found in place of the other
        assert 0 < loss < 10


def test_with_a_folder_a_training_is_recorded_as_it_ends(toy_splits, tmp_path):
    run = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    (found,) = results.load_results(tmp_path)
    assert found.record["parameters_hash"] == run.parameters_hash
    assert training.evaluate(run, out=str(tmp_path)) is run.result


@pytest.mark.parametrize(
    "precision, policy", [("float32", "float32"), ("bfloat16", "mixed_bfloat16")]
)
def test_auto_takes_a_record_of_either_precision(toy_splits, tmp_path, precision, policy):
    options = {"seed": 0, "out": str(tmp_path), "verbose": False}
    made = training.train(TINY, toy_splits, precision=precision, **options)
    assert made.precision == policy == made.result.record["precision"]
    found = training.train(TINY, toy_splits, precision="auto", **options)
    assert found.model is None and found.result.record == made.result.record


def test_an_unknown_precision_is_refused(toy_splits):
    with pytest.raises(UserError, match="precision must be one of auto, float32, bfloat16"):
        training.train(TINY, toy_splits, seed=0, precision="float16")


def test_the_experiment_hash_is_that_of_all_seeds(toy_splits):
    name = training.results.parameters_hash
    assert name(TINY, None, toy_splits) not in (
        name(TINY, 0, toy_splits),
        name(TINY, 1, toy_splits),
    )
    runs = [training.train(TINY, toy_splits, seed=seed, verbose=False) for seed in (0, 1)]
    assert runs[0].experiment_hash == runs[1].experiment_hash
    assert runs[0].parameters_hash != runs[1].parameters_hash


@pytest.mark.parametrize("machine, expected", [("x86_64", "1"), ("AMD64", "1"), ("arm64", None)])
def test_onednn_is_on_where_the_processor_is_x86(machine, expected):
    assert _onednn_variable(machine) == repr(expected)


def test_onednn_stays_as_the_user_set_it():
    assert _onednn_variable("x86_64", TF_ENABLE_ONEDNN_OPTS="0") == repr("0")


def _onednn_variable(machine: str, **variables: str) -> str:
    program = (
        "import os, platform\n"
        f"platform.machine = lambda: {machine!r}\n"
        "import cifar_helpers.backend\n"
        "print(repr(os.environ.get('TF_ENABLE_ONEDNN_OPTS')))\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.strip()
