"""What records show: the results table, a notebook's conclusions, and what they do not cover."""

import itertools
import re

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from cifar_helpers import data, models, results
from cifar_helpers.narrative.answers import answer_lines
from cifar_helpers.narrative.html import bullets, to_html
from cifar_helpers.results import Result
from cifar_helpers.text import count, interval, percent

# No more than fit a page of 1,000 pixels.
_COLUMNS = (
    "network (recipe)",
    "test accuracy",
    "95 % interval",
    "epochs, time, precision",
    "test loss",
    "gap",
    "original",
    "original gap",
    "what changes",
)
SLOW_EPOCHS = (
    "of one training run; of several it is the mean, or a range if they differ more than twofold. An "
    "epoch that took over twice as long as the fastest quarter of its phase's, and over ten seconds more, as "
    "on a busy machine, counts as the slowest of that quarter; a time that this makes more than a tenth "
    "shorter, often far below that by the clock, is an estimate, marked ≈"
)
_GAP = (
    "is training minus validation accuracy, in percentage points, of the epoch whose weights were "
    "kept. Training accuracy is averaged over the epoch with any augmentation and dropout on, and "
    "validation accuracy may be that of averaged weights, so a gap can be negative, and gaps compare "
    "only where these are the same."
)


def results_table(found: list[Result]) -> HTML:
    """The results beside the study's own figures, which stand only beside real CIFAR-10.

    Below stands what the columns mean that need it.
    """
    table = results.format_table(found, _COLUMNS)
    # Narrow columns break between quantities, not within one: "≈ 4 min", "2 h 11 min", "78.5 %".
    table = table.replace(r"(?<=\d) (?=[%hm])|(?<=\d h) |(?<=≈) ", "\N{NO-BREAK SPACE}", regex=True)
    styled = table.style.hide(axis="index")
    styled = styled.set_properties(subset=["95 % interval"], **{"min-width": "6.5em"})
    shown = to_html(styled, "results")
    notes = [re.sub(r"\*(.+?)\*", r"<i>\1</i>", line) for line in results.mark_lines(found)]
    return HTML(f"{shown.data}\n<p>{' '.join([*_column_lines(found), *notes])}</p>")


def _column_lines(found: list[Result]) -> list[str]:
    """What the columns of the results table mean, as far as these results need it."""
    sizes = {len(group) for group in results.by_experiment(found).values()}
    images = "the choice of test images (Wilson)"
    seeds = "the choice of the seed, for the mean of several training runs (Student's t)"
    over = {True: images, False: seeds}
    kinds = [over[single] for single in (True, False) if single in {size == 1 for size in sizes}]
    lines = [
        f"<i>Gap</i> {_GAP}",
        f"<i>Time</i> is that {SLOW_EPOCHS}.",
        f"The interval covers {', or '.join(kinds)}.",
        "Differences are taken before rounding.",
    ]
    if found[0].record["dataset"]["real"]:
        lines.append(
            "<i>Original</i>: the figure of the original study, which this project rebuilds, with the epochs of its "
            "training; an original gap is that of the last epoch, and so is the one in brackets "
            "beside it."
        )
    return lines


def classification_report(result: Result) -> HTML:
    """Precision, recall and F1 of each class, in percent of the test images."""
    shares = ["precision", "recall", "f1"]
    table = pd.DataFrame(result.record["per_class"])[["class", *shares, "support"]]
    styled = table.style.hide(axis="index").format({name: percent for name in shares})
    # Pale enough for dark text all over: white text on a middle blue is hard to read.
    pale = {"cmap": "Blues", "vmin": 0.5, "vmax": 1.4, "text_color_threshold": 0}
    shaded = styled.background_gradient(subset=shares, **pale)
    return to_html(shaded, "classes")


# A notebook's conclusions


