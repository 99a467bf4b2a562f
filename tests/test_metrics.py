import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from cifar_helpers import metrics

NAMES = ("cat", "dog", "frog")
LABELS = np.array([0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],  # right
        [0.2, 0.7, 0.1],  # cat taken for dog
        [0.1, 0.6, 0.3],  # right
        [0.9, 0.05, 0.05],  # dog taken for cat
        [0.3, 0.3, 0.4],  # right
    ]
)
PREDICTED = np.array([0, 1, 1, 0, 2])


def simulated(images=500, classes=10, seed=0):
    """Labels and probabilities of a model that is often right and too sure of itself."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(size=(images, classes)) * 2
    logits[np.arange(images), labels] += 3
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def one_hot(classes, number=3):
    return np.eye(number)[classes]


# Predictions, accuracy and loss


def test_predictions_are_int64_class_numbers():
    predicted = metrics.predictions(PROBABILITIES)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, PREDICTED)


def test_tied_probabilities_go_to_the_lowest_class():
    assert metrics.predictions(np.full((1, 4), 0.25)).tolist() == [0]
    assert metrics.predictions([[0.2, 0.4, 0.4]]).tolist() == [1]


def test_accuracy_is_the_share_of_right_predictions():
    assert metrics.accuracy(LABELS, PROBABILITIES) == pytest.approx(3 / 5)


@pytest.mark.parametrize(("label", "expected"), [(0, 1.0), (1, 0.0)])
def test_accuracy_of_one_image(label, expected):
    assert metrics.accuracy([label], [[0.9, 0.1]]) == expected


def test_cross_entropy_by_hand():
    expected = -np.log([0.8, 0.2, 0.6, 0.05, 0.4]).mean()
    assert metrics.cross_entropy(LABELS, PROBABILITIES) == pytest.approx(expected)


def test_cross_entropy_equals_scikit_learn():
    labels, probabilities = simulated()
    expected = sklearn_metrics.log_loss(labels, probabilities, labels=range(10))
    assert metrics.cross_entropy(labels, probabilities) == pytest.approx(expected)


def test_cross_entropy_of_a_uniform_guess_is_log_of_the_classes():
    assert metrics.cross_entropy([3], np.full((1, 10), 0.1)) == pytest.approx(np.log(10))


def test_cross_entropy_is_bounded_where_the_true_class_has_probability_zero():
    assert metrics.cross_entropy([1], [[1.0, 0.0]]) == pytest.approx(-np.log(1e-7))


def test_float16_probabilities_change_the_figures_little():
    labels, probabilities = simulated()
    stored = probabilities.astype(np.float16)
    assert metrics.accuracy(labels, stored) == metrics.accuracy(labels, probabilities)
    assert metrics.cross_entropy(labels, stored) == pytest.approx(
        metrics.cross_entropy(labels, probabilities), abs=1e-3
    )


# Intervals


@pytest.mark.parametrize("right", [0, 1, 47, 99, 100])
def test_accuracy_interval_is_wilsons(right):
    labels = np.zeros(100, dtype=int)
    predicted = (np.arange(100) >= right).astype(int)
    low, high = metrics.accuracy_interval(labels, one_hot(predicted))
    expected = proportion_confint(right, 100, alpha=0.05, method="wilson")
    assert (low, high) == pytest.approx(expected, abs=1e-9)


def test_accuracy_interval_of_one_image_is_wide_and_inside_zero_and_one():
    low, high = metrics.accuracy_interval([0], [[1.0, 0.0]])
    # By hand: with z = 1.96 and one success in one trial the lower limit is 1 / (1 + z^2).
    assert low == pytest.approx(1 / (1 + 1.959964**2), abs=1e-6)
    assert high == pytest.approx(1.0)


def test_accuracy_interval_narrows_with_more_images():
    def width(images):
        low, high = metrics.accuracy_interval(*simulated(images))
        return high - low

    assert width(2000) < width(200) / 2


def test_seeds_interval_by_hand():
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.302653.
    half = 4.302653 / np.sqrt(3)
    assert metrics.seeds_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), rel=1e-6)


def test_seeds_interval_of_equal_values_has_no_width():
    assert metrics.seeds_interval([0.9, 0.9]) == pytest.approx((0.9, 0.9))


@pytest.mark.parametrize("values", [[], [0.9]])
def test_seeds_interval_needs_two_values(values):
    assert metrics.seeds_interval(values) is None


# Confusion


def test_confusion_matrix_has_true_classes_in_rows():
    expected = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    matrix = metrics.confusion_matrix(LABELS, PREDICTED, classes=3)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(metrics.confusion_matrix([0], [2], classes=3)[0], [0, 0, 1])


def test_confusion_matrix_keeps_classes_that_do_not_occur():
    matrix = metrics.confusion_matrix([1], [1], 10)
    assert matrix.shape == (10, 10)
    assert matrix.sum() == matrix[1, 1] == 1


def test_per_class_by_hand():
    cat, _, frog = metrics.per_class([0, 0, 0, 1, 2], [0, 0, 1, 0, 2], NAMES)
    assert cat == {
        "class": "cat",
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "accuracy": pytest.approx(2 / 3),
        "support": 3,
    }
    assert frog["precision"] == frog["recall"] == frog["f1"] == 1.0


def test_class_accuracy_is_its_recall():
    labels, probabilities = simulated()
    predicted = metrics.predictions(probabilities)
    for number, row in enumerate(metrics.per_class(labels, predicted, list("abcdefghij"))):
        assert row["accuracy"] == row["recall"]
        assert row["accuracy"] == pytest.approx(np.mean(predicted[labels == number] == number))


def test_class_that_was_never_predicted_has_precision_zero_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = metrics.per_class([0, 1, 2], [0, 0, 2], NAMES)
    assert (rows[1]["precision"], rows[1]["recall"], rows[1]["f1"]) == (0.0, 0.0, 0.0)


def test_class_without_images_has_recall_and_support_zero_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = metrics.per_class([0, 0], [0, 1], NAMES)
    assert (rows[1]["recall"], rows[1]["support"]) == (0.0, 0)


def test_confused_pairs_are_ordered_by_count_without_the_diagonal():
    matrix = [[90, 3, 7], [12, 80, 0], [3, 1, 99]]
    assert metrics.confused_pairs(matrix, NAMES, top=3) == [
        {"true": "dog", "predicted": "cat", "count": 12},
        {"true": "cat", "predicted": "frog", "count": 7},
        {"true": "cat", "predicted": "dog", "count": 3},  # ties with frog -> cat, class order
    ]


def test_confused_pairs_leave_out_pairs_that_never_occurred():
    assert metrics.confused_pairs(np.diag([5, 5, 5]), NAMES) == []
    assert len(metrics.confused_pairs([[5, 1, 0], [0, 5, 0], [0, 0, 5]], NAMES)) == 1


# Calibration


def test_calibration_by_hand():
    # Confidences .8 .7 .6 .9 .4, right: yes no yes no yes; two bins of width one half.
    result = metrics.calibration(LABELS, PROBABILITIES, bins=2)
    lower, upper = result["bins"]
    assert lower == {
        "low": 0.0,
        "high": 0.5,
        "confidence": pytest.approx(0.4),
        "accuracy": 1.0,
        "count": 1,
    }
    assert (upper["confidence"], upper["accuracy"], upper["count"]) == pytest.approx((0.75, 0.5, 4))
    assert result["ece"] == pytest.approx(1 / 5 * 0.6 + 4 / 5 * 0.25)


def test_calibration_bins_equal_scikit_learns():
    labels, probabilities = simulated()
    correct = metrics.predictions(probabilities) == labels
    accuracy, confidence = calibration_curve(correct, probabilities.max(axis=1), n_bins=15)
    bins = metrics.calibration(labels, probabilities, bins=15)["bins"]
    np.testing.assert_allclose([b["accuracy"] for b in bins], accuracy)
    np.testing.assert_allclose([b["confidence"] for b in bins], confidence)


def test_empty_calibration_bins_are_left_out_and_counts_add_up():
    bins = metrics.calibration(LABELS, PROBABILITIES, bins=15)["bins"]
    assert len(bins) == 5
    assert sum(b["count"] for b in bins) == len(LABELS)


def test_confidence_on_an_edge_falls_into_the_bin_below():
    (only,) = metrics.calibration([0], [[0.5, 0.5]], bins=2)["bins"]
    assert (only["low"], only["high"]) == (0.0, 0.5)


def test_confidence_of_one_falls_into_the_last_bin():
    (only,) = metrics.calibration([0], [[1.0, 0.0]], bins=15)["bins"]
    assert only["high"] == 1.0


@pytest.mark.parametrize(("label", "ece"), [(0, 0.0), (1, 1.0)])
def test_calibration_error_of_one_certain_prediction(label, ece):
    assert metrics.calibration([label], [[1.0, 0.0]])["ece"] == ece


def test_temperature_one_changes_nothing():
    np.testing.assert_allclose(metrics.temperature_scale(PROBABILITIES, 1.0), PROBABILITIES)


def test_temperature_divides_the_log_odds():
    ((p, q),) = metrics.temperature_scale([[0.9, 0.1]], 2.0)
    assert np.log(p / q) == pytest.approx(np.log(9) / 2)


@pytest.mark.parametrize("temperature", [0.1, 3.0])
def test_temperature_leaves_the_predicted_class(temperature):
    _, probabilities = simulated()
    scaled = metrics.temperature_scale(probabilities, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    np.testing.assert_array_equal(metrics.predictions(scaled), metrics.predictions(probabilities))


def test_temperature_scaling_takes_a_probability_of_zero():
    assert np.isfinite(metrics.temperature_scale([[1.0, 0.0]], 2.0)).all()


def test_fitted_temperature_by_hand():
    # Three of four right at confidence .9: the likeliest confidence is .75, so T = ln 9 / ln 3 = 2.
    fitted = metrics.fit_temperature([0, 0, 0, 1], np.tile([0.9, 0.1], (4, 1)))
    assert fitted == pytest.approx(2.0, abs=1e-3)


def test_fitted_temperature_undoes_a_known_one():
    rng = np.random.default_rng(0)
    _, probabilities = simulated(20_000)
    labels = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    sharpened = metrics.temperature_scale(probabilities, 0.5)
    assert metrics.fit_temperature(labels, sharpened) == pytest.approx(2.0, abs=0.05)


def test_fitted_temperature_lowers_loss_and_calibration_error():
    labels, probabilities = simulated(2000)
    sharpened = metrics.temperature_scale(probabilities, 0.4)
    scaled = metrics.temperature_scale(sharpened, metrics.fit_temperature(labels, sharpened))
    assert metrics.cross_entropy(labels, scaled) < metrics.cross_entropy(labels, sharpened)
    before, after = (metrics.calibration(labels, p)["ece"] for p in (sharpened, scaled))
    assert after < before


def test_fitted_temperature_stays_in_its_range_when_all_is_right():
    assert metrics.fit_temperature([0, 1], [[0.9, 0.1], [0.2, 0.8]]) == pytest.approx(
        0.05, abs=0.01
    )


# Models side by side


def with_discordant(only_a, only_b, both=20):
    """Labels and two models' predictions, of which so many images are right in one model only."""
    labels = np.zeros(only_a + only_b + both, dtype=int)
    predicted_a, predicted_b = labels.copy(), labels.copy()
    predicted_b[:only_a] = 1
    predicted_a[only_a : only_a + only_b] = 1
    return labels, predicted_a, predicted_b


