"""The answer to a notebook's question: the steps between rows, the reasons, what is not known."""

import itertools

from cifar_helpers import metrics, models, results
from cifar_helpers.data import Splits
from cifar_helpers.narrative.ablations import effect_rows, untested
from cifar_helpers.results import Result
from cifar_helpers.text import listed, p_value, points, points_interval


def answer_lines(found: list[Result], out: str, splits: Splits | None) -> list[str]:
    """Sentences that answer what a notebook asks.

    Args:
        found: results of one model's rows, in the order of the table.
        out: the run's folder, whose records of other models and of ablations count first.
        splits: the images at hand; None leaves other models and ablations out.
    """
    groups = list(results.by_experiment(found).values())
    lines = [_step(before, after) for before, after in itertools.pairwise(groups)]
    if splits:
        lines += [_beside_model_before(found, out, splits), _reasons(found, out, splits)]
    return [*lines, _unknown(groups)]


def _step(before: list[Result], after: list[Result]) -> str:
    names = [group[0].record["recipe"] for group in (before, after)]
    return f"From **{names[0]}** to **{names[1]}**: {_difference(before, after)}."


def _difference(before: list[Result], after: list[Result]) -> str:
    """The second group's test accuracy minus the first's, over the seeds of both, in words."""
    first, second = ({each.record["seed"]: each for each in group} for group in (before, after))
    seeds = sorted(set(first) & set(second))
    if len(seeds) > 1:
        found = metrics.seeds_difference(
            first[seeds[0]].labels,
            [second[seed].predictions for seed in seeds],
            [first[seed].predictions for seed in seeds],
        )
        interval = points_interval(*(100 * end for end in found["seeds"]))
        verdict = metrics.verdict(found["seeds"])
        unclear = "; it may be nothing" if verdict == "undecided" else ""
        gain = points(100 * found["difference"])
        return (
            f"{gain} points on average (95 % interval over {len(seeds)} seeds {interval}{unclear})"
        )
    # Without a seed in common, the first of each.
    pair = (second[seeds[0]], first[seeds[0]]) if seeds else (after[0], before[0])
    told = difference(*pair)
    clear = "a clear" if told["p_value"] < 0.05 else "no clear"
    return (
        f"{told['gain']} points (95 % interval over test images {told['interval']}; {clear} "
        f"difference between these two trained networks, McNemar {p_value(told['p_value'])})"
    )


def difference(first: Result, second: Result) -> dict:
    """The first one's test accuracy minus the second's, and whether it is more than chance.

    Returns:
        `gain` and its 95 % `interval` as text, in percentage points, and what `metrics.mcnemar` gives.
    """
    pair = (first.labels, first.predictions, second.predictions)
    found = metrics.bootstrap_difference(*pair)
    gain, low, high = (100 * found[name] for name in ("difference", "low", "high"))
    told = {"gain": points(gain), "interval": points_interval(low, high)}
    return told | metrics.mcnemar(*pair)


def _beside_model_before(found: list[Result], out: str, splits: Splits) -> str:
    """The best row beside that of the model before it in the table of models."""
    order = list(models.MODELS)
    place = order.index(found[0].record["model"])
    if not place:
        return ""
    known = (results.load_results(out) if out else []) or results.published()
    other = [
        result
        for result in results.without_variants(results.records_of(splits, known))
        if result.record["model"] == order[place - 1]
    ]
    if not other:
        return ""
    best, before = (
        results.by_experiment(group)[results.experiment_hash(results.best_by_validation(group))]
        for group in (found, other)
    )
    weights, work = (
        best[0].record[key] if key == "multiply_adds" else best[0].record[key]["total"]
        for key in ("parameters", "multiply_adds")
    )
    record = before[0].record
    return (
        f"Beside **{results.row_label(before[0])}**, the best row of the model before: "
        f"{_difference(before, best)}, with {weights / record['parameters']['total']:.2g} times the "
        f"weights and {work / record['multiply_adds']:.2g} times the multiply-adds per image."
    )


def _reasons(found: list[Result], out: str, splits: Splits) -> str:
    """Which single changes made a difference, as far as ablations tell."""
    model = found[0].record["model"]
    if not splits.source.real:
        return ""
    rows = effect_rows(model, out, splits)
    clear = [
        f"{row['changes']} ({points(row['test'])} points against {row['base']})"
        for row in (rows.sort_values("test").to_dict("records") if len(rows) else [])
        if metrics.verdict((row["low"], row["high"])) in ("supported", "contradicted")
    ]
    told = (
        f"Single changes whose effect is beyond that of the seeds: {'; '.join(clear)}."
        if clear
        else "No single change has yet been shown to make a difference beyond that of the seeds."
    )
    missing = len(untested(model, rows))
    rest = f" Not tested: {missing} of the ablations above." if missing else ""
    return (
        f"{told}{rest} A step that changes several things at once does not tell which one counts."
    )


def _unknown(groups: list[list[Result]]) -> str:
    single = [f"**{group[0].record['recipe']}**" for group in groups if len(group) == 1]
    if not single:
        return ""
    return (
        f"Not known: how far another seed would move {listed(single)}, "
        f"{'each ' if len(single) > 1 else ''}trained once."
    )
