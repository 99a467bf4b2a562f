"""All rows on the same test images: doubtful labels, near-duplicates, the mean of all models.

Where images are not at hand, `splits` None, or records lack what is asked for, one sentence stands
for the figure or table.
"""

import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from cifar_helpers import metrics, plotting, results
from cifar_helpers.data import Splits
from cifar_helpers.narrative.answers import difference
from cifar_helpers.narrative.closer import NO_PICTURES, subject, title, train_anew
from cifar_helpers.narrative.findings import shortened
from cifar_helpers.narrative.html import to_html
from cifar_helpers.results import Result
from cifar_helpers.text import count, interval, loss, multiply_adds, p_value, percent, points

_UNTRACED = "2026-11-26"  # since then a prediction time leaves out what TensorFlow takes to trace

# Labels that good models agree to doubt


def plot_doubtful_labels(found: list[Result], splits: Splits | None) -> Figure | Markdown:
    """Test images that all good rows give the same class, another than the label."""
    good = results.good_rows(found)
    if not found[0].record["dataset"]["real"] or len(good) < 2:
        return Markdown("")
    if splits is None:
        return NO_PICTURES
    positions = results.doubtful_labels(good)[:12]
    mean, test = results.mean_probabilities(good), splits.test
    pictures = [
        (test.images[at], title(splits.class_names, test.labels[at], mean[at])) for at in positions
    ]
    return plotting.gallery(
        {"": pictures},
        title="Label → the class that all good rows give, with their mean probability",
    )


def describe_doubtful_labels(found: list[Result]) -> Markdown:
    """How many labels all good rows doubt, which rows these are, and what it does not show."""
    good = results.good_rows(found)
    if not found[0].record["dataset"]["real"]:
        about = subject(found)
        return Markdown(f"*Doubtful labels are looked for in CIFAR-10 alone; this is {about}.*")
    rule = f"validation accuracy above {100 * results.GOOD:.0f} %"
    networks = {result.record["model"] for result in good}
    of = f"{len(networks)} networks" if len(networks) > 1 else "one network"
    if len(good) < 2:
        return Markdown(
            f"*It takes two rows with a {rule} to doubt a label; here are {len(good)}.*"
        )
    doubted, images = len(results.doubtful_labels(good)), len(good[0].labels)
    named = "; ".join(results.row_label(result) for result in good)
    return Markdown(
        f"On {count(doubted)} of the {count(images)} test images ({percent(doubted / images)}) all "
        f"{len(good)} rows with a {rule}, of {of}, one seed of each, agree on a class "
        f"that is not the label ({named}). Some of these labels are wrong or arguable, others are mistakes that the networks "
        "share: only people can tell, so no label is changed here. People who checked such candidates "
        "found about 0.5 % of CIFAR-10's test labels wrong "
        "([Northcutt et al. 2021](https://arxiv.org/abs/2103.14749)); a like share here does not make "
        "them the same images."
    )


# Near-duplicates


def plot_near_duplicates(
    duplicates: pd.DataFrame | None, splits: Splits | None
) -> Figure | Markdown:
    """Test images beside the training images that are nearly the same: the most and least alike.

    Args:
        duplicates: as of `results.near_duplicates`.
        splits: the images.
    """
    if duplicates is None or splits is None or duplicates.empty:
        return Markdown("")
    pictures = []
    for row in duplicates.itertuples():
        pair = plotting.beside(splits.test.images[row.test], splits.pool.images[row.train])
        names = [splits.test.labels[row.test], splits.pool.labels[row.train]]
        words = " | ".join(splits.class_names[label] for label in names)
        pictures.append((pair, f"{words}\n{row.correlation:.3f}"))
    # The least alike show whether the rule is too generous.
    return plotting.gallery(
        {"most alike": pictures[:4], "least alike": pictures[4:][-4:]},
        title="Test image | training image, with their labels and the correlation of their pixels",
        columns=4,
    )


def near_duplicates_table(duplicates: pd.DataFrame | None, found: list[Result]) -> HTML | Markdown:
    """Test accuracy of every row with and without the near-duplicates of training images."""
    if duplicates is None or duplicates.empty:
        return Markdown("")
    rows = results.accuracy_without(found, duplicates["test"].to_numpy())
    change = 100 * (rows["without"] - rows["accuracy"])
    table = pd.DataFrame(
        {
            "row": rows["label"],
            "seeds": rows["seeds"],
            "all test images": rows["accuracy"].map(percent),
            "without near-duplicates": rows["without"].map(percent),
            "change in points": change.map(points),
            "near-duplicates alone": rows["left_out"].map(percent),
        }
    )
    return to_html(table, "duplicates")


