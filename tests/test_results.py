import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from record_writer import write_records

from cifar_helpers import metrics, recipes, results, training
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError

FIELDS = {
    "model",
    "recipe",
    "seed",
    "dataset",
    "backbone",
    "image_size",
    "parameters",
    "epochs",
    "train",
    "validation",
    "test",
    "overfitting_gap",
    "test_accuracy_interval",
    "per_class",
    "confusion_matrix",
    "confused_pairs",
    "calibration",
    "temperature_scaling",
    "kept_epoch",
    "prediction_seconds_per_image",
    "experiment_hash",
    "history",
    "seconds",
    "images_per_second",
    "hardware",
    "versions",
    "parameters_hash",
    "created",
}


@pytest.fixture(scope="module")
def finished(toy_splits, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    (recipe,) = recipes.select("baseline_cnn", ["improved"], epochs=2)
    run = training.train(recipe, toy_splits, seed=1, out=str(out), verbose=False)
    return out, run, training.evaluate(run, out=str(out))


def _other(result, **changes):
    return results.Result({**deepcopy(result.record), **changes}, *_arrays(result))


def _arrays(result):
    return result.probabilities, result.labels


def test_a_record_has_every_field_and_survives_json(finished):
    out, _, result = finished
    path = out / "results" / "baseline_cnn" / "improved" / "seed1.json"
    assert FIELDS <= set(result.record)
    assert json.loads(path.read_text()) == json.loads(json.dumps(result.record))


def test_a_record_agrees_with_its_own_predictions(finished):
    out, _, _ = finished
    (result,) = results.load_results(out)
    record = result.record
    assert record["test"]["accuracy"] == metrics.accuracy(result.labels, result.probabilities)
    assert record["test"]["loss"] == pytest.approx(
        metrics.cross_entropy(result.labels, result.probabilities), abs=1e-6
    )
    assert np.trace(record["confusion_matrix"]) / 2000 == record["test"]["accuracy"]
    low, high = record["test_accuracy_interval"]
    assert low < record["test"]["accuracy"] < high


def test_a_record_keeps_the_validation_predictions_and_the_temperature_fitted_on_them(finished):
    out, run, _ = finished
    (result,) = results.load_results(out)
    labels, probabilities = result.validation_labels, result.validation_probabilities
    assert labels.tolist() == run.splits.validation.labels.tolist()
    validation = result.record["validation"]
    assert validation["accuracy"] == metrics.accuracy(labels, probabilities)
    assert validation["loss"] == pytest.approx(metrics.cross_entropy(labels, probabilities))
    scaling = result.record["temperature_scaling"]
    assert scaling["temperature"] == metrics.fit_temperature(labels, probabilities)
    scaled = metrics.temperature_scale(result.probabilities, scaling["temperature"])
    assert scaling["calibration"] == metrics.calibration(result.labels, scaled)
    assert result.record["prediction_seconds_per_image"] > 0


def test_a_record_without_validation_predictions_is_read(finished, tmp_path):
    _, _, result = finished
    results.save_result(replace(result, validation_probabilities=None), tmp_path)
    (found,) = results.load_results(tmp_path)
    assert found.validation_probabilities is None and found.validation_labels is None


def test_the_gap_is_that_of_the_last_epoch_in_points(finished):
    _, run, result = finished
    last = run.history["accuracy"][-1] - run.history["val_accuracy"][-1]
    assert result.record["overfitting_gap"] == pytest.approx(100 * last)


def test_the_kept_model_predicts_what_the_record_says(finished, toy_splits):
    out, _, result = finished
    model = keras.models.load_model(out / "models" / "baseline_cnn-improved-seed1.keras")
    predicted = model.predict(toy_splits.test.images, verbose=0)
    np.testing.assert_allclose(predicted, result.probabilities, atol=1e-3)


def test_the_checkpoint_is_gone_once_the_record_is_there(finished):
    out, _, _ = finished
    assert not list((out / "checkpoints").rglob("*.npz"))
    assert not list(out.rglob("*.partial"))


def test_a_record_of_other_parameters_is_kept(finished, tmp_path, capsys):
    _, _, result = finished
    path = results.save_result(_other(result, parameters_hash="a" * 64), tmp_path)
    results.save_result(result, tmp_path)
    results.save_result(result, tmp_path)
    (found,) = results.load_results(tmp_path)
    assert found.record == result.record
    kept = sorted(file.name for file in (path.parent / "earlier").iterdir())
    assert kept == ["seed1-aaaaaaaa.json", "seed1-aaaaaaaa.npz"]
    assert capsys.readouterr().out.count("is kept in earlier/") == 1


def test_a_record_that_a_look_with_other_parameters_displaced_is_put_back(finished, tmp_path):
    """With its network: what took hours is not trained again after a try in between."""
    _, run, result = finished
    wanted = result.record["parameters_hash"]
    results.save_model(run, tmp_path)
    results.save_result(result, tmp_path)
    network = tmp_path / "models" / "baseline_cnn-improved-seed1.keras"
    content = network.read_bytes()

    look = replace(run, parameters_hash="a" * 64)
    results.save_model(look, tmp_path)
    results.save_result(_other(result, parameters_hash="a" * 64), tmp_path)
    network.write_bytes(b"another network")

    assert results.find_result(tmp_path, run.recipe, 1, wanted).record == result.record
    assert [found.record for found in results.load_results(tmp_path)] == [result.record]
    assert network.read_bytes() == content
    assert results.find_result(tmp_path, run.recipe, 1, "a" * 64) is not None
    assert network.read_bytes() == b"another network"
    assert results.find_result(tmp_path, run.recipe, 1, "b" * 64) is None
    assert network.read_bytes() == b"another network"


def test_many_writers_lose_no_record(tmp_path):
    """Records of their own, and one that all of them write at once."""
    writers, count = 16, 50
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(writers, mp_context=context) as pool:
        futures = [pool.submit(write_records, tmp_path, k, count) for k in range(writers)]
        for future in futures:
            future.result()
    found = results.load_results(tmp_path)
    expected = [*range(writers * count), 9_999]
    assert [result.record["seed"] for result in found] == expected
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in files if "partial" in name]


