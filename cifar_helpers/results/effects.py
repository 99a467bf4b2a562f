"""What a change is worth: variants of recipes beside the recipes that they were made from."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_helpers import metrics
from cifar_helpers.results.store import Result, backbone_of, known
from cifar_helpers.results.tables import by_experiment, epochs_run


def load_for_effects(out: str | Path, dataset: str) -> list[Result]:
    """The records of a run's folder and the published ones, variants and all, of one data set.

    Args:
        out: as of `known`.
        dataset: its name in records. Of several copies of it each is compared for itself.
    """
    return [result for result in known(out) if result.record["dataset"]["name"] == dataset]


def effects(found: list[Result]) -> pd.DataFrame:
    """What each variant's change is worth, over the seeds that it and its base were trained with.

    A variant's base is the recipe that it was made from, with the same images, epochs, precision and
    backbone, paired as by `beside_their_bases`.

    Args:
        found: results of variants and their bases; others are passed over.

    Returns:
        One row a variant whose base has a seed in common with it: model, recipe, base,
        base_experiment (its `experiment_hash`: the rows of one base compare), backbone, changes,
        seeds (how many in common), epochs (asked for, of each phase, as text), stopped (after how
        many the variant's were stopped early, as text, "" for none), train_images, base_image_size
        (pixels), base_test (the base's mean test accuracy, a fraction), base_gap (of its kept epoch,
        mean over the seeds, in points) and same_training (whether all of its epochs went as the
        base's, so that what it changes never acted), then as differences of accuracy, variant minus
        base, in percentage points: test, `low` and `high` (of test, over seeds) and `images_low` and
        `images_high` (over test images too), NaN for one seed; `train`, `train_low` and `train_high`,
        over seeds, of the training accuracy of the epoch whose weights were kept, in points; `loss`,
        `loss_low` and `loss_high` of the test cross-entropy; `spread` and `base_spread` (`late_spread`,
        mean over the seeds), `spread_low` and `spread_high` (of their difference, over seeds), in
        points.
    """
    return pd.DataFrame([_effect(pairs) for pairs in beside_their_bases(found)])


def beside_their_bases(found: list[Result]) -> list[list[tuple[Result, Result]]]:
    """For each variant its results, each beside that of its base with the same seed.

    Of a variant that was trained in several ways, such as in a quick pass beside the published
    records, the one with most seeds counts; of several such the first in `found`.
    """
    experiments, paired = list(by_experiment(found).values()), []
    for group in experiments:
        bases = (
            each
            for each in experiments
            if _is_base(each[0].record, group[0].record) and _alike_in_size(each[0], group[0])
        )
        paired.append(max((_by_seed(group, base) for base in bases), key=len, default=[]))
    chosen: dict[tuple[str, str], list[tuple[Result, Result]]] = {}
    for pairs in filter(None, paired):
        row = pairs[0][0].row
        if len(pairs) > len(chosen.get(row, ())):
            chosen[row] = pairs
    return list(chosen.values())


def _is_base(base: dict, record: dict) -> bool:
    """Whether a record's recipe was made from that of the first, and all else is the same."""
    images = ("sha256", "train_images", "validation_images")
    epochs = [[phase["requested"] for phase in each["epochs"]["phases"]] for each in (base, record)]
    return (
        (base["model"], base["recipe"]) == (record["model"], record.get("variant_of"))
        and all(base["dataset"].get(name) == record["dataset"].get(name) for name in images)
        and epochs[0] == epochs[1]
        and base["precision"] == record["precision"]
        and base.get("deterministic") == record.get("deterministic")
        and backbone_of(base) == backbone_of(record)
    )


def _alike_in_size(base: Result, result: Result) -> bool:
    """Whether image sizes differ only as the recipes do: both as written, or both made smaller.

    Of a recipe that the package does not know nothing can be said.
    """
    sizes = [each.record["image_size"] for each in (base, result)]
    written = [each.recipe.image_size for each in (base, result) if each.recipe]
    if len(written) < 2:
        return True
    as_written = [size == wanted for size, wanted in zip(sizes, written, strict=True)]
    return as_written[0] == as_written[1] and (sizes[0] == sizes[1] or written[0] != written[1])


def _by_seed(group: list[Result], base: list[Result]) -> list[tuple[Result, Result]]:
    """Pairs of the same seed."""
    seeds = {result.record["seed"]: result for result in base}
    return [
        (result, seeds[result.record["seed"]]) for result in group if result.record["seed"] in seeds
    ]


def _effect(pairs: list[tuple[Result, Result]]) -> dict:
    variants, bases = zip(*pairs, strict=True)
    first = variants[0].record
    test = metrics.seeds_difference(
        variants[0].labels,
        [result.predictions for result in variants],
        [result.predictions for result in bases],
    )
    nothing = (math.nan, math.nan)
    low, high = test["seeds"] or nothing
    images_low, images_high = test["seeds_and_images"] or nothing
    records, base_records = ([result.record for result in each] for each in (variants, bases))
    spreads, base_spreads = (
        [late_spread(record) for record in each] for each in (records, base_records)
    )
    return {
        "model": first["model"],
        "recipe": first["recipe"],
        "base": first["variant_of"],
        "base_experiment": bases[0].record["experiment_hash"],
        "backbone": backbone_of(first),
        "changes": first["changes"],
        "seeds": len(pairs),
        "epochs": " + ".join(str(phase["requested"]) for phase in first["epochs"]["phases"]),
        "stopped": epochs_run(list(variants)) if _stopped(variants) else "",
        "train_images": first["dataset"]["train_images"],
        "base_image_size": bases[0].record["image_size"],
        "base_test": float(np.mean([record["test"]["accuracy"] for record in base_records])),
        "base_gap": float(
            np.mean([record["kept_epoch"]["overfitting_gap"] for record in base_records])
        ),
        "same_training": all(
            record["history"]["loss"] == base["history"]["loss"]
            for record, base in zip(records, base_records, strict=True)
        ),
        "test": 100 * test["difference"],
        "low": 100 * low,
        "high": 100 * high,
        "images_low": 100 * images_low,
        "images_high": 100 * images_high,
        **_over_seeds("train", *(map(_kept_training, each) for each in (records, base_records))),
        **_over_seeds(
            "loss", *([r["test"]["loss"] for r in each] for each in (records, base_records))
        ),
        **_over_seeds("spread", spreads, base_spreads),
        "spread": float(np.mean(spreads)),
        "base_spread": float(np.mean(base_spreads)),
    }


def _over_seeds(name: str, ours: Iterable[float], theirs: Iterable[float]) -> dict[str, float]:
    """The mean difference, paired by seed, with its 95 % interval over seeds."""
    more = np.subtract(list(ours), list(theirs))
    measured = bool(np.isfinite(more).all())
    low, high = (measured and metrics.seeds_interval(more)) or (math.nan, math.nan)
    return {name: float(np.mean(more)), f"{name}_low": low, f"{name}_high": high}


def _kept_training(record: dict) -> float:
    """Training accuracy of the epoch whose weights were kept, in points."""
    return 100 * record["history"]["accuracy"][record["epochs"]["best"] - 1]


def _stopped(found: tuple[Result, ...]) -> bool:
    """Whether early stopping ended one of the trainings."""
    epochs = [result.record["epochs"] for result in found]
    return any(each["run"] < each["requested"] for each in epochs)


def late_spread(record: dict) -> float:
    """How far validation accuracy strays over the last third of the epochs, in points.

    It is the standard deviation around the straight line that fits best: a network that is still
    getting better is not unstable for that. NaN for fewer than seven epochs, whose last third has no
    three.
    """
    accuracies = record["history"]["val_accuracy"]
    last = np.array(accuracies[-math.ceil(len(accuracies) / 3) :])
    if len(last) < 3:
        return math.nan
    epochs = np.arange(len(last))
    away = last - np.polyval(np.polyfit(epochs, last, 1), epochs)
    return 100 * float(np.sqrt(np.sum(away**2) / (len(last) - 2)))