def describe_near_duplicates(duplicates: pd.DataFrame | None, found: list[Result]) -> Markdown:
    """How many test images nearly repeat a training image, and what that is worth to the rows."""
    if duplicates is None:
        return Markdown(f"*{_no_duplicates(found)}*")
    images = len(found[0].labels)
    words = (
        f"{count(len(duplicates))} of the {count(images)} test images "
        f"({percent(len(duplicates) / images)}) have a near-duplicate among the training images of "
        "the transfer network: of the three that its features put nearest, one whose pixels correlate "
        f"by {results.ALIKE:g} or more."
    )
    if len(duplicates):
        rows = results.accuracy_without(found, duplicates["test"].to_numpy())
        change = 100 * (rows["without"] - rows["accuracy"])
        words += (
            f" Without them the accuracies of the {len(rows)} rows change by {points(change.min())} to "
            f"{points(change.max())} points."
        )
    return Markdown(
        f"{words} People who judged such pairs one by one found 3.3 % "
        "([Barz and Denzler 2020](https://arxiv.org/abs/1902.00423)): the rule misses pictures that "
        "were shifted or cut in another way."
    )


def _no_duplicates(found: list[Result]) -> str:
    """Why there is nothing to say of near-duplicates."""
    if not found[0].record["dataset"]["real"]:
        return f"Near-duplicates are looked for in CIFAR-10 alone; this is {subject(found)}."
    if any("nearest" in result.arrays for result in found):
        return "Near-duplicates are not looked for: the images are not at hand."
    transfer = [result for result in found if result.record["backbone"]]
    if not transfer:
        return "Near-duplicates are not looked for: there is no record of the transfer network."
    if not (whole := [each for each in transfer if not shortened([each])]):
        return (
            "Near-duplicates are not looked for: shortened training runs do not keep what it takes."
        )
    command = train_anew(results.best_by_validation(whole))
    return (
        "Near-duplicates are not looked for: no record of the transfer network holds the nearest "
        f"training images yet. {command} trains it anew and keeps them beside its record."
    )


# All models together


def ensemble_table(chosen: list[Result]) -> HTML | Markdown:
    """The mean of all models' calibrated probabilities beside those of each: accuracy, calibration, work."""
    if len(chosen) < 2:
        return Markdown("*It takes records of two models to average them.*")
    mean = results.ensemble(chosen)
    members = [(results.row_label(each), results.calibrated(each), each.record) for each in chosen]
    rows = [
        _member_row(label, chosen[0].labels, probabilities, record["multiply_adds"])
        for label, probabilities, record in members
    ]
    work = sum(result.record["multiply_adds"] for result in chosen)
    rows.append(_member_row("mean of all", chosen[0].labels, mean, work))
    return to_html(pd.DataFrame(rows), "ensemble")


def _member_row(label: str, labels, probabilities, work: int) -> dict[str, str]:
    return {
        "model": label,
        "test accuracy": percent(metrics.accuracy(labels, probabilities)),
        "95 % interval": interval(*metrics.accuracy_interval(labels, probabilities)),
        "test loss": loss(metrics.cross_entropy(labels, probabilities)),
        "error (ECE)": percent(metrics.calibration(labels, probabilities)["ece"]),
        "multiply-adds per image": multiply_adds(work),
    }


def describe_ensemble(chosen: list[Result]) -> Markdown:
    """Whether all models together are better than the one that is best on validation."""
    if len(chosen) < 2:
        return Markdown("")
    mean = results.ensemble(chosen)
    best = results.best_by_validation(chosen)
    together = Result(best.record, {"probabilities": mean, "labels": best.labels})
    found = difference(together, best)
    gain = metrics.accuracy(best.labels, mean) - best.record["test"]["accuracy"]
    verdict = "better than" if gain > 0 else "worse than"
    if found["p_value"] >= 0.05:
        verdict = "not clearly different from"
    return Markdown(
        f"All {len(chosen)} models together, by the mean of their calibrated probabilities, classify "
        f"{percent(metrics.accuracy(best.labels, mean))} of the test images correctly, which is "
        f"{verdict} **{results.row_label(best)}** on its own: {found['gain']} points (95 % interval "
        f"over test images {found['interval']}; McNemar {p_value(found['p_value'])}). All models count alike, also the "
        "weakest: neither members nor weights were chosen on the test images. Where models disagree, their "
        "mean is less sure than either of them, so a mean of calibrated probabilities can be underconfident."
    )


# Prediction time


def prediction_times_table(found: list[Result]) -> HTML:
    """How long each row takes to predict an image, and on which hardware."""
    rows = []
    for group in results.by_experiment(found).values():
        times = [1e3 * result.record["prediction_seconds_per_image"] for result in group]
        spread = f"{min(times):.2f} to {max(times):.2f}" if len(times) > 1 else f"{times[0]:.2f}"
        first = min(result.record["created"] for result in group)
        rows.append(
            {
                "row": results.row_label(group[0]),
                "seeds": len(times),
                "ms per image": spread,
                "tracing included": "yes" if first < _UNTRACED else "no",
                "on": "; ".join(results.machines(group)),
            }
        )
    return to_html(pd.DataFrame(rows), "times")