def test_mcnemar_by_hand():
    result = metrics.mcnemar(*with_discordant(4, 1))
    assert (result["only_a"], result["only_b"]) == (4, 1)
    # Five fair coins: P(0) = 1/32, P(1) = 5/32; two-sided mid-p = 2 (1/32 + 5/64).
    assert result["p_value"] == pytest.approx(2 / 32 + 5 / 32)


def test_mcnemar_mid_p_is_the_exact_value_less_the_observed_probability():
    exact = statsmodels_mcnemar([[20, 9], [2, 0]], exact=True).pvalue
    observed = 55 / 2**11
    assert metrics.mcnemar(*with_discordant(9, 2))["p_value"] == pytest.approx(exact - observed)


def test_mcnemar_nears_the_chi_square_test_for_many_images():
    expected = statsmodels_mcnemar([[0, 640], [560, 0]], exact=False, correction=False)
    result = metrics.mcnemar(*with_discordant(640, 560))
    assert result["p_value"] == pytest.approx(expected.pvalue, rel=0.01)


def test_mcnemar_does_not_depend_on_which_model_comes_first():
    labels, predicted_a, predicted_b = with_discordant(9, 2)
    one = metrics.mcnemar(labels, predicted_a, predicted_b)
    other = metrics.mcnemar(labels, predicted_b, predicted_a)
    assert one["p_value"] == other["p_value"]
    assert (one["only_a"], one["only_b"]) == (other["only_b"], other["only_a"])