def test_a_record_is_found_by_its_parameters_only(finished):
    out, run, result = finished
    wanted = result.record["parameters_hash"]
    assert results.find_result(out, run.recipe, 1, wanted).record == result.record
    assert results.find_result(out, run.recipe, 1, "0" * 64) is None
    assert results.find_result(out, run.recipe, 2, wanted) is None


@pytest.mark.parametrize("damaged", [".json", ".npz"])
@pytest.mark.parametrize("kept", [0, 100])
def test_a_damaged_record_is_not_taken_for_a_finished_run(
    finished, tmp_path, capsys, damaged, kept
):
    _, run, result = finished
    path = results.save_result(result, tmp_path).with_suffix(damaged)
    path.write_bytes(path.read_bytes()[:kept])
    assert results.load_results(tmp_path) == []
    wanted = result.record["parameters_hash"]
    content = path.read_bytes()
    assert results.find_result(tmp_path, run.recipe, 1, wanted) is None
    assert "done anew" in capsys.readouterr().out
    aside = path.parent / "earlier" / f"seed1-damaged{damaged}"
    assert aside.read_bytes() == content and not path.exists()


def test_predictions_with_a_flipped_bit_are_read_or_left_out(finished, tmp_path):
    _, _, result = finished
    path = results.save_result(result, tmp_path).with_suffix(".npz")
    content = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, 8 * len(content), 300):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert len(results.load_results(tmp_path)) in (0, 1)


def test_the_parameters_hash_changes_with_all_that_decides_the_outcome(toy_splits):
    (recipe,) = recipes.select("baseline_cnn", ["improved"])
    hashes = {
        results.parameters_hash(recipe, 0, toy_splits),
        results.parameters_hash(recipe, 1, toy_splits),
        results.parameters_hash(recipe.capped(5), 0, toy_splits),
        results.parameters_hash(recipe, 0, toy_splits.resplit(0.2, train_size=64)),
        results.parameters_hash(recipe, 0, toy_splits.resplit(0.1, train_size=32)),
        results.parameters_hash(recipe, 0, toy_splits, "efficientnet-lite0"),
    }
    assert len(hashes) == 6


