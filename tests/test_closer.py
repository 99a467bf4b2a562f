"""A closer look at records: confidence, pictures, doubtful labels, near-duplicates, ensembles."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from test_narrative import LABELS, made
from tiny_study import ROOT

from cifar_helpers import data, metrics, narrative, plotting, results

SCALING = {"temperature": 0.8, "calibration": {"ece": 0.01}}


@pytest.fixture(scope="module")
def splits(toy_splits):
    """As of photographs, with the labels of the results that are made here."""
    test = replace(toy_splits.test, images=toy_splits.test.images[:200], labels=LABELS)
    return replace(toy_splits, test=test, source=replace(toy_splits.source, real=True))


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def drawn(result):
    """The same result, of the toy set."""
    about = {**result.record["dataset"], "real": False, "name": "toy set"}
    return replace(result, record={**result.record, "dataset": about})


# Confidence


def test_confidence_is_a_mean_over_seeds():
    one, other = made(temperature_scaling=SCALING), made(seed=1, temperature_scaling=SCALING)
    other.record["temperature_scaling"] = {"temperature": 1.0, "calibration": {"ece": 0.03}}
    found = [one, other, made("resnet20", "improved")]
    (row, smoothed) = results.calibration_rows(found).to_dict("records")
    assert (row["seeds"], row["smoothing"], smoothed["smoothing"]) == (2, 0, 0.05)
    assert row["temperature"] == pytest.approx(0.9) and row["scaled_ece"] == pytest.approx(0.02)
    assert row["confidence"] == pytest.approx(0.9) and row["ece"] == pytest.approx(0.1)


def smoothing_ablation(seeds):
    """The baseline with label smoothing, temperature 0.8, and without it, 1.2 to 1.4."""
    dataset = {**made().record["dataset"], "name": "CIFAR-10", "validation_images": 5_000}
    found = []
    for seed in range(seeds):
        for name, temperature in (("improved", 0.8), ("no-smoothing", 1.2 + 0.1 * seed)):
            result = made("baseline_cnn", name, seed=seed, dataset=dataset)
            base = "improved" if name == "no-smoothing" else None
            history = {**result.record["history"], "val_accuracy": [0.5] * 4}
            result.record.update(variant_of=base, history=history, parameters_hash=f"{name}{seed}")
            scaling = {"temperature": temperature, "calibration": {"ece": 0.01}}
            result.record.update(experiment_hash=name, temperature_scaling=scaling)
            found.append(result)
    return found


def test_the_effect_of_smoothing_is_paired_by_seed():
    (row,) = results.smoothing_effects(smoothing_ablation(3)).to_dict("records")
    assert (row["smoothing"], row["base_smoothing"], row["seeds"]) == (0, 0.05, 3)
    assert (row["temperature"], row["base_temperature"]) == pytest.approx((1.3, 0.8))
    low, high = metrics.seeds_interval([0.4, 0.5, 0.6])
    assert (row["temperature_low"], row["temperature_high"]) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (
            3,
            "(3 seeds), the temperature is 1.30 instead of 0.80 (95 % interval of the difference +",
        ),
        (1, "(one seed, without an interval), the temperature is 1.20 instead of 0.80, the"),
    ],
)
def test_what_smoothing_does_is_told_from_its_ablation(seeds, words, monkeypatch):
    found = smoothing_ablation(seeds)
    monkeypatch.setattr(results, "load_for_effects", lambda out, name: found)
    text = narrative.describe_calibration(results.without_variants(found), "").data
    assert words in text and "With label smoothing of 0 instead of 0.05" in text
    assert "nan" not in text


def test_without_the_ablation_a_sentence_says_which_command_makes_it(monkeypatch):
    monkeypatch.setattr(results, "load_for_effects", lambda out, name: [])
    text = narrative.describe_calibration([made("baseline_cnn", "improved")], "").data
    assert "--notebooks 01 --recipes no-smoothing" in text
    elsewhere = narrative.describe_calibration([made("resnet20", "improved")], "").data
    assert "is tested in notebook 1." in elsewhere


def test_confidence_is_compared_with_accuracy_by_label_smoothing():
    # Right in 80 %: with a confidence of 90 % too sure, with 70 % not sure enough.
    found = [made(), made("vgg10", "improved", confidence=0.7)]
    text = narrative.describe_calibration(found, "").data
    assert (
        "Rows less confident than accurate: 1 of 1 with label smoothing, 0 of 1 without it." in text
    )


def test_confidence_on_drawings_says_nothing_about_cifar10():
    text = narrative.describe_calibration([drawn(made())], "").data
    assert (
        "This is the toy set, which says nothing about CIFAR-10." in text
        and "run_all.py" not in text
    )


# Pictures


def test_examples_are_right_uncertain_and_wrong_predictions(splits):
    result = made(wrong=[3, 5])
    result.probabilities[7] = np.eye(10)[7] * 0.02 + np.eye(10)[8] * 0.48 + np.eye(10)[9] * 0.5
    shown = [" ".join(each.split()) for each in titles(narrative.plot_examples(result, splits))]
    name = splits.class_names
    assert f"{name[3]} → {name[4]} 90.0 %" in shown
    assert f"{name[7]} → {name[9]} 50.0 % or {name[8]} 48.0 %" in shown
    assert f"{name[0]} 90.0 %" in shown


def test_heat_maps_stand_beside_their_images(splits):
    maps = {at: np.zeros((2, 2), "float32") for at in (0, 1, 3)}
    figure = narrative.plot_heat_maps(made(wrong=[3]), splits, maps)
    pictures = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(pictures) == 3
    np.testing.assert_array_equal(pictures[-1][:, :32], splits.test.images[3])


def test_where_there_is_no_heat_map_a_sentence_says_which_command_makes_one(splits):
    text = narrative.plot_heat_maps(made("resnet20", "improved", seed=1), splits, {}).data
    assert "--notebooks 03 --recipes improved --seeds 1" in text


def test_without_images_one_sentence_stands_for_the_pictures():
    chosen = [made(wrong=[3, 5]), made("resnet20", "improved", wrong=[5, 7])]
    for result in chosen:
        result.record["validation"]["accuracy"] = 0.9
    for shown in (
        narrative.plot_examples(chosen[0], None),
        narrative.plot_heat_maps(chosen[0], None, {}),
        narrative.plot_doubtful_labels(chosen, None),
    ):
        assert "the images are not at hand" in shown.data


def test_a_gallery_goes_on_in_further_lines_and_says_where_it_is_empty(images):
    pictures = [(image, str(number)) for number, image in enumerate(images)]
    figure = plotting.gallery({"some": pictures, "others": []}, columns=3)
    assert titles(figure) == [str(number) for number in range(8)]
    labels = [axes.get_ylabel() for axes in figure.axes[::3]]
    assert labels == ["some", "", "", "others"]
    assert [text.get_text() for text in figure.axes[9].texts] == ["none"]


def test_an_overlay_is_brightest_where_the_heat_map_is():
    grey = np.full((32, 32, 3), 100, "uint8")
    heat = np.array([[0.0, 0.0], [0.0, 1.0]])
    picture = plotting.overlay(grey, heat).mean(axis=2)
    assert np.unravel_index(picture.argmax(), picture.shape) >= (24, 24)
    assert picture.shape == (32, 32) and picture[:8, :8].max() < 100


# Labels that good models doubt


def good(result, accuracy=0.9):
    result.record["validation"]["accuracy"] = accuracy
    return result


def test_doubted_are_labels_that_all_good_rows_give_the_same_other_class():
    first, second = good(made(wrong=[3, 5, 7])), good(made("resnet20", "improved", wrong=[5, 7, 9]))
    second.probabilities[5] = np.eye(10)[7]  # wrong too, but another class
    second.probabilities[9] = np.eye(10)[0]  # wrong alone
    first.probabilities[3] = np.eye(10)[4]  # wrong alone
    poor = good(made("vgg10", "improved", wrong=[]), 0.85)
    chosen = results.good_rows([first, second, poor])
    assert chosen == [first, second]
    assert results.doubtful_labels(chosen).tolist() == [7]


def test_doubted_labels_come_by_falling_mean_probability():
    pair = [good(made(wrong=[3, 7])), good(made("resnet20", "improved", wrong=[3, 7]))]
    pair[0].probabilities[7] = np.eye(10)[8]
    assert results.doubtful_labels(pair).tolist() == [7, 3]


def test_doubted_labels_are_counted_and_shown(splits):
    pair = [good(made(wrong=[3, 7])), good(made("resnet20", "improved", wrong=[3, 7, 9]))]
    text = narrative.describe_doubtful_labels(pair).data
    assert text.startswith(
        "On 2 of the 200 test images (1.0 %) all 2 rows with a validation accuracy above 85 %"
    )
    shown = titles(narrative.plot_doubtful_labels(pair, splits))
    assert shown[0] == f"{splits.class_names[3]} → {splits.class_names[4]}\n90.0 %"
    assert len(shown) == 2


def test_one_good_row_doubts_no_label(splits):
    found = [good(made()), good(made("resnet20", "improved"), 0.5)]
    assert "It takes two rows" in narrative.describe_doubtful_labels(found).data
    assert narrative.plot_doubtful_labels(found, splits).data == ""


def test_no_label_of_a_drawing_is_doubted(splits):
    found = [drawn(good(made())), drawn(good(made("resnet20", "improved")))]
    text = narrative.describe_doubtful_labels(found).data
    assert text == "*Doubtful labels are looked for in CIFAR-10 alone; this is the toy set.*"
    assert narrative.plot_doubtful_labels(found, splits).data == ""


# Near-duplicates


@pytest.fixture
def repeated(splits):
    """Test image 4 is training image 11, darker; image 9 has its like among no neighbours."""
    rng = np.random.default_rng(0)
    test = rng.integers(0, 256, splits.test.images.shape, dtype="uint8")
    pool = rng.integers(0, 256, (20, 32, 32, 3), dtype="uint8")
    test[4] = pool[11] // 2
    test[9] = pool[12]
    nearest = np.tile([0, 1, 2], (200, 1))
    nearest[4] = [3, 11, 5]
    holder = made("transfer", "improved", wrong=[5])
    holder = replace(holder, arrays={**holder.arrays, "nearest": nearest})
    pool = data.splits.Split(pool, np.arange(20) % 10)
    images = replace(splits, pool=pool, test=replace(splits.test, images=test))
    return [made(wrong=[4, 5, 6, 7]), holder], images


def test_near_duplicates_are_neighbours_whose_pixels_correlate(repeated):
    found, images = repeated
    (row,) = results.near_duplicates(found, images).to_dict("records")
    assert (row["test"], row["train"]) == (4, 11)
    pair = images.test.images[4].ravel(), images.pool.images[11].ravel()
    assert row["correlation"] == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-5)


def test_accuracy_without_some_images_is_that_of_the_others():
    pair = [made(wrong=[0, 1, 2]), made(seed=1, wrong=[0])]
    (row,) = results.accuracy_without(pair, [0, 1]).to_dict("records")
    assert row["accuracy"] == pytest.approx(np.mean([197, 199]) / 200)
    assert row["without"] == pytest.approx(np.mean([197, 198]) / 198)
    assert row["left_out"] == pytest.approx(np.mean([0, 1]) / 2)
    assert np.isnan(results.accuracy_without(pair, [])["left_out"].iloc[0])


def test_near_duplicates_are_told_shown_and_taken_out_of_every_row(repeated):
    found, images = repeated
    duplicates = results.near_duplicates(found, images)
    text = narrative.describe_near_duplicates(duplicates, found).data
    assert text.startswith("1 of the 200 test images (0.5 %)")
    assert "the accuracies of the 2 rows change by +0.0 to +0.5 points" in text
    assert "98.5 %" in narrative.near_duplicates_table(duplicates, found).data  # 196 of 199
    assert len(titles(narrative.plot_near_duplicates(duplicates, images))) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found, images: (found, None), "the images are not at hand"),
        (lambda found, images: (found[:1], images), "no record of the transfer network."),
        (
            lambda found, images: ([made("transfer", "improved")], images),
            "--notebooks 04 --recipes improved --seeds 0 --precision float32 --dataset cifar10 "
            "--backbone efficientnet-lite0 --fresh` trains it anew",
        ),
        (
            lambda found, images: (
                [drawn(result) for result in found],
                replace(images, source=replace(images.source, real=False)),
            ),
            "this is the toy set.",
        ),
    ],
    ids=["no images", "no transfer", "no neighbours", "toy set"],
)
def test_where_near_duplicates_cannot_be_found_a_sentence_says_why(change, words, repeated):
    found, images = change(*repeated)
    duplicates = results.near_duplicates(found, images)
    assert duplicates is None
    assert words in narrative.describe_near_duplicates(duplicates, found).data
    assert narrative.near_duplicates_table(duplicates, found).data == ""
    assert narrative.plot_near_duplicates(duplicates, images).data == ""


# All models together


def test_an_ensemble_is_the_mean_of_calibrated_probabilities():
    pair = [
        made(confidence=0.9, temperature_scaling={"temperature": 2.0}),
        made("resnet20", "improved", confidence=0.7, temperature_scaling={"temperature": 0.5}),
    ]
    mean = results.ensemble(pair)
    # Dividing logits by a temperature raises the probabilities to its inverse.
    powers = [p.probabilities**power for p, power in zip(pair, (0.5, 2), strict=True)]
    expected = np.mean([p / p.sum(axis=1, keepdims=True) for p in powers], axis=0)
    np.testing.assert_allclose(mean, expected)


def test_the_ensemble_stands_beside_its_members_with_an_interval():
    cold = {"temperature_scaling": {"temperature": 0.5}}
    pair = [made(wrong=range(40)), made("resnet20", "improved", wrong=range(20, 40), **cold)]
    table = narrative.ensemble_table(pair).data
    calibrated = metrics.temperature_scale(pair[1].probabilities, 0.5)
    assert f">{metrics.cross_entropy(LABELS, calibrated):.3f}<" in table
    low, high = proportion_confint(180, 200, method="wilson")
    assert "mean of all" in table and f"{100 * low:.1f} – {100 * high:.1f}" in table
    assert ">20.0 M<" in table  # the work of both


def test_the_ensemble_is_compared_with_the_best_on_validation():
    best, other = good(made(wrong=range(40))), good(made("resnet20", "improved", wrong=[]), 0.5)
    other.probabilities[:] = np.eye(10)[LABELS]
    text = narrative.describe_ensemble([best, other]).data
    assert "classify 100.0 % of the test images" in text
    assert "better than **VGG-10 (base)** on its own: +20.0 points" in text
    assert "mean of their calibrated probabilities" in text


def test_an_ensemble_that_is_worse_is_called_worse():
    best, other = good(made(wrong=[])), good(made("resnet20", "improved", wrong=range(60)), 0.5)
    other.probabilities[:] = np.eye(10)[np.where(np.arange(200) < 60, (LABELS + 1) % 10, LABELS)]
    assert "worse than" in narrative.describe_ensemble([best, other]).data


def test_one_model_is_no_ensemble():
    assert "two models" in narrative.ensemble_table([made()]).data
    assert narrative.describe_ensemble([made()]).data == ""


# Prediction time


def test_prediction_times_are_told_with_their_hardware():
    about = {"created": "2026-11-26T01:00:00+00:00"}
    times = [
        made(seed=seed, prediction_seconds_per_image=0.001 * (seed + 1), **about) for seed in (0, 1)
    ]
    earlier = made(recipe="callbacks", created="2026-11-25T01:00:00+00:00")
    table = narrative.prediction_times_table([*times, earlier]).data
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table)
    on = "One, 2 cores (generation not recorded)"
    assert cells[:5] == ["VGG-10 (base)", "2", "1.00 to 2.00", "no", on]
    assert cells[5:] == ["VGG-10 (callbacks)", "1", "1.00", "yes", on]


# All of it


def test_other_numbers_of_classes_are_shown(splits):
    labels = np.arange(200) % 3
    result = made(wrong=[])
    probabilities = np.eye(3)[labels] * 0.85 + 0.05
    probabilities[:5] = np.roll(probabilities[:5], 1, axis=1)
    arrays = {"probabilities": probabilities, "labels": labels}
    result = replace(result, arrays=arrays)
    three = replace(splits, class_names=("cat", "dog", "frog"))
    assert "cat → dog\n90.0 %" in titles(narrative.plot_examples(result, three))
    mean = results.ensemble([result, result])
    assert mean.shape == (200, 3)


def test_the_published_records_are_looked_at_without_keras():
    program = (
        "import sys\nfrom cifar_helpers import narrative, results\n"
        "found = results.without_variants(results.published())\n"
        "for tell in (narrative.describe_doubtful_labels, narrative.prediction_times_table):\n"
        "    tell(found)\n"
        "narrative.describe_calibration(found, '')\n"
        "narrative.describe_near_duplicates(results.near_duplicates(found, None), found)\n"
        "narrative.ensemble_table(results.best_of_each_model(found))\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