@pytest.mark.parametrize("each", [0, 1, 3])
def test_mcnemar_finds_no_difference_between_equally_good_models(each):
    result = metrics.mcnemar(*with_discordant(each, each))
    assert result["p_value"] == pytest.approx(1.0)


def test_bootstrap_difference_is_the_difference_of_the_accuracies():
    result = metrics.bootstrap_difference(*with_discordant(30, 10, both=60))
    assert result["difference"] == pytest.approx(0.2)
    assert result["low"] < 0.2 < result["high"]


def test_bootstrap_interval_has_the_width_of_the_normal_one():
    result = metrics.bootstrap_difference(*with_discordant(300, 100, both=600))
    half = 1.96 * np.sqrt((0.4 - 0.2**2) / 1000)
    assert (result["low"], result["high"]) == pytest.approx((0.2 - half, 0.2 + half), abs=0.003)


def test_bootstrap_is_reproducible():
    arrays = with_discordant(30, 10, both=60)
    assert metrics.bootstrap_difference(*arrays) == metrics.bootstrap_difference(*arrays)


def test_bootstrap_of_equal_predictions_has_no_width():
    result = metrics.bootstrap_difference(LABELS, PREDICTED, PREDICTED)
    assert result == {"difference": 0.0, "low": 0.0, "high": 0.0}