def test_results_come_in_the_order_of_the_study(finished, tmp_path):
    _, _, result = finished
    rows = [("resnet20", "improved"), ("vgg10", "improved"), ("vgg10", "base"), ("vgg10", "base")]
    for seed, (model, recipe) in enumerate(rows):
        results.save_result(_other(result, model=model, recipe=recipe, seed=9 - seed), tmp_path)
    found = [
        (result.record["model"], result.record["recipe"], result.record["seed"])
        for result in results.load_results(tmp_path)
    ]
    assert found == [
        ("vgg10", "base", 6),
        ("vgg10", "base", 7),
        ("vgg10", "improved", 8),
        ("resnet20", "improved", 9),
    ]


def test_one_seed_has_the_interval_of_the_test_images(finished):
    _, _, result = finished
    table = results.results_table([result])
    assert table.loc[0, "interval"] == "test images"
    assert [table.loc[0, "low"], table.loc[0, "high"]] == result.record["test_accuracy_interval"]


def test_several_seeds_have_their_mean_and_the_interval_of_the_seeds(finished):
    _, _, result = finished
    seeds = [
        _other(result, seed=seed, test={"accuracy": accuracy, "loss": 1.0})
        for seed, accuracy in enumerate((0.60, 0.62, 0.64))
    ]
    row = results.results_table(seeds).loc[0]
    assert row["accuracy"] == pytest.approx(0.62)
    assert row["interval"] == "3 seeds"
    assert (row["low"], row["high"]) == pytest.approx(metrics.seeds_interval([0.60, 0.62, 0.64]))


def test_published_figures_stand_beside_real_images_only(finished):
    _, _, result = finished
    toy = _other(result, recipe="reference")
    assert not [name for name in results.results_table([toy]) if name.startswith("reference")]
    real = _other(toy, dataset={**toy.record["dataset"], "real": True})
    assert results.results_table([real]).loc[0, "reference"] == 0.6747


def test_the_best_is_chosen_on_validation_not_on_test(finished):
    _, _, result = finished
    lucky = _other(result, test={"accuracy": 0.9, "loss": 1}, validation={"accuracy": 0.5})
    sound = _other(result, recipe="reference", validation={"accuracy": 0.6})
    assert results.best_by_validation([lucky, sound]) is sound


def test_a_lucky_seed_does_not_make_a_recipe_the_best(finished):
    _, _, result = finished
    uneven = [
        _other(result, seed=seed, validation={"accuracy": accuracy})
        for seed, accuracy in enumerate((0.4, 0.7))
    ]
    even = [
        _other(result, recipe="reference", seed=seed, validation={"accuracy": 0.6})
        for seed in range(2)
    ]
    assert results.best_by_validation(uneven + even) is even[0]


def test_trainings_that_differ_in_more_than_the_seed_are_not_averaged(finished):
    _, _, result = finished
    longer = {**result.record["epochs"], "requested": 99}
    assert len(results.results_table([result, _other(result, seed=2)])) == 1
    assert len(results.results_table([result, _other(result, seed=2, epochs=longer)])) == 2


def test_published_figures_name_their_backbone_where_it_was_another(finished):
    _, _, result = finished
    record = {
        "model": "transfer",
        "recipe": "96px",
        "backbone": {"backbone": "efficientnet-lite0", "sha256": ""},
        "dataset": {**result.record["dataset"], "real": True},
    }
    row = results.results_table([_other(result, image_size=96, **record)]).loc[0]
    assert (row["reference"], row["reference_backbone"]) == (0.9042, "efficientnetv2b0")
    smaller = results.results_table([_other(result, image_size=64, **record)]).loc[0]
    assert np.isnan(smaller["reference"])


def test_missing_rows_are_named(finished):
    _, _, result = finished
    missing = results.missing_rows([result])
    assert ("baseline_cnn", "improved") not in missing
    assert len(missing) == len(recipes.RECIPES) - 1


def test_records_of_other_images_are_left_out(finished, toy_splits):
    _, _, result = finished
    other = _other(result, dataset={**result.record["dataset"], "sha256": "0" * 64})
    assert results.of_data([result, other], toy_splits) == [result]
    with pytest.raises(UserError, match="found 1 records, none of these images"):
        results.of_data([other], toy_splits)