def describe_findings(
    found: list[Result], *, out: str = "", splits: data.Splits | None = None
) -> Markdown:
    """The conclusions of a notebook: the answer to its question, then what else the records show.

    Args:
        found: the results of one model's recipes, in the order of the table.
        out: as of `answers.answer_lines`.
        splits: as of `answers.answer_lines`.
    """
    group = results.best_experiment(found)
    best = group[0]
    the = "The" if len(group) == 1 else f"With seed {best.record['seed']}, the"
    return bullets(
        [
            _best_line(group, alone=len(group) == len(found)),
            *answer_lines(found, out, splits),
            _same_line(found),
            f"{the} {_class_line(best)}",
            f"{the} {_calibration_line(best)}",
            short_line(found),
        ]
    )


def _best_line(group: list[Result], *, alone: bool) -> str:
    row = results.results_table(group).iloc[0]
    name = f"**{row['recipe']}**"
    if not alone:
        name = (
            f"Of the recipes on this page the one that did best on the validation images, {name},"
        )
    mean = f"on average over {len(group)} seeds " if len(group) > 1 else ""
    return (
        f"{name} classifies {mean}**{percent(row['accuracy'])}** of the test images correctly "
        f"(95 % interval over {row['interval']} {interval(row['low'], row['high'])})."
    )


def _same_line(found: list[Result]) -> str:
    """Names recipes whose trainings came out the same, prediction by prediction."""
    same = [
        f"**{one.record['recipe']}** and **{other.record['recipe']}**"
        for one, other in itertools.combinations(found, 2)
        if one.record["seed"] == other.record["seed"]
        and np.array_equal(one.probabilities, other.probabilities)
    ]
    if not same:
        return ""
    return (
        f"{'; '.join(same)} gave the same network: in so few epochs, the settings in which the "
        "recipes differ never took effect."
    )


def _class_line(best: Result) -> str:
    classes = sorted(best.record["per_class"], key=lambda row: row["recall"])
    line = (
        f"hardest class is **{classes[0]['class']}** (recall {percent(classes[0]['recall'])}), the "
        f"easiest **{classes[-1]['class']}** ({percent(classes[-1]['recall'])})."
    )
    for pair in best.record["confused_pairs"][:1]:
        line += (
            f" The most common mistake is {pair['true']} taken for {pair['predicted']}, "
            f"{pair['count']} times."
        )
    return line


def _calibration_line(best: Result) -> str:
    confidence = float(best.probabilities.max(axis=1).mean())
    error = percent(best.record["calibration"]["ece"])
    excess = 100 * (confidence - best.record["test"]["accuracy"])
    side = "overconfident" if excess > 0 else "underconfident"
    verdict = f"{side} by {abs(excess):.1f} points" if abs(excess) >= 0.1 else "as it should be"
    scaling = best.record["temperature_scaling"]
    return (
        f"mean confidence is {percent(confidence)}: {verdict} (expected calibration error {error}). "
        f"With a temperature of {scaling['temperature']:.2f}, fitted on the validation images, the "
        f"error is {percent(scaling['calibration']['ece'])}."
    )


# What the records do not cover


def shortened(found: list[Result]) -> list[Result]:
    """The trainings whose epochs were capped below their recipe's."""
    return [
        result
        for result in found
        if result.recipe and result.record["epochs"]["requested"] < result.recipe.epochs
    ]


def short_line(found: list[Result]) -> str:
    """Names the rows of shortened trainings; "" for none."""
    short = shortened(found)
    if not short:
        return ""
    names: dict[str, list[str]] = {}
    for group in results.by_experiment(short).values():
        record = group[0].record
        names.setdefault(models.model_label(record["model"]), []).append(record["recipe"])
    rows = ", ".join(f"{model} ({', '.join(cut)})" for model, cut in names.items())
    which = "" if len(short) == len(found) else f" of {rows}"
    return (
        f"**Shortened training runs{which}, not the full study:** their epochs were capped (run / asked "
        "for), so the figures are provisional."
    )