def test_examples_are_the_surest_of_each_class_the_closest_calls_and_the_surest_mistakes():
    labels = [0, 0, 1, 1, 0, 1, 0]
    first = [0.9, 0.99, 0.3, 0.95, 0.52, 0.6, 0.1]
    probabilities = np.stack([first, 1 - np.array(first)], axis=1)
    found = metrics.examples(labels, probabilities, 2)
    # Sure mistakes: 3 and 6; close calls: 4 (right) and 5 (wrong); then the surest of each class.
    expected = {"right": [1, 2], "closest calls": [4, 5], "wrong": [3, 6]}
    assert {name: positions.tolist() for name, positions in found.items()} == expected
    among = metrics.examples(labels, probabilities, 1, among=[0, 2, 4, 5])
    assert {name: positions.tolist() for name, positions in among.items()} == {
        "right": [0],
        "closest calls": [4],
        "wrong": [5],
    }


def test_the_first_examples_are_the_same_among_fewer_images():
    labels, probabilities = simulated()
    found = metrics.examples(labels, probabilities, 4)
    among = np.concatenate(list(found.values()))
    again = metrics.examples(labels, probabilities, 4, among=among)
    for name, positions in found.items():
        np.testing.assert_array_equal(again[name], positions)


def test_equally_confident_mistakes_keep_the_order_of_the_images():
    probabilities = np.tile([0.9, 0.1], (4, 1))
    assert metrics.examples([1, 0, 1, 1], probabilities, 3)["wrong"].tolist() == [0, 2, 3]


