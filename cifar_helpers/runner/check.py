"""One more seed of a published row: does it fall where the published seeds say it should?"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cifar_helpers import metrics, models, recipes, results
from cifar_helpers.errors import DataError, UserError
from cifar_helpers.runner.inputs import absolute_path
from cifar_helpers.runner.options import Options
from cifar_helpers.text import closest, interval, listed, percent

SEEDS = 3  # that a row needs, so that their spread is known at all


class Check(NamedTuple):
    """A row that is to be trained once more.

    Attributes:
        published: its records, one a seed.
        seed: a new one.
    """

    published: list[results.Result]
    seed: int

    @property
    def record(self) -> dict:
        """Of the first seed."""
        return self.published[0].record

    @property
    def name(self) -> str:
        """The row as `--check-published` takes it."""
        return f"{self.record['model']}/{self.record['recipe']}"


def check_rows(checks: Sequence[Check], options: Options, folder: Path) -> bool:
    """Train published rows with a new seed, in float32, and say whether they agree with their records.

    Args:
        checks: from `choose_rows`.
        options: where CIFAR-10 is.
        folder: where the trainings' records go; a training that is there is not done again.

    Returns:
        Whether every new accuracy lies in the prediction interval of its row's seeds.

    Raises:
        DataError: if CIFAR-10 is not there.
    """
    from cifar_helpers import data, training

    splits = data.load("cifar10", data_dir=absolute_path(options.data_dir))
    agrees = True
    for check in checks:
        name = check.record["dataset"]["name"]
        if splits.source.name != name:
            raise DataError(
                f"{check.name} was trained on {name}; the data are {splits.source.name}."
            )
        backbone = results.backbone_of(check.record)
        weights = models.backbones.resolve(backbone) if backbone else None
        where = listed(results.machines(check.published))
        print(
            f"{check.name}, seed {check.seed}; it took {results.time_in_words([check.record])} on {where}.",
            flush=True,
        )
        recipe = check.published[0].recipe
        assert recipe is not None  # `choose_rows` passes over others
        run = training.train(
            recipe, splits, seed=check.seed, out=str(folder), weights=weights, precision="float32"
        )
        inside, words = judge(check, training.evaluate(run, out=str(folder)))
        print(words)
        agrees &= inside
    return agrees


def choose_rows(wanted: Sequence[str], published: list[results.Result]) -> list[Check]:
    """The rows that are asked for, as MODEL/RECIPE, or the cheapest of the study's if none is.

    Raises:
        UserError: for an unknown row, or one with fewer than three published seeds.
    """
    rows: dict[str, Check] = {}
    for group in results.by_experiment(published).values():
        taken = {result.record["seed"] for result in group}
        check = Check(group, next(seed for seed in range(len(taken) + 1) if seed not in taken))
        if group[0].recipe and len(taken) > len(rows.get(check.name, Check([], 0)).published):
            rows[check.name] = check
    known = [name for name, check in rows.items() if len(check.published) >= SEEDS]
    if not known:
        raise UserError(
            f"--check-published needs a published row of at least {SEEDS} seeds; found none."
        )
    if not wanted:
        # Not an ablation, whose time may leave out features that another one left in the cache.
        own = [name for name in known if not rows[name].record.get("variant_of")] or known
        cheapest = min(own, key=lambda name: results.training_seconds(rows[name].record))
        return [rows[cheapest]]
    for name in wanted:
        if name not in known:
            seeds = len(rows[name].published) if name in rows else 0
            raise UserError(
                f"--check-published takes rows of at least {SEEDS} published seeds: {listed(known)}; "
                f"received {name}, which has {seeds}.{closest(name, known)}"
            )
    return [rows[name] for name in wanted]


def judge(check: Check, result: results.Result) -> tuple[bool, str]:
    """Whether a new result lies in the prediction interval of its row's seeds, and in words."""
    accuracy = result.record["test"]["accuracy"]
    low, high = metrics.prediction_interval(
        [each.record["test"]["accuracy"] for each in check.published]
    )
    inside = low <= accuracy <= high
    seeds, precision = len(check.published), recipes.precision_name(check.record["precision"])
    words = (
        f"{check.name}: seed {check.seed} classifies {percent(accuracy)} of the test images "
        f"correctly, {'inside' if inside else 'outside'} the 95 % prediction interval "
        f"{interval(low, high)} of the {seeds} published seeds ({100 * (high - low):.1f} points wide)."
    )
    if precision != "float32":
        words += f" These were trained in {precision}, this one in float32."
    if check.record["dataset"]["sha256"] != result.record["dataset"]["sha256"]:
        words += " They were trained on another complete copy of the data set."
    return inside, words