def describe_limits(found: list[Result]) -> Markdown:
    """What the records at hand cannot show."""
    dataset = found[0].record["dataset"]
    entry = data.dataset_by_label(dataset["name"])
    lines = [_seed_line(found), entry.limits if entry else ""]
    if dataset["real"] and not dataset["verified"]:
        lines.append(
            "The copy of CIFAR-10 does not match the official checksum; whether pixels or labels differ "
            "from the official ones is not known."
        )
    if len({result.record["precision"] for result in found}) > 1:
        lines.append(_precision_line(found))
    sizes = sorted(_train_images(found))
    if len(sizes) > 1:
        lines.append(
            f"Rows were trained on different numbers of images ({', '.join(map(count, sizes))}): "
            "part of a difference between them is data, not model."
        )
    if any(result.record["backbone"] for result in found):
        lines.append(
            "Transfer learning starts from a network that was trained on over a million labelled "
            "photographs, many of them of these classes; that training is in none of the costs."
        )
    if dataset["real"]:
        lines.append(
            "About 3 % of CIFAR-10's test images have a near-duplicate among the training images "
            "([Barz and Denzler 2020](https://arxiv.org/abs/1902.00423)): all accuracies may be slightly too high."
        )
    return bullets([*lines, *results.mark_lines(found), short_line(found)])


def _precision_line(found: list[Result]) -> str:
    """Which rows were computed in 16-bit numbers, where the others were not."""
    low = results.by_experiment(
        [result for result in found if result.record["precision"] != "float32"]
    ).values()
    rows = "; ".join(results.row_label(group[0]) for group in low)
    return (
        f"Trained in bfloat16, 16-bit floating-point numbers: {rows}. All others were trained in "
        "float32, in 32 bits; how much of a difference that makes is not measured."
    )


def _train_images(found: list[Result]) -> set[int]:
    return {result.record["dataset"]["train_images"] for result in found}


def _seed_line(found: list[Result]) -> str:
    seeds = {len(group) for group in results.by_experiment(found).values()}
    if seeds == {1}:
        return (
            "Each row is **one training run**: the intervals cover the choice of test images, not the "
            "choice of seed. Differences of about a point between rows may vanish with another seed."
        )
    if 1 in seeds:
        return (
            "Some rows rest on one training run: their intervals do not cover the choice of seed. Those of "
            "the others do not cover the choice of test images."
        )
    return ""


def describe_results(found: list[Result]) -> str:
    """What a table of results is about: images, backbone, hardware, and how long a training was."""
    records = [result.record for result in found]
    dataset = records[0]["dataset"]
    entry = data.dataset_by_label(dataset["name"])
    images = entry.subject if entry else dataset["name"]
    if dataset["real"] and not dataset["verified"]:
        images += (
            " (a complete copy whose files are not byte for byte the official ones; see Limits)"
        )
    lines = [
        f"Test accuracy on {images}. Training ran on {'; '.join(results.machines(found))}.",
        short_line(found),
        *_transfer_lines(found),
        *results.mark_lines(found),
        "An interval covers the choice of test images (Wilson) where a row was trained once, and the choice of "
        "seeds, for their mean (Student's t), where it was trained several times: the two kinds are not "
        "comparable.",
        f"*Gap* {_GAP}",
        "*Epochs* are those run/asked for.",
        f"*Time* is that {SLOW_EPOCHS}. Processors that differ severalfold in speed can bear one name, and "
        "some training runs shared their machine with another one, so times compare only roughly.",
        "Differences are taken before rounding.",
    ]
    if dataset["real"]:
        lines.append("*Original* is the figure of the original study (see Limits).")
    return bullets(list(filter(None, lines))).data


def _transfer_lines(found: list[Result]) -> list[str]:
    lines: list[str] = []
    transfer = [result for result in found if result.record["backbone"]]
    if not transfer:
        return lines
    if min(_train_images(transfer)) < max(_train_images(found)) / 2:
        lines.append("Transfer learning trained on fewer images than the others.")
    table = results.results_table(transfer)
    others = table.loc[table["reference_backbone"] != "", ["backbone", "reference_backbone"]]
    for pair in sorted({tuple(map(models.backbone_label, pair)) for pair in others.to_numpy()}):
        lines.append(f"Transfer rows here use {pair[0]}; the original ones {pair[1]}.")
    return [*lines, "Training times of transfer rows leave out what an earlier row left cached."]
