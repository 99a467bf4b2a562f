"""A closer look: confidence, right and wrong predictions as pictures, what a network looks at.

Where images are not at hand, `splits` None, or records lack what is asked for, one sentence stands
for the figure or table.
"""

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from cifar_helpers import data, metrics, models, plotting, recipes, results
from cifar_helpers.data import Splits
from cifar_helpers.narrative.findings import shortened
from cifar_helpers.narrative.html import bullets, to_html
from cifar_helpers.results import Result
from cifar_helpers.text import DASH, percent, points_interval

_OR = 0.1  # probability from which a second class is named
NO_PICTURES = Markdown("*Not shown: the images are not at hand.*")


# Confidence


def calibration_table(found: list[Result]) -> HTML:
    """Confidence and calibration error on the test images, before and after temperature scaling."""
    rows = results.calibration_rows(found)
    table = pd.DataFrame(
        {
            "row": rows["label"],
            "label smoothing": [_or_dash(f"{share:g}", share) for share in rows["smoothing"]],
            "seeds": rows["seeds"],
            "accuracy": rows["accuracy"].map(percent),
            "mean confidence": rows["confidence"].map(percent),
            "error (ECE)": rows["ece"].map(percent),
            "temperature": rows["temperature"].map("{:.2f}".format),
            "error after scaling": rows["scaled_ece"].map(percent),
        }
    )
    return to_html(table, "confidence")


def _or_dash(words: str, value: float) -> str:
    return DASH if np.isnan(value) else words


def describe_calibration(found: list[Result], out: str) -> Markdown:
    """What scaling makes of the calibration error, and what label smoothing does to confidence.

    Args:
        found: results of one data set.
        out: the run's folder, whose ablations count beside the published ones; "" for none.
    """
    rows = results.calibration_rows(found)
    about = found[0].record["dataset"]
    lines = [_scaling_line(rows)]
    if sides := [
        f"{int((part['confidence'] < part['accuracy']).sum())} of {len(part)} {words}"
        for words, part in (
            ("with label smoothing", rows[rows["smoothing"] > 0]),
            ("without it", rows[rows["smoothing"] == 0]),
        )
        if len(part)
    ]:
        lines.append(f"Rows less confident than accurate: {', '.join(sides)}.")
    if about["real"]:
        lines += _smoothing_lines(found, results.load_for_effects(out, about["name"]))
    else:
        lines.append(f"This is {subject(found)}, which says nothing about CIFAR-10.")
    return bullets(lines)


def subject(found: list[Result]) -> str:
    """What sentences call the data set that results are of."""
    name = found[0].record["dataset"]["name"]
    entry = data.dataset_by_label(name)
    return entry.subject if entry else name


def _scaling_line(rows: pd.DataFrame) -> str:
    better = int((rows["scaled_ece"] < rows["ece"]).sum())
    return (
        f"A temperature fitted on the validation images lowers the calibration error in {better} of "
        f"{len(rows)} rows; the mean error goes from {percent(rows['ece'].mean())} to "
        f"{percent(rows['scaled_ece'].mean())}. The predicted classes stay the same."
    )


def _smoothing_line(row: dict) -> str:
    """One ablation of label smoothing in words, differences paired by seed."""

    def told(name: str, words: str, show) -> str:
        pair = f"{words} is {show(row[name])} instead of {show(row[f'base_{name}'])}"
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        if np.isnan(low):
            return pair
        if name == "temperature":
            return f"{pair} (95 % interval of the difference {low:+.2f} to {high:+.2f})"
        return f"{pair} (difference {points_interval(100 * low, 100 * high)} points)"

    seeds = f"{row['seeds']} seeds" if row["seeds"] > 1 else "one seed, without an interval"
    scaled, base_scaled = percent(row["scaled_ece"]), percent(row["base_scaled_ece"])
    after = (
        f"both are {scaled}"
        if scaled == base_scaled
        else f"it is {scaled} instead of {base_scaled}"
    )
    return (
        f"With label smoothing of {row['smoothing']:g} instead of {row['base_smoothing']:g} and all "
        f"else as in {row['base']} ({seeds}), {told('temperature', 'the temperature', '{:.2f}'.format)}, "
        f"{told('ece', 'the calibration error', percent)}, and after scaling {after}."
    )