def test_no_mistakes_give_no_positions():
    assert len(metrics.examples([0], [[0.9, 0.1]], 5)["wrong"]) == 0


def test_disagreement_by_hand():
    labels = [0, 0, 0, 0]
    result = metrics.disagreement({"a": [0, 0, 1, 1], "b": [0, 1, 0, 1], "c": [0, 1, 0, 2]}, labels)
    assert (result["all_right"], result["all_wrong"], result["mixed"]) == (0.25, 0.25, 0.5)
    assert result["only_right"] == {"a": 0.25, "b": 0.0, "c": 0.0}
    assert result["only_wrong"] == {"a": 0.25, "b": 0.0, "c": 0.0}
    assert result["names"] == ["a", "b", "c"]
    np.testing.assert_allclose(
        result["agreement"], [[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]]
    )


def test_disagreement_takes_any_model_name():
    result = metrics.disagreement({"labels": [0, 1], "EfficientNet, 96 px": [0, 0]}, [0, 1])
    assert result["only_right"] == {"labels": 0.5, "EfficientNet, 96 px": 0.0}


def test_disagreement_needs_two_models():
    with pytest.raises(ValueError, match="two models or more; received 1"):
        metrics.disagreement({"a": [0]}, [0])


# Bad input


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1, 2], PROBABILITIES, "labels of length 3, probabilities of length 5"),
        ([0, 1, 2, 3, 0], PROBABILITIES, "below 3, the number of classes; received 0 to 3"),
        ([0, 1, -1, 2, 0], PROBABILITIES, "received -1 to 2"),
        (LABELS.astype(float), PROBABILITIES, r"integers of shape \(n,\).*received float64"),
        (LABELS[:, None], PROBABILITIES, r"received int64 of shape \(5, 1\)"),
        (LABELS, PROBABILITIES * 2, r"lie in \[0, 1\]; received 0.1 to 1.8"),
        (LABELS, PROBABILITIES / 2, "sum to 1; received a row of 0.5"),
        (LABELS, PROBABILITIES[:, 0], r"received shape \(5,\)"),
        (LABELS, np.full((5, 3), np.nan), "received nan to nan"),
        (np.zeros(0, int), np.zeros((0, 3)), r"received shape \(0, 3\)"),
    ],
)
def test_bad_labels_and_probabilities_are_refused(labels, probabilities, message):
    takers = (
        metrics.accuracy,
        metrics.cross_entropy,
        metrics.accuracy_interval,
        metrics.calibration,
        metrics.fit_temperature,
        lambda labels, probabilities: metrics.examples(labels, probabilities, 1),
    )
    for function in takers:
        with pytest.raises(ValueError, match=message):
            function(labels, probabilities)


def test_predicted_classes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="predicted must be at least 0 and below 3.*0 to 3"):
        metrics.confusion_matrix([0, 1], [0, 3], classes=3)
    with pytest.raises(ValueError, match="predicted must be at least 0 and below 2.*0 to 2"):
        metrics.per_class([0, 1], [0, 2], ["cat", "dog"])


def test_predictions_of_other_images_are_refused():
    with pytest.raises(ValueError, match="labels of length 2, predicted of length 1"):
        metrics.per_class([0, 1], [0], NAMES)
    with pytest.raises(ValueError, match="same images"):
        metrics.mcnemar([0, 1], [0, 1], [0])
    with pytest.raises(ValueError, match="same images"):
        metrics.bootstrap_difference([0, 1], [0], [0])


