"""What a set of predictions is worth: NumPy arrays in, plain numbers out.

Throughout, `labels` (the true classes) and `predicted` are integers of shape `(n,)` in
[0, classes), `probabilities` floats of shape `(n, classes)` in [0, 1] whose rows sum to 1, and
`class_names` holds one name per class. Any float type will do (stored results are float16); the
arithmetic is float64. Accuracies and shares are fractions in [0, 1]; intervals are of 95 %. Arrays
that break these rules raise ValueError.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats
from sklearn import metrics as sklearn_metrics

# Keras clips here before the logarithm; it bounds the loss of one image at 16.1.
_SMALLEST_PROBABILITY = 1e-7
# float16 rounding moves a row's sum by less than 1e-3; logits miss 1 by far more than this.
_ROW_SUM_TOLERANCE = 1e-2
_TEMPERATURES = (0.05, 20.0)
_CONFIDENCE = 0.95
_RESAMPLES = 2000


def predictions(probabilities: ArrayLike) -> np.ndarray:
    """The most probable class of each image, int64 `(n,)`; of equal ones that of lowest number."""
    return _checked_probabilities(probabilities).argmax(axis=1)


def accuracy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Share of images whose most probable class is the true one."""
    labels, probabilities = _checked(labels, probabilities)
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def cross_entropy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log-likelihood of the true classes, in nats, [0, 16.12].

    Probabilities are clipped to [1e-7, 1 - 1e-7] first, as Keras' categorical cross-entropy does.
    """
    labels, probabilities = _checked(labels, probabilities)
    true = probabilities[np.arange(len(labels)), labels]
    clipped = np.clip(true, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return float(-np.log(clipped).mean())


def accuracy_interval(labels: ArrayLike, probabilities: ArrayLike) -> tuple[float, float]:
    """Limits of the accuracy: how far a test set of this size pins it down (Wilson score interval).

    It covers the draw of the test images, not the draw of the training run; for that see
    `seeds_interval`.

    Reference: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    Journal of the American Statistical Association 22 (158), 1927.
    """
    labels, probabilities = _checked(labels, probabilities)
    return share_interval(int(np.sum(probabilities.argmax(axis=1) == labels)), len(labels))


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, `count` of `of`; reference as of `accuracy_interval`."""
    interval = stats.binomtest(count, of).proportion_ci(_CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def seeds_interval(values: ArrayLike) -> tuple[float, float] | None:
    """Student's t interval of the mean over training runs that differ in their seed only.

    Reference: Student, "The Probable Error of a Mean", Biometrika 6 (1), 1908.

    Returns:
        The limits in the unit of `values`, one number a seed, `(seeds,)`; None for fewer than two,
        which say nothing about their spread.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"values must be finite numbers of shape (seeds,); received {values!r}.")
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def prediction_interval(values: ArrayLike) -> tuple[float, float]:
    """Where the result of one more training run is expected, by those that differ in their seed only.

    It is wider than `seeds_interval`: it covers the draw of the new run too.

    Reference: Hahn and Meeker, "Statistical Intervals", 1991, section 4.7.

    Args:
        values: one number a seed, `(seeds,)`, at least two.

    Returns:
        The limits in the unit of `values`.
    """
    values = np.asarray(values, dtype=np.float64)
    mean_interval = seeds_interval(values)
    if mean_interval is None:
        raise ValueError("prediction_interval needs two values or more; received one.")
    half = np.sqrt(len(values) + 1) * (mean_interval[1] - mean_interval[0]) / 2
    return float(values.mean() - half), float(values.mean() + half)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> np.ndarray:
    """How many images of each class were taken for each.

    Returns:
        int64 `(classes, classes)`; rows are true classes, columns predicted ones.
    """
    pair = ("labels", labels), ("predicted", predicted)
    labels, predicted = _checked_classes(*pair, classes=classes)
    matrix = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(classes))
    return matrix.astype(np.int64)


def per_class(labels: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> list[dict]:
    """Precision, recall and F1 of each class.

    Returns:
        One dict a class: `class` (name), `precision`, `recall`, `f1`, `accuracy` (fractions),
        `support` (images of the class). The accuracy of a class is the share of its images that
        were recognised: its recall. Precision is 0 for a class that was never predicted, recall
        for a class without images.
    """
    classes = len(class_names)
    pair = ("labels", labels), ("predicted", predicted)
    labels, predicted = _checked_classes(*pair, classes=classes)
    scores = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=0
    )
    return [
        {
            "class": str(name),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "accuracy": float(recall),
            "support": int(support),
        }
        for name, precision, recall, f1, support in zip(class_names, *scores, strict=True)
    ]


def confused_pairs(matrix: ArrayLike, class_names: Sequence[str], top: int = 10) -> list[dict]:
    """The `top` most frequent mistakes in a `confusion_matrix`, both directions counted apart.

    Returns:
        Dicts `true`, `predicted` (names), `count` (images), most frequent first; ties in the order
        of the classes. Pairs that never occurred are left out.
    """
    mistakes = np.asarray(matrix) * (1 - np.eye(len(class_names), dtype=int))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:top]
    return [
        {
            "true": str(class_names[true]),
            "predicted": str(class_names[predicted]),
            "count": int(mistakes[true, predicted]),
        }
        for true, predicted in zip(*np.unravel_index(order, mistakes.shape), strict=True)
        if mistakes[true, predicted] > 0
    ]


def calibration(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> dict:
    """How well confidence matches accuracy: reliability diagram and expected calibration error.

    Images are sorted by confidence, the probability of the predicted class, into `bins` of equal
    width over [0, 1], each open below and closed above. The error (ECE) is the mean distance
    between a bin's accuracy and its confidence, weighted by the images in it.

    Reference: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks",
    arXiv:1706.04599, ICML 2017.

    Returns:
        `ece`, a fraction, and `bins`, from low to high without the empty ones: dicts `low`, `high`
        (the bin's limits), `confidence` (mean), `accuracy` (fractions) and `count` (images).
    """
    labels, probabilities = _checked(labels, probabilities)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    # side="left" puts a confidence that lies on an edge into the bin below it.
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    filled = [
        {
            "low": float(edges[bin_]),
            "high": float(edges[bin_ + 1]),
            "confidence": float(confidence[number == bin_].mean()),
            "accuracy": float(correct[number == bin_].mean()),
            "count": int(np.sum(number == bin_)),
        }
        for bin_ in np.unique(number)
    ]
    ece = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in filled) / len(labels)
    return {"ece": float(ece), "bins": filled}


def temperature_scale(probabilities: ArrayLike, temperature: float) -> np.ndarray:
    """Probabilities with their logits divided by a temperature.

    Above 1 the model becomes less confident, below 1 more; the predicted class stays the same. The
    logits are the logarithms of the probabilities, clipped at 1e-7. The result is float64.

    Reference: Guo et al. 2017, section 4.2, arXiv:1706.04599.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a number above 0; received {temperature}.")
    return special.softmax(
        log_probabilities(_checked_probabilities(probabilities)) / temperature, axis=1
    )


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """The temperature that makes the true classes most likely.

    Fit it on the validation set and apply it to the test set with `temperature_scale`.

    Reference: Guo et al. 2017, section 4.2, arXiv:1706.04599.

    Returns:
        A number in [0.05, 20], accurate to about 1e-4; the lower end if every prediction is right,
        since no confidence is then too much.
    """
    labels, probabilities = _checked(labels, probabilities)
    logits = log_probabilities(probabilities)
    rows = np.arange(len(labels))

    # Convex in the inverse temperature, so that a bounded scalar search finds the minimum.
    def loss(inverse: float) -> float:
        return float(-special.log_softmax(logits * inverse, axis=1)[rows, labels].mean())

    low, high = _TEMPERATURES
    found = optimize.minimize_scalar(
        loss, bounds=(1 / high, 1 / low), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.clip(1 / found.x, low, high))


def mcnemar(labels: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike) -> dict:
    """McNemar's test: do two models differ in accuracy on the same images?

    Only images that one model gets right and the other wrong count. Under the null hypothesis they
    fall to either side like a fair coin. The p-value is the two-sided mid-p value of that binomial,
    which holds its level for few images and many.

    References: McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12, 1947; Fagerland, Lydersen and Laake, "The McNemar
    test for binary matched-pairs data", BMC Medical Research Methodology 13:91, 2013 (mid-p).

    Returns:
        `only_a`, `only_b` (images that only this model gets right) and `p_value` (1 if the models
        never differ).
    """
    right_a, right_b = _right(labels, {"predicted_a": predicted_a, "predicted_b": predicted_b})
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    coin, fewer = stats.binom(only_a + only_b, 0.5), min(only_a, only_b)
    p_value = min(1.0, 2 * coin.cdf(fewer) - coin.pmf(fewer))
    return {"only_a": only_a, "only_b": only_b, "p_value": float(p_value)}


def bootstrap_difference(labels: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike) -> dict:
    """Accuracy of the first model minus that of the second, with a paired bootstrap interval.

    Images are drawn with replacement, 2000 times from one seed, and both models are scored on the
    same draw. An image adds +1, 0 or -1 to the difference, so a draw of images is one draw from a
    multinomial.

    Reference: Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7
    (1), 1979 (percentile interval).

    Returns:
        `difference`, `low`, `high`: fractions in [-1, 1].
    """
    right_a, right_b = _right(labels, {"predicted_a": predicted_a, "predicted_b": predicted_b})
    images = len(right_a)
    shares = [np.mean(right_a & ~right_b), np.mean(right_a == right_b), np.mean(right_b & ~right_a)]
    draws = np.random.default_rng(0).multinomial(images, shares, size=_RESAMPLES)
    differences = (draws[:, 0] - draws[:, 2]) / images
    low, high = np.quantile(differences, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return {"difference": float(shares[0] - shares[2]), "low": float(low), "high": float(high)}


def seeds_difference(
    labels: ArrayLike, predicted_a: Sequence[ArrayLike], predicted_b: Sequence[ArrayLike]
) -> dict:
    """Accuracy of a first recipe minus that of a second, over seeds that both were trained with.

    Each seed gives one difference; `seeds_interval` of these covers the draw of the seeds. A second
    interval covers the draw of the test images too: to the variance of the seeds' mean it adds that
    of the images' mean, whose differences are averaged over the seeds first, with degrees of freedom
    by Satterthwaite; it is never narrower than the first.

    Reference: Satterthwaite, "An Approximate Distribution of Estimates of Variance Components",
    Biometrics Bulletin 2 (6), 1946.

    Args:
        labels: of the images, the same for all.
        predicted_a: predictions of the first recipe, one array a seed.
        predicted_b: of the second, with the same seeds in the same order.

    Returns:
        `differences` (one a seed), `difference` (their mean), `seeds` (the first interval, None for
        one seed) and `seeds_and_images` (the second, None for one seed): fractions in [-1, 1].
    """
    if len(predicted_a) != len(predicted_b) or not len(predicted_a):
        raise ValueError(
            "predicted_a and predicted_b must hold as many seeds, at least one; received "
            f"{len(predicted_a)} and {len(predicted_b)}."
        )
    names = [f"{which}[{seed}]" for which in "ab" for seed in range(len(predicted_a))]
    right = np.array(_right(labels, dict(zip(names, [*predicted_a, *predicted_b], strict=True))))
    first, second = np.split(right.astype(np.int64), 2)
    differences = (first - second).mean(axis=1)
    difference, interval = float(differences.mean()), seeds_interval(differences)
    both = None
    if interval:
        of_images = (first - second).mean(axis=0)
        half = max((interval[1] - interval[0]) / 2, _half_width(differences, of_images))
        both = (difference - half, difference + half)
    return {
        "differences": differences.tolist(),
        "difference": difference,
        "seeds": interval,
        "seeds_and_images": both,
    }


def _half_width(*samples: np.ndarray) -> float:
    """Of the interval of a sum of independent means, one a sample, that vary each for itself."""
    variances = np.array([stats.sem(sample) ** 2 for sample in samples])
    if not variances.any():
        return 0.0
    freedom = variances.sum() ** 2 / np.sum(variances**2 / [len(each) - 1 for each in samples])
    return float(stats.t.ppf((1 + _CONFIDENCE) / 2, freedom) * np.sqrt(variances.sum()))


def verdict(interval: tuple[float, float] | None) -> str:
    """What an interval of a difference says of the claim that the difference is above zero.

    Args:
        interval: its limits; None where it was not measured.

    Returns:
        "supported" where the whole interval lies above zero, "contradicted" where it lies below,
        else "undecided"; "not tested" without an interval.
    """
    if interval is None:
        return "not tested"
    low, high = interval
    return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"


def examples(
    labels: ArrayLike,
    probabilities: ArrayLike,
    count: int,
    *,
    among: Sequence[int] | np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Images to look at, by how a model did on them; none is in two groups.

    Args:
        count: how many of each group, at the most.
        among: positions in `labels` to choose from; None for all.

    Returns:
        Positions in `labels`, int64 `(m,)`, ties in the order of the images: `wrong`, the wrong
        predictions that the model was surest of; `closest calls`, of the rest those whose two most
        probable classes are closest, right or wrong; `right`, of the rest the right predictions it
        was surest of, one of each predicted class.
    """
    labels, probabilities = _checked(labels, probabilities)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    positions = np.arange(len(labels))
    free = np.isin(positions, positions if among is None else among)

    def take(wanted: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Positions of those wanted that are free, the smallest rank first."""
        found = np.flatnonzero(wanted & free)
        return found[np.argsort(rank[found], kind="stable")]

    wrong = take(predicted != labels, -confidence)[:count]
    free[wrong] = False
    tied = take(free, first - second)[:count]
    free[tied] = False
    right = take(predicted == labels, -confidence)
    first_of_class = np.sort(np.unique(predicted[right], return_index=True)[1])
    return {"right": right[first_of_class][:count], "closest calls": tied, "wrong": wrong}


def disagreement(predictions: dict[str, np.ndarray], labels: ArrayLike) -> dict:
    """Where two models or more, by name, agree; on which images only one is right or wrong.

    Returns:
        `all_right`, `all_wrong`, `mixed`: shares of the images, which sum to 1.
        `only_right`, `only_wrong`: by model, the share of the images that it alone gets right or
        wrong.
        `names`: the models, in order.
        `agreement`: float64 `(models, models)`, share of the images for which two models predict
        the same class, right or wrong.
    """
    if len(predictions) < 2:
        raise ValueError(f"predictions must hold two models or more; received {len(predictions)}.")
    right, classes = np.array(_right(labels, predictions)), np.array(list(predictions.values()))
    models_right = right.sum(axis=0)
    only_right = (right & (models_right == 1)).mean(axis=1)
    only_wrong = (~right & (models_right == len(right) - 1)).mean(axis=1)
    return {
        "all_right": float(np.mean(models_right == len(right))),
        "all_wrong": float(np.mean(models_right == 0)),
        "mixed": float(np.mean((models_right > 0) & (models_right < len(right)))),
        "only_right": dict(zip(predictions, only_right.tolist(), strict=True)),
        "only_wrong": dict(zip(predictions, only_wrong.tolist(), strict=True)),
        "names": list(predictions),
        "agreement": (classes[:, None] == classes[None]).mean(axis=2),
    }


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, finite for 0 too: the logits up to a constant for each image."""
    return np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))


def _right(labels: ArrayLike, predictions: dict) -> list[np.ndarray]:
    """For each model, bool `(n,)`: which predictions are right."""
    labels, *classes = _checked_classes(("labels", labels), *predictions.items())
    return [predicted == labels for predicted in classes]


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    probabilities = _checked_probabilities(probabilities)
    (labels,) = _checked_classes(("labels", labels), classes=probabilities.shape[1])
    _check_lengths(("labels", labels), ("probabilities", probabilities))
    return labels, probabilities


def _checked_probabilities(probabilities: ArrayLike) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(
            "probabilities must be of shape (n, classes) with n >= 1; received shape "
            f"{probabilities.shape}."
        )
    # Written so that NaN fails too.
    if not (probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-6):
        raise ValueError(
            f"probabilities must lie in [0, 1]; received {probabilities.min():.3g} to "
            f"{probabilities.max():.3g}. Apply a softmax to logits first."
        )
    sums = probabilities.sum(axis=1)
    worst = sums[np.abs(sums - 1).argmax()]
    if abs(worst - 1) > _ROW_SUM_TOLERANCE:
        raise ValueError(f"each row of probabilities must sum to 1; received a row of {worst:.3g}.")
    return probabilities


def _checked_classes(
    *arrays: tuple[str, ArrayLike], classes: int | None = None
) -> list[np.ndarray]:
    """Class numbers as int64 `(n,)`, all of one length; `classes` None leaves them unbounded."""
    for name, values in arrays:
        values = np.asarray(values)
        if values.ndim != 1 or len(values) == 0 or values.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be integers of shape (n,) with n >= 1; received {values.dtype} of "
                f"shape {values.shape}."
            )
        if values.min() < 0 or (classes is not None and values.max() >= classes):
            upper = "" if classes is None else f" and below {classes}, the number of classes"
            raise ValueError(
                f"{name} must be at least 0{upper}; received {values.min()} to {values.max()}."
            )
    _check_lengths(*arrays)
    return [np.asarray(values, np.int64) for _, values in arrays]


def _check_lengths(*arrays: tuple[str, ArrayLike]) -> None:
    if len({len(values) for _, values in arrays}) > 1:
        received = ", ".join(f"{name} of length {len(values)}" for name, values in arrays)
        raise ValueError(f"all arrays must be of the same images; received {received}.")
