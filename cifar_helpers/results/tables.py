"""Records side by side: which trainings belong together, their means, and which row is best."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cifar_helpers import metrics, recipes
from cifar_helpers.data import Splits
from cifar_helpers.errors import UserError
from cifar_helpers.hardware import hardware_label
from cifar_helpers.models import network_label
from cifar_helpers.results.store import Result, backbone_of, known, load_results, published
from cifar_helpers.text import duration

_BUSY = 10  # seconds: what begins with tracing is no busy machine
_UNLIKE = 2  # times that differ more than so many times have no mean that says anything
_ESTIMATE = 0.9  # a time below this share of the wall time is told as an estimate

# Experiments: what a mean over seeds may take together


def by_experiment(found: list[Result]) -> dict[str, list[Result]]:
    """Results whose trainings differ in their seed alone, by experiment hash, in the order given."""
    groups: dict[str, list[Result]] = {}
    for result in found:
        groups.setdefault(result.record["experiment_hash"], []).append(result)
    return groups


# Tables


def results_table(found: list[Result]) -> pd.DataFrame:
    """One row an experiment: means over seeds, and the published figure where one applies.

    Args:
        found: results of one data set.

    Returns:
        Columns model, recipe, label (`row_label`), changes, backbone ("" for none), mark (what sets
        the row's records apart, "" for nothing), parameters, multiply_adds (of an image), image_size
        (pixels), train_images, precision, epochs (run/asked for), seeds, accuracy, low, high
        (fractions), interval (what the interval covers), loss, gap (of the epoch whose weights were
        kept) and last_gap (of the last epoch; both training minus validation accuracy, percentage
        points), seconds and the same as text, time, reference (fraction) and reference_gap (of the
        last epoch), NaN without a published figure, reference_epochs (run/planned), and
        reference_backbone, "" where it is the record's own.
    """
    return pd.DataFrame([_table_row(group) for group in by_experiment(found).values()])


def _table_row(group: list[Result]) -> dict:
    records = [result.record for result in group]
    first = records[0]
    published = _published_figures(group[0]) or recipes.Reference(np.nan, np.nan, "")
    accuracies = [record["test"]["accuracy"] for record in records]
    interval = metrics.seeds_interval(accuracies)
    low, high = np.clip(interval or first["test_accuracy_interval"], 0, 1).tolist()
    backbone = backbone_of(first)

    def mean(values) -> float:
        return float(np.mean(list(values)))

    return {
        "model": first["model"],
        "recipe": first["recipe"],
        "label": row_label(group[0]),
        "changes": first["changes"],
        "backbone": backbone,
        "mark": _mark(group[0]),
        "parameters": first["parameters"]["total"],
        "multiply_adds": first["multiply_adds"],
        "image_size": first["image_size"],
        "train_images": first["dataset"]["train_images"],
        "precision": recipes.precision_name(first["precision"]),
        "epochs": f"{epochs_run(group)}/{first['epochs']['requested']}",
        "seeds": len(records),
        "accuracy": mean(accuracies),
        "low": low,
        "high": high,
        "interval": f"{len(records)} seeds" if interval else "test images",
        "loss": mean(record["test"]["loss"] for record in records),
        "gap": mean(record["kept_epoch"]["overfitting_gap"] for record in records),
        "last_gap": mean(record["overfitting_gap"] for record in records),
        "seconds": mean(training_seconds(record) for record in records),
        "time": time_in_words(records),
        "reference": published.test_accuracy,
        "reference_gap": published.overfitting_gap,
        "reference_epochs": published.epochs,
        "reference_backbone": published.backbone if published.backbone != backbone else "",
    }


def epochs_run(group: list[Result]) -> str:
    """The epochs that the seeds of a row ran for; early stopping ends them at different ones."""
    run = [result.record["epochs"]["run"] for result in group]
    return "–".join(map(str, sorted({min(run), max(run)})))


def row_label(result: Result) -> str:
    """A row's network and, in brackets, its recipe, and the image size where it is not the recipe's own."""
    record, recipe = result.record, result.recipe
    backbone = backbone_of(record)
    size = record["image_size"]
    known = not backbone or (recipe and recipe.image_size == size)
    told = record["recipe"] if known else f"{record['recipe']} at {size} px"
    return f"{network_label(record['model'], backbone)} ({told})"


def training_seconds(record: dict) -> float:
    """Time of a training, its epochs as of `epoch_seconds`."""
    left_out = np.sum(record["history"]["seconds"]) - np.sum(epoch_seconds(record))
    return record["seconds"]["train"] - float(left_out)


def time_in_words(records: list[dict], *, total: bool = False) -> str:
    """The mean time of trainings, or the total, "≈ 35 min" where it is well below the wall time.

    In place of a mean of times that differ more than twofold stands their range.
    """
    times = [training_seconds(record) for record in records]
    wall = sum(record["seconds"]["train"] for record in records)
    mark = "≈ " if sum(times) < _ESTIMATE * wall else ""
    if not total and max(times) > _UNLIKE * min(times):
        return f"{mark}{duration(min(times))} to {duration(max(times))}"
    return f"{mark}{duration(sum(times) if total else sum(times) / len(times))}"


def epoch_seconds(record: dict) -> np.ndarray:
    """Wall time of each epoch, without most of that in which the machine did something else.

    One that took over twice the time within which a quarter of its phase's epochs were done, and
    over ten seconds more, as where the machine was busy or slept or the process was stopped, counts
    as that time.
    """
    ends = np.cumsum([phase["run"] for phase in record["epochs"]["phases"]])
    phases = np.split(np.array(record["history"]["seconds"]), ends[:-1])
    usual = [np.quantile(phase, 0.25) if len(phase) else 0.0 for phase in phases]
    return np.concatenate(
        [
            np.where(phase > np.maximum(2 * time, time + _BUSY), time, phase)
            for phase, time in zip(phases, usual, strict=True)
        ]
    )


def _mark(result: Result) -> str:
    marks = {
        "adapted": _is_adapted(result),
        "another copy": result.other_copy,
    }
    return ", ".join(mark for mark, holds in marks.items() if holds)


def _is_adapted(result: Result) -> bool:
    """Whether the published recipe was changed for the backbone."""
    row = result.recipe
    published = row.reference.backbone if row and row.reference else ""
    return bool(published) and published != backbone_of(result.record)


def _published_figures(result: Result) -> recipes.Reference | None:
    """The published figures of the row, unless it has other images or another image size."""
    record, recipe = result.record, result.recipe
    same = recipe and record["dataset"]["real"] and recipe.image_size == record["image_size"]
    return recipe.reference if recipe and same else None


def machines(found: list[Result]) -> list[str]:
    """What the trainings ran on, in words, each once."""
    return list(dict.fromkeys(hardware_label(result.record["hardware"]) for result in found))


def missing_rows(found: list[Result]) -> list[tuple[str, str]]:
    """The (model, recipe) pairs that a plain run trains and that have no record."""
    have = {result.row for result in found}
    return [row for row in recipes.default_rows() if row not in have]


def without_variants(found: list[Result]) -> list[Result]:
    """The results of the study's own rows, without those of variants."""
    return [result for result in found if not result.record.get("variant_of")]


def best_experiment(found: list[Result]) -> list[Result]:
    """All seeds of the experiment that is best on validation, as a mean over its seeds.

    The test set has no say in it, nor has a lucky seed.
    """

    def mean_accuracy(group: list[Result]) -> float:
        return float(np.mean([result.record["validation"]["accuracy"] for result in group]))

    return max(by_experiment(found).values(), key=mean_accuracy)


def best_by_validation(found: list[Result]) -> Result:
    """The first seed of `best_experiment`."""
    return best_experiment(found)[0]


def best_of_each_model(found: list[Result]) -> list[Result]:
    """One result a model, in the order given, each the model's best on validation."""
    of_models: dict[str, list[Result]] = {}
    for result in found:
        of_models.setdefault(result.record["model"], []).append(result)
    return [best_by_validation(group) for group in of_models.values()]


def with_other_seeds(found: list[Result], out: str | Path, *, published: bool) -> list[Result]:
    """The results and those of other seeds of the same experiments, in the order of experiments.

    Args:
        found: those that a notebook trained, or took from records.
        out: the run's folder, "" for none.
        published: whether published records count too.
    """
    groups = by_experiment(found)
    for result in known(out) if published else load_results(out) if out else ():
        group = groups.get(result.record["experiment_hash"], [])
        if group and result.record["seed"] not in {each.record["seed"] for each in group}:
            group.append(replace(result, other_copy=group[0].other_copy))
    by_seed = partial(sorted, key=lambda result: result.record["seed"])
    return [result for group in groups.values() for result in by_seed(group)]


# What a comparison is about


class Comparison(NamedTuple):
    """Records of one set of test images, and these images, or None where they are not at hand."""

    found: list[Result]
    splits: Splits | None
    words: str

    def notice(self) -> str:
        """Sentences for the top of a page: where records and images are from."""
        return self.words


def for_comparison(out: str | Path, splits: Splits, *, dataset: str = "auto") -> Comparison:
    """The study's rows in a folder that may share a table; the published ones where it holds none.

    Beside photographs at hand, records of drawings do not count.

    They are the records of the images at hand and, marked, those of another copy that has the same
    labels in the same order. Where there are none, and the data set asked for is "auto", records of
    other images are shown without pictures: they hold predictions and labels.

    Raises:
        UserError: if there is no record left.
    """
    source = splits.source
    own = [
        each
        for each in without_variants(load_results(out))
        if each.record["dataset"]["real"] or not source.real
    ]
    found = own or without_variants(published())
    told = (
        []
        if own
        else [
            "The folder `out` holds no records of the study's rows, so these are the published ones."
        ]
    )
    if kept := records_of(splits, found):
        if any(result.other_copy for result in kept):
            told.append(
                "Records marked *another copy* were made on another complete copy of "
                f"{source.name}, with the same labels in the same order."
            )
        return Comparison(kept, splits, " ".join([source.notice(), *told]))
    if not found or dataset != "auto":
        raise UserError(
            f"the comparison needs records of {source.name}; found {len(own)} of the study's rows, "
            "none of these images. Run notebooks 01 to 04 with the same `out` first."
        )
    about = found[0].record["dataset"]
    kept = [result for result in found if result.record["dataset"]["sha256"] == about["sha256"]]
    words = [f"Records of {about['name']}, without pictures: its images are not at hand."]
    return Comparison(kept, None, " ".join(filter(None, [*words, source.reason, *told])))


def records_of(splits: Splits, found: list[Result]) -> list[Result]:
    """The records of these images, and those of another copy of the data set, which are marked.

    Another copy has the same labels in the same order.
    """
    kept = []
    for result in found:
        about = result.record["dataset"]
        if about["sha256"] == splits.source.sha256:
            kept.append(result)
        elif about["name"] == splits.source.name and np.array_equal(
            result.labels, splits.test.labels
        ):
            kept.append(replace(result, other_copy=True))
    return kept