def test_matrix_that_does_not_fit_the_class_names_is_refused():
    with pytest.raises(ValueError, match=r"shapes \(2,2\) \(3,3\)"):
        metrics.confused_pairs(np.eye(2), NAMES)


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a number above 0; received"):
        metrics.temperature_scale(PROBABILITIES, temperature)


def test_seeds_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r"finite numbers of shape \(seeds,\)"):
        metrics.seeds_interval([0.9, np.nan])


# Over seeds


def test_the_prediction_interval_covers_one_more_run_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.8, 0.01, (2_000, 4))
    inside = 0
    for *seeds, new in draws:
        low, high = metrics.prediction_interval(seeds)
        inside += low <= new <= high
    assert inside / len(draws) == pytest.approx(0.95, abs=0.015)


def test_the_prediction_interval_is_wider_than_that_of_the_mean():
    values = [0.70, 0.72, 0.71]
    low, high = metrics.prediction_interval(values)
    mean_low, mean_high = metrics.seeds_interval(values)
    assert (high - low) / (mean_high - mean_low) == pytest.approx(2)  # sqrt(1 + 1/3) / sqrt(1/3)
    with pytest.raises(ValueError, match="two values or more"):
        metrics.prediction_interval([0.7])


def paired_runs(seeds, images, gain, seed=0):
    """Labels, and predictions of two recipes whose accuracies differ by `gain` on average."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(images, int)
    difficulty = rng.random(images)
    runs = []
    for accuracy in (0.7 + gain, 0.7):
        of_seeds = accuracy + rng.normal(0, 0.01, (seeds, 1))
        noise = rng.random((seeds, images))
        runs.append((0.5 * difficulty + 0.5 * noise > of_seeds).astype(int))
    return labels, list(runs[0]), list(runs[1])


def test_the_difference_over_seeds_is_a_paired_t_interval():
    labels, first, second = paired_runs(4, 1_000, 0.05)
    found = metrics.seeds_difference(labels, first, second)
    accuracies = [[np.mean(run == labels) for run in runs] for runs in (first, second)]
    expected = stats.ttest_rel(*accuracies).confidence_interval(0.95)
    assert found["seeds"] == pytest.approx((expected.low, expected.high))
    assert found["difference"] == pytest.approx(np.mean(np.subtract(*accuracies)))
    assert found["differences"] == pytest.approx(np.subtract(*accuracies).tolist())


def test_the_interval_over_images_too_covers_the_true_difference():
    inside = 0
    for number in range(300):
        labels, first, second = paired_runs(3, 400, 0.0, seed=number)
        low, high = metrics.seeds_difference(labels, first, second)["seeds_and_images"]
        inside += low <= 0 <= high
    assert inside / 300 >= 0.94


def test_one_seed_gives_a_difference_and_no_interval():
    labels, first, second = paired_runs(1, 100, 0.1)
    found = metrics.seeds_difference(labels, first, second)
    assert (found["seeds"], found["seeds_and_images"]) == (None, None)
    assert metrics.seeds_difference(labels, first, first)["difference"] == 0


def test_equal_runs_differ_by_nothing():
    labels, first, _ = paired_runs(3, 100, 0.1)
    assert metrics.seeds_difference(labels, first, first)["seeds_and_images"] == (0, 0)


def test_seeds_that_are_not_paired_are_refused():
    labels, first, second = paired_runs(2, 100, 0.1)
    with pytest.raises(ValueError, match="as many seeds, at least one; received 2 and 1"):
        metrics.seeds_difference(labels, first, second[:1])


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.1, 0.3), "supported"),
        ((-0.3, -0.1), "contradicted"),
        ((-0.1, 0.3), "undecided"),
        ((0.0, 0.3), "undecided"),
        (None, "not tested"),
    ],
)
def test_a_verdict_follows_from_the_interval(interval, expected):
    assert metrics.verdict(interval) == expected
