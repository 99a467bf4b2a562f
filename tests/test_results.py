import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from record_writer import write_records
from tiny_study import ROOT

from cifar_helpers import hardware, metrics, recipes, results, training
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError

PUBLISHED = results.without_variants(results.published())

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
    "commit",
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
    record = {**deepcopy(result.record), **changes}
    if {"model", "recipe"} & set(changes) and "experiment_hash" in record:
        record["experiment_hash"] = f"{record['model']} {record['recipe']}"
    return results.Result(record, _arrays(result))


def _arrays(result):
    return {"probabilities": result.probabilities, "labels": result.labels}


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
    assert np.trace(record["confusion_matrix"]) / len(result.labels) == record["test"]["accuracy"]
    low, high = record["test_accuracy_interval"]
    assert low < record["test"]["accuracy"] < high


def test_a_record_keeps_the_validation_predictions_and_the_temperature_fitted_on_them(finished):
    out, run, _ = finished
    (result,) = results.load_results(out)
    labels, probabilities = (
        result.arrays[f"validation_{name}"] for name in ("labels", "probabilities")
    )
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
    older = replace(result, arrays=_arrays(result))
    results.save_result(older, tmp_path)
    (found,) = results.load_results(tmp_path)
    assert set(found.arrays) == {"labels", "probabilities"}


def test_two_trainings_that_end_in_one_place_do_not_mix_their_files(
    finished, tmp_path, monkeypatch
):
    _, run, result = finished
    first, second = (
        _other(result, parameters_hash=letter * 64, model="vgg10", recipe="base") for letter in "ab"
    )
    meanwhile = threading.Thread(
        target=lambda: results.save_result(
            second, tmp_path, save_model=lambda path: path.write_text("b")
        )
    )

    def save_slowly(path):
        meanwhile.start()
        meanwhile.join(0.5)
        path.write_text("a")

    results.save_result(first, tmp_path, save_model=save_slowly)
    meanwhile.join()
    network = results.model_path(tmp_path, *first.place)
    earlier = network.parent / "earlier" / f"{network.stem}-{'a' * 8}.keras"
    assert (network.read_text(), earlier.read_text()) == ("b", "a")
    (kept,) = results.load_results(tmp_path)
    assert kept.record["parameters_hash"] == "b" * 64
    base = recipes.select("vgg10", ["base"])[0]
    monkeypatch.setattr(results.store.filelock, "FileLock", None)  # reading takes no lock
    assert results.find_result(tmp_path, base, first.record["seed"], "b" * 64) is not None
    monkeypatch.undo()
    assert results.find_result(tmp_path, base, first.record["seed"], "a" * 64) is not None


def test_an_array_of_a_later_version_damages_no_record(finished, tmp_path):
    _, run, result = finished
    file = results.save_result(result, tmp_path).with_suffix(".npz")
    with np.load(file) as stored:
        np.savez(file, later=np.zeros(3), **{name: stored[name] for name in stored.files})
    found = results.find_result(tmp_path, run.recipe, 1, run.parameters_hash)
    assert set(found.arrays) == set(result.arrays)


def test_a_folder_may_be_named_from_the_home_folder(finished, tmp_path, monkeypatch):
    _, run, result = finished
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    results.save_result(result, "~/run")
    assert (tmp_path / "run" / "results").is_dir()
    assert len(results.load_results("~/run")) == 1
    assert results.model_path("~/run", "vgg10", "base", 0).is_relative_to(tmp_path)
    assert run.checkpoint("~/run").is_relative_to(tmp_path)


def test_tables_take_in_every_seed_that_the_folder_holds(finished, tmp_path):
    _, _, result = finished
    group = result.record["experiment_hash"]
    for seed in (2, 0):
        other = _other(result, seed=seed, parameters_hash=f"of {seed}", experiment_hash=group)
        results.save_result(other, tmp_path)
    another = _other(result, recipe="reference", seed=5, parameters_hash="another")
    results.save_result(another, tmp_path)
    found = results.with_other_seeds([result], tmp_path, published=False)
    assert [each.record["seed"] for each in found] == [0, 1, 2]
    assert results.with_other_seeds([result], "", published=False) == [result]


def test_published_seeds_join_only_where_they_are_asked_for(tmp_path):
    seeds = [each for each in PUBLISHED if each.record["model"] == "baseline_cnn"][:3]
    assert len({each.record["experiment_hash"] for each in seeds}) == 1
    alone = results.with_other_seeds(seeds[:1], tmp_path, published=False)
    assert alone == seeds[:1]
    joined = results.with_other_seeds(seeds[:1], tmp_path, published=True)
    assert [each.record["seed"] for each in joined] == [0, 1, 2]