def _smoothing_lines(found: list[Result], variants: list[Result]) -> list[str]:
    """What the ablations of label smoothing of these models show, or where and how to get them."""
    bases = {(row.model, row.name): row for row in recipes.RECIPES}
    ablations = [
        row
        for row in recipes.ABLATIONS
        if row.label_smoothing != bases[row.model, row.variant_of].label_smoothing
    ]
    here = {result.record["model"] for result in found}
    if asked := [row for row in ablations if row.model in here]:
        effects = results.smoothing_effects([v for v in variants if v.record["model"] in here])
        if len(effects):
            return [_smoothing_line(row) for row in effects.to_dict("records")]
        commands = "; ".join(map(_command, asked))
        return [
            "Whether label smoothing is the cause takes a training run that differs in nothing else; none "
            f"has records yet: {commands}."
        ]
    where = sorted({models.MODELS[row.model].number.lstrip("0") for row in ablations})
    return (
        [f"What label smoothing alone does is tested in notebook {', '.join(where)}."]
        if where
        else []
    )


def _command(row: recipes.Recipe) -> str:
    number = models.MODELS[row.model].number
    return f"`python run_all.py --notebooks {number} --recipes {row.name} --precision float32`"


# Pictures


def plot_examples(result: Result, splits: Splits | None) -> Figure | Markdown:
    """Test images that the network gets right, decides by a hair, and gets wrong."""
    if splits is None:
        return NO_PICTURES
    groups = metrics.examples(result.labels, result.probabilities, 6)
    rows = {
        name: [(splits.test.images[at], _said(result, at, splits)) for at in positions]
        for name, positions in groups.items()
    }
    return plotting.gallery(rows)


def plot_heat_maps(
    result: Result, splits: Splits | None, maps: dict[int, np.ndarray]
) -> Figure | Markdown:
    """Right predictions, closest calls and wrong ones, each with the places that the network's answer rests on.

    Args:
        result: of the network.
        splits: its images.
        maps: as `training.heat_maps` gives them.
    """
    if splits is None:
        return NO_PICTURES
    if not maps:
        return Markdown(
            "*No heat maps: neither they nor the trained network is kept beside this record.* "
            f"{train_anew(result)} trains it anew and keeps the network; the page of that run "
            "shows them."
        )
    groups = metrics.examples(result.labels, result.probabilities, 4, among=list(maps))
    images = splits.test.images
    rows = {
        name: [
            (
                plotting.beside(images[at], plotting.overlay(images[at], maps[at])),
                _said(result, at, splits),
            )
            for at in positions.tolist()
        ]
        for name, positions in groups.items()
    }
    return plotting.gallery(rows, columns=4)


def _said(result: Result, position: int, splits: Splits) -> str:
    """The image's class and what the network says; a second class where it has a chance."""
    return title(splits.class_names, int(result.labels[position]), result.probabilities[position])


def title(class_names: tuple[str, ...], label: int, probabilities: np.ndarray) -> str:
    """What stands above an image: its label, the predicted class if another, and how sure that is.

    Args:
        class_names: of all classes.
        label: of the image.
        probabilities: float `(classes,)`.
    """
    second, first = np.argsort(probabilities, kind="stable")[-2:]
    name = class_names[label]
    words = name if first == label else f"{name} → {class_names[first]}"
    lines = [words, percent(float(probabilities[first]))]
    if probabilities[second] >= _OR:
        lines.append(f"or {class_names[second]} {percent(float(probabilities[second]))}")
    return "\n".join(lines)


def train_anew(result: Result) -> str:
    """The command that does a training once more, in a new folder, and keeps all there is."""
    return f"`python run_all.py {run_arguments([result])} --fresh`"


def run_arguments(group: list[Result]) -> str:
    """What `run_all.py` takes to train these again: one recipe, each with another seed."""
    record = group[0].record
    number = models.MODELS[record["model"]].number
    seeds = " ".join(str(result.record["seed"]) for result in group)
    precision = recipes.precision_name(record["precision"])
    words = [f"--notebooks {number} --recipes {record['recipe']} --seeds {seeds}"]
    words.append(f"--precision {precision}")
    # Else its stand-in would serve where it is not there.
    if entry := data.dataset_by_label(record["dataset"]["name"]):
        words.append(f"--dataset {entry.name}")
    if shortened(group):
        words.append(f"--epochs {max(p['requested'] for p in record['epochs']['phases'])}")
    if record["backbone"]:
        words.append(f"--backbone {record['backbone']['backbone']}")
    return " ".join(words)