def test_the_gap_is_that_of_the_last_epoch_in_points(finished):
    _, run, result = finished
    last = run.history["accuracy"][-1] - run.history["val_accuracy"][-1]
    assert result.record["overfitting_gap"] == pytest.approx(100 * last)


def test_the_kept_model_predicts_what_the_record_says(finished, toy_splits):
    out, _, result = finished
    path = results.model_path(out, "baseline_cnn", "improved", 1)
    assert path == out / "models" / "baseline_cnn-improved-seed1.keras"
    model = keras.models.load_model(path)
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
    network = results.model_path(tmp_path, "baseline_cnn", "improved", 1)
    look = _other(result, parameters_hash="a" * 64)
    for each, content in ((result, b"the network"), (look, b"another network")):
        save_model = partial(Path.write_bytes, data=content)
        results.save_result(each, tmp_path, save_model=save_model)
    assert network.read_bytes() == b"another network"

    assert results.find_result(tmp_path, run.recipe, 1, wanted).record == result.record
    assert [found.record for found in results.load_results(tmp_path)] == [result.record]
    assert network.read_bytes() == b"the network"
    assert results.find_result(tmp_path, run.recipe, 1, "a" * 64) is not None
    assert network.read_bytes() == b"another network"
    assert results.find_result(tmp_path, run.recipe, 1, "b" * 64) is None
    assert network.read_bytes() == b"another network"


def test_predictions_written_after_their_record_was_read_are_not_taken_for_its_own(
    finished, tmp_path
):
    _, run, result = finished
    path = results.save_result(result, tmp_path).with_suffix(".npz")
    (found,) = results.load_results(tmp_path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(UserError, match="written anew since their record was read"):
        _ = found.probabilities


def test_a_record_that_cannot_be_read_just_now_is_left_alone(finished, tmp_path, monkeypatch):
    _, run, result = finished
    path = results.save_result(result, tmp_path)

    def refuse(*arguments, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    wanted = result.record["parameters_hash"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        with pytest.raises(UserError, match="Too many open files"):
            results.find_result(tmp_path, run.recipe, 1, wanted)
    assert path.exists() and results.find_result(tmp_path, run.recipe, 1, wanted)


def test_predictions_that_cannot_be_read_just_now_are_left_alone(finished, tmp_path):
    _, run, result = finished
    path = results.save_result(result, tmp_path)
    path.with_suffix(".npz").unlink()
    path.with_suffix(".npz").mkdir()  # no file can be opened there, by root neither
    with pytest.raises(UserError, match="could not be read"):
        results.find_result(tmp_path, run.recipe, 1, result.record["parameters_hash"])
    assert path.exists()


def test_a_damaged_record_in_earlier_is_left_and_its_training_done_anew(finished, tmp_path, capsys):
    _, run, result = finished
    wanted = result.record["parameters_hash"]
    path = results.save_result(result, tmp_path)
    results.save_result(_other(result, parameters_hash="a" * 64), tmp_path)
    earlier = path.parent / "earlier" / f"seed1-{wanted[:8]}.npz"
    earlier.write_bytes(b"damaged")
    assert results.find_result(tmp_path, run.recipe, 1, wanted) is None
    assert "done anew" in capsys.readouterr().out
    assert (earlier.parent / "seed1-damaged.npz").read_bytes() == b"damaged"
    assert results.load_results(tmp_path)[0].record["parameters_hash"] == "a" * 64


def test_many_writers_lose_no_record(tmp_path):
    """Records of their own, and one that all of them write at once."""
    writers, count = 6, 50
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


def test_a_record_of_version_0_1_is_left_out_and_its_training_done_anew(finished, tmp_path, capsys):
    _, run, result = finished
    path = results.save_result(result, tmp_path)
    newer = ("kept_epoch", "temperature_scaling", "experiment_hash", "prediction_seconds_per_image")
    record = {name: value for name, value in result.record.items() if name not in newer}
    path.write_text(json.dumps(record))
    assert results.load_results(tmp_path) == []
    assert "it lacks experiment_hash, kept_epoch, prediction_" in capsys.readouterr().out
    assert results.find_result(tmp_path, run.recipe, 1, record["parameters_hash"]) is None
    assert "done anew" in capsys.readouterr().out
    assert json.loads((path.parent / "earlier" / "seed1-damaged.json").read_text()) == record


@pytest.mark.parametrize("content", ["{}", "[]", "[{}]", "3"])
def test_json_that_is_no_record_is_left_out(finished, tmp_path, capsys, content):
    _, run, result = finished
    path = results.save_result(result, tmp_path)
    path.write_text(content)
    assert results.load_results(tmp_path) == []
    assert f"the record {path} could not be read" in capsys.readouterr().out
    assert results.find_result(tmp_path, run.recipe, 1, result.record["parameters_hash"]) is None


@pytest.mark.parametrize("damaged", [".json", ".npz"])
@pytest.mark.parametrize("kept", [0, 100])
def test_a_damaged_record_is_not_taken_for_a_finished_run(
    finished, tmp_path, capsys, damaged, kept
):
    _, run, result = finished
    path = results.save_result(result, tmp_path).with_suffix(damaged)
    path.write_bytes(path.read_bytes()[:kept])
    assert results.load_results(tmp_path) == []
    assert str(Path("baseline_cnn", "improved", path.name)) in capsys.readouterr().out
    wanted = result.record["parameters_hash"]
    content = path.read_bytes()
    assert results.find_result(tmp_path, run.recipe, 1, wanted) is None
    assert "done anew" in capsys.readouterr().out
    aside = path.parent / "earlier" / f"seed1-damaged{damaged}"
    assert aside.read_bytes() == content and not path.exists()


def test_predictions_with_a_flipped_bit_are_sound_or_refused(finished, tmp_path):
    _, _, result = finished
    path = results.save_result(result, tmp_path).with_suffix(".npz")
    content = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, 8 * len(content), 300):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        for found in results.load_results(tmp_path):
            assert found.record == result.record
            with suppress(UserError):  # else what it holds is sound
                _check_arrays(found, result)


def _check_arrays(found, result):
    np.testing.assert_array_equal(found.labels, result.labels)
    kept = result.probabilities.astype("float16")
    np.testing.assert_array_equal(found.probabilities, kept.astype("float32"))


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
    assert np.isnan(results.results_table([toy]).loc[0, "reference"])
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


def test_seeds_are_grouped_by_the_hash_without_the_seed(finished):
    """Whatever hyper-parameter sets them apart: another learning rate is in no other field."""
    _, _, result = finished
    seed = _other(result, seed=2)
    other = _other(result, seed=3, experiment_hash="of another learning rate")
    assert results.results_table([result, seed, other])["seeds"].tolist() == [2, 1]


# The gap


def test_the_gap_is_that_of_the_epoch_whose_weights_were_kept(finished):
    _, _, result = finished
    kept = _other(result, kept_epoch={"epoch": 1, "overfitting_gap": -7.0}, overfitting_gap=9.0)
    row = results.results_table([kept]).loc[0]
    assert (row["gap"], row["last_gap"]) == (-7.0, 9.0)
    assert results.format_table([kept], ["gap"]).loc[0, "gap"] == "−7.0"


def test_a_trainings_time_leaves_out_what_a_busy_machine_added(finished):
    record = deepcopy(finished[2].record)
    record["epochs"]["phases"] = [{"requested": 2, "run": 2}, {"requested": 4, "run": 4}]
    record["history"]["seconds"] = [1.0, 1.5, 10.0, 10.0, 19.0, 100.0]  # phases apart
    record["seconds"]["train"] = 150.0
    assert results.training_seconds(record) == pytest.approx(150 - 90)
    assert results.time_in_words([record]) == "≈ 60 s"
    assert results.time_in_words([record] * 2, total=True) == "≈ 2 min"
    record["seconds"]["train"] = 1000.0  # a tenth less is still the time that it took
    assert results.time_in_words([record]) == "15 min"
    longer = deepcopy(record)
    longer["seconds"]["train"] = 1800.0
    assert results.time_in_words([record, longer]) == "22 min"
    longer["seconds"]["train"] = 3600.0
    assert results.time_in_words([record, longer]) == "15 min to 58 min"
    assert results.time_in_words([record, longer], total=True) == "74 min"


def test_beside_the_original_gap_stands_that_of_the_last_epoch():
    gaps = {"kept_epoch": {"epoch": 1, "overfitting_gap": 7.2}, "overfitting_gap": 8.8}
    rows = {(r.record["model"], r.record["recipe"]): r for r in PUBLISHED}
    found = [_other(rows["vgg10", name], **gaps) for name in ("callbacks", "improved")]
    table = results.format_table(found, ["gap", "original gap"])
    assert table.to_numpy().tolist() == [["+7.2", "+7.4 (here +8.8)"], ["+7.2", "–"]]


# One table, three outputs


def test_the_three_outputs_show_the_same_text(finished, capsys):
    _, _, result = finished
    about = {"test": {"accuracy": 0.785, "loss": 0.6}, "test_accuracy_interval": [0.777, 0.793]}
    gaps = {"kept_epoch": {"epoch": 2, "overfitting_gap": 3.4}}
    found = [_other(result, recipe="best", **about, **gaps)]
    columns = ["recipe", "test accuracy", "95 % interval", "gap"]
    table = results.format_table(found, columns)
    markdown = results.to_markdown(table, bold=["gap"]).splitlines()
    assert markdown[0] == "| recipe | test accuracy | 95 % interval | gap |"
    assert markdown[2] == "| best | 78.5 % | 77.7 – 79.3 (test images) | **+3.4** |"
    rows = results.index_rows(found)
    assert [rows[0][name] for name in columns] == [
        "best",
        "78.5 %",
        "77.7 – 79.3 (test images)",
        "+3.4",
    ]
    results.print_table(rows, ["recipe", "test accuracy", "nothing of the kind"])
    assert capsys.readouterr().out.split("\n")[2].split() == ["best", "78.5", "%"]
    results.print_table([], columns)
    assert capsys.readouterr().out == ""


def test_merged_columns_hold_what_they_name(finished):
    _, _, result = finished
    network = {
        "model": "transfer",
        "backbone": {"backbone": "efficientnet-lite0"},
        "image_size": 128,
    }
    epochs = {"requested": 40, "run": 30, "best": 30, "phases": []}
    took = {"seconds": {"train": 780.0, "per_epoch": 19.5}, "precision": "float32"}
    found = [_other(result, **network, recipe="improved", epochs=epochs, **took)]
    columns = ["network (recipe)", "training images", "epochs, time, precision"]
    images = f"{result.record['dataset']['train_images']:,} at 128 px"
    assert results.format_table(found, columns).loc[0].tolist() == [
        "EfficientNet-Lite0 (improved)",
        images,
        "30/40, 13 min, float32",
    ]


def test_seeds_that_stopped_at_different_epochs_say_so(finished):
    _, _, result = finished
    several = [
        _other(result, seed=seed, epochs={"requested": 50, "run": run, "best": 9, "phases": []})
        for seed, run in enumerate((33, 30, 41))
    ]
    assert results.results_table(several).loc[0, "epochs"] == "30–41/50"
    assert results.results_table(several[:1]).loc[0, "epochs"] == "33/50"


def test_published_columns_are_left_out_where_no_row_has_a_published_figure(finished):
    _, _, result = finished
    assert "original" not in results.format_table([result])
    assert "original" in results.format_table(PUBLISHED)


def test_processors_of_one_name_are_told_apart(finished):
    _, _, result = finished
    details = hardware.processor_details()
    assert details["cpu family"] in result.record["hardware"]["generation"]
    zen = {"processor": "AMD EPYC", "cores": 2, "accelerators": []}
    several = [
        _other(result, hardware={**zen, "generation": f"family {family}, avx2"})
        for family in (25, 25, 26)
    ]
    assert results.machines([*several, _other(result, hardware=zen)]) == [
        "AMD EPYC, 2 cores (family 25, avx2)",
        "AMD EPYC, 2 cores (family 26, avx2)",
        "AMD EPYC, 2 cores (generation not recorded)",
    ]


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


def test_missing_rows_are_those_that_a_plain_run_trains(finished, monkeypatch):
    _, _, result = finished
    missing = results.missing_rows([result])
    assert ("baseline_cnn", "improved") not in missing
    assert len(missing) == len(recipes.default_rows()) - 1
    extra = replace(recipes.RECIPES[0], name="by name only", group="", reference=None)
    monkeypatch.setattr(recipes, "RECIPES", (*recipes.RECIPES, extra))
    assert results.missing_rows([result]) == missing


# What a comparison is about


def test_the_published_records_are_those_of_the_checkout():
    assert len(PUBLISHED) >= 15
    assert all(result.record["dataset"]["real"] for result in PUBLISHED)


def test_a_package_without_the_checkout_has_no_published_records(tmp_path):
    shutil.copytree(ROOT / "cifar_helpers", tmp_path / "cifar_helpers")
    program = "from cifar_helpers import results; print(len(results.published()))"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "0"


def test_a_comparison_is_about_the_records_of_the_images_at_hand(finished, toy_splits, tmp_path):
    _, _, result = finished
    results.save_result(result, tmp_path)
    other = {**result.record["dataset"], "name": "other", "sha256": "0" * 64}
    results.save_result(_other(result, seed=5, dataset=other), tmp_path)
    comparison = results.for_comparison(tmp_path, toy_splits)
    assert [found.record["seed"] for found in comparison.found] == [1]
    assert comparison.splits is toy_splits
    assert comparison.notice() == toy_splits.source.notice()
    with pytest.raises(UserError, match="found 0 of the study's rows, none of these images"):
        results.for_comparison(tmp_path / "none", _real(toy_splits), dataset="cifar10")


def test_an_empty_folder_is_compared_by_the_published_records_with_images_and_without(
    toy_splits, tmp_path
):
    fallback = results.for_comparison(tmp_path, toy_splits)
    assert len(fallback.found) == len(PUBLISHED) and fallback.splits is None
    assert "published ones" in fallback.notice() and "without pictures" in fallback.notice()
    sha256 = PUBLISHED[0].record["dataset"]["sha256"]
    images = _real(toy_splits, sha256=sha256)
    comparison = results.for_comparison(tmp_path, images, dataset="cifar10")
    assert len(comparison.found) == len(PUBLISHED) and comparison.splits is images
    assert "published ones" in comparison.notice()
    assert not any(result.other_copy for result in comparison.found)


def test_beside_photographs_at_hand_records_of_drawings_do_not_count(
    finished, toy_splits, tmp_path
):
    results.save_result(finished[2], tmp_path)
    images = _real(toy_splits, sha256=PUBLISHED[0].record["dataset"]["sha256"])
    comparison = results.for_comparison(tmp_path, images)
    assert len(comparison.found) == len(PUBLISHED) and comparison.splits is images


def test_a_toy_run_never_shows_the_published_records(toy_splits, tmp_path):
    with pytest.raises(UserError, match="needs records of toy set"):
        results.for_comparison(tmp_path, toy_splits, dataset="toy")


def test_records_of_another_copy_with_the_same_labels_are_shown_and_marked(toy_splits, tmp_path):
    test = replace(toy_splits.test, labels=PUBLISHED[0].labels)
    copy = replace(_real(toy_splits), test=test)
    comparison = results.for_comparison(tmp_path, copy, dataset="cifar10")
    assert len(comparison.found) == len(PUBLISHED)
    assert all(result.other_copy for result in comparison.found)
    assert "another complete copy of CIFAR-10" in comparison.notice()
    assert ", another copy" in results.format_table(comparison.found, ["recipe"]).loc[0, "recipe"]
    shuffled = replace(copy, test=replace(test, labels=PUBLISHED[0].labels[::-1]))
    with pytest.raises(UserError, match="none of these images"):
        results.for_comparison(tmp_path, shuffled, dataset="cifar10")


def _real(splits, sha256="1" * 64):
    source = replace(splits.source, name="CIFAR-10", real=True, sha256=sha256)
    return replace(splits, source=source)


def test_a_thousand_records_are_tabled_in_a_few_times_what_their_json_takes(tmp_path):
    shown = [result for result in PUBLISHED if result.record["seed"] == 0]
    count = 0
    for result in shown:
        place = results.save_result(result, tmp_path)
        arrays = place.with_suffix(".npz").read_bytes()
        for seed in range(1, 1000 // len(shown) + 1):
            record = {**result.record, "seed": seed}
            place.with_name(f"seed{seed}.json").write_text(json.dumps(record))
            place.with_name(f"seed{seed}.npz").write_bytes(arrays)
        count += seed + 1
    times = []
    for _ in range(3):
        started = time.process_time()  # other tests run beside this one
        for path in tmp_path.glob("results/*/*/*.json"):
            json.loads(path.read_text(encoding="utf-8"))
        read = time.process_time()
        found = results.load_results(tmp_path)
        assert results.results_table(found)["seeds"].sum() == len(found) == count >= 1000
        times.append((time.process_time() - read) / (read - started))
    assert min(times) < 5
    assert not any(result.arrays._read for result in found), "predictions that nobody asked for"
