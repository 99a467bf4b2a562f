"""The answer to a notebook's question: the steps between rows, the reasons, what is not known."""

import itertools
import operator

import numpy as np
import pandas as pd
from IPython.display import Markdown

from cifar_helpers import metrics, models, recipes, results
from cifar_helpers.data import Splits
from cifar_helpers.narrative.ablations import (
    clear_effects,
    effect_rows,
    unclear_effects,
    untested,
)
from cifar_helpers.narrative.html import bullets
from cifar_helpers.results import Result
from cifar_helpers.text import (
    count,
    listed,
    loss_difference,
    p_value,
    percent,
    points,
    points_interval,
)

_NAMED = 5  # changes of a kind that a conclusion names
_ALIKE = 0.25  # test accuracies no further below than this are of networks that learned as much


def answer_lines(found: list[Result], out: str, splits: Splits | None) -> list[str]:
    """Sentences that answer what a notebook asks.

    Args:
        found: results of one model's rows, in the order of the table.
        out: the run's folder, whose records of other models count where the page shows its own, and
            whose records of ablations count first.
        splits: the images at hand; None leaves other models and ablations out.
    """
    groups = list(results.by_experiment(found).values())
    lines = [_recipes_part(groups)]
    if len(groups) > 2 or not lines[0]:  # else the one step is told
        lines += [_step(before, after) for before, after in itertools.pairwise(groups)]
    if splits:
        lines += [
            _rows_elsewhere(found, out, splits),
            _beside_model_before(found, out, splits),
            _reasons(found, out, splits),
        ]
    return [*lines, _unknown(groups, _spreads(found, out) if splits else [])]


def _recipes_part(groups: list[list[Result]]) -> str:
    """How much of the result is decided by the way one network is trained."""
    best = results.best_experiment([result for group in groups for result in group])
    first, last = groups[0][0].record, best[0].record
    if first["recipe"] == last["recipe"] or first["image_size"] != last["image_size"]:
        return ""
    rows = [groups[0], best]
    # A difference over the seeds in common is not that of the means where one row has more.
    seeds = [{each.record["seed"] for each in group} for group in rows]
    runs = " and ".join(_seeds(group) for group in rows)
    means = ":" if seeds[0] == seeds[1] else f"; the means over all seeds ({runs}) go"
    return (
        f"The way the same network is trained, from **{first['recipe']}** to **{last['recipe']}**, "
        f"is worth {_difference(*rows)}{means} from {percent(_mean(rows[0]))} to "
        f"{percent(_mean(rows[1]))}.{_more_training(*rows)}"
    )


def _step(before: list[Result], after: list[Result]) -> str:
    names = [group[0].record["recipe"] for group in (before, after)]
    more = _more_training(before, after)
    same = _same_start(before, after)
    return f"From **{names[0]}** to **{names[1]}**: {_difference(before, after)}.{more}{same}"


def _same_start(before: list[Result], after: list[Result]) -> str:
    """Until when trainings of two rows with the same seed went alike, so that one change came later."""
    first, second = (
        {each.record["seed"]: each.record["history"]["loss"] for each in group}
        for group in (before, after)
    )
    alike = {
        seed: sum(itertools.accumulate(map(operator.eq, first[seed], second[seed]), operator.and_))
        for seed in sorted(set(first) & set(second))
    }
    told = [
        f"epoch {epochs} (seed {seed})"
        for seed, epochs in alike.items()
        if 0 < epochs < max(len(first[seed]), len(second[seed]))
    ]
    return f" Until {listed(told)} the two are one and the same training run." if told else ""


def _more_training(before: list[Result], after: list[Result]) -> str:
    """In which amounts of training two rows of a network differ: part of a difference may be theirs."""
    first, last = before[0].record, after[0].record
    amounts = (
        ("at", "pixels", first["image_size"], last["image_size"]),
        ("on", "images", *(count(each["dataset"]["train_images"]) for each in (first, last))),
        ("for", "epochs", *map(results.epochs_run, (before, after))),
    )
    told = [
        f"{how} {now} {unit} instead of {then}" for how, unit, then, now in amounts if now != then
    ]
    if not told:
        return ""
    return (
        f" The second was also trained {listed(told)}; the table of recipes lists every difference."
    )


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
        unclear = "; not distinguishable from zero" if verdict == "undecided" else ""
        gain = points(100 * found["difference"])
        return (
            f"{gain} points on average (95 % interval over {len(seeds)} seeds {interval}{unclear})"
        )
    # Without a seed in common, the first of each.
    pair = (second[seeds[0]], first[seeds[0]]) if seeds else (after[0], before[0])
    told = difference(*pair)
    unclear = "" if told["p_value"] < 0.05 else "; no clear difference"
    which = ""
    if len(before) + len(after) > 2:  # then it is not the difference of the means
        new, old = (each.record["seed"] for each in pair)
        of = f"the training runs with seed {new}" if new == old else f"seed {old} and seed {new}"
        which = f" between {of}"
    return (
        f"{told['gain']} points{which} (95 % interval over test images {told['interval']}, McNemar "
        f"{p_value(told['p_value'])}{unclear})"
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


def _known_rows(model: str, found: list[Result], out: str, splits: Splits) -> list[Result]:
    """A model's rows: published ones for a page that shows such, else those of the run's folder.

    Not both: beside a quick pass the published rows would say nothing.
    """
    known = results.published()
    of_published = {result.record["parameters_hash"] for result in known}
    if out and any(result.record["parameters_hash"] not in of_published for result in found):
        known = results.load_results(out)
    rows = results.without_variants(results.records_of(splits, known))
    return [result for result in rows if result.record["model"] == model]


def _rows_elsewhere(found: list[Result], out: str, splits: Splits) -> str:
    """The rows of the same network that have records but are not on the page."""
    here = {result.record["recipe"] for result in found}
    known = _known_rows(found[0].record["model"], found, out, splits)
    groups = results.by_experiment(
        [result for result in known if result.record["recipe"] not in here]
    ).values()
    if not groups:
        return ""
    told = [
        f"**{group[0].record['recipe']}** {percent(_mean(group))} ({_seeds(group)}; "
        f"{group[0].record['changes']})"
        for group in groups
    ]
    words = " ".join(dict.fromkeys(group[0].record["recipe"] for group in groups))
    return f"Also trained with this network, by `--recipes {words}`: {listed(told)}."


def _beside_model_before(found: list[Result], out: str, splits: Splits) -> str:
    """The best row beside that of the model before it in the table of models."""
    order = list(models.MODELS)
    place = order.index(found[0].record["model"])
    other = _known_rows(order[place - 1], found, out, splits) if place else []
    if not other:
        return ""
    best, before = results.best_experiment(found), results.best_experiment(other)
    now, then = best[0].record, before[0].record
    weights = now["parameters"]["total"] / then["parameters"]["total"]
    work = now["multiply_adds"] / then["multiply_adds"]
    return (
        f"Compared with **{results.row_label(before[0])}**, the best row of the model before: "
        f"{_difference(before, best)}, with {weights:.2g} times the weights and {work:.2g} times the "
        "multiply-adds per image."
    )


def _reasons(found: list[Result], out: str, splits: Splits) -> str:
    """Which single changes made a difference, as far as ablations tell."""
    model = found[0].record["model"]
    if not splits.source.real:
        return ""
    rows = effect_rows(model, out, splits)
    if rows.empty:
        return "No ablation has been trained yet, so no single change can be credited."
    clear, unclear = clear_effects(rows), unclear_effects(rows)
    parts = [
        "Rows differ in several things at once, ablations in one.",
        _changes("With an interval of test accuracy over seeds that excludes zero", clear),
        _changes("Without a clear effect on it", unclear, loss=True),
        _changes("With one seed, so without an interval", rows[rows["seeds"] == 1]),
    ]
    left = untested(model, rows)
    missing: dict[str, list[str]] = {}
    for row in recipes.of_model(model):
        if (row.variant_of, row.name) in left:
            missing.setdefault(row.variant_of, []).append(row.changes)
    parts += [f"Not tested against {base}: {'; '.join(told)}." for base, told in missing.items()]
    return " ".join(filter(None, parts))


def _changes(words: str, rows: pd.DataFrame, *, loss: bool = False) -> str:
    """The largest few of some changes, with a clear effect on the test loss where asked for."""
    rows = rows.sort_values("test", key=abs, ascending=False)
    told = []
    for row in rows.head(_NAMED).itertuples():
        clear = loss and metrics.verdict((row.loss_low, row.loss_high)) != "undecided"
        also = f", but test loss {loss_difference(row.loss)}" if clear else ""
        told.append(f"{row.changes} ({points(row.test)} points against {row.base}{also})")
    if len(rows) > _NAMED:
        told.append(f"and {len(rows) - _NAMED} more")
    return f"{words}: {'; '.join(told)}." if told else ""


def _spreads(found: list[Result], out: str) -> list[float]:
    """How far seeds moved trainings of this network: standard deviations of test accuracy.

    Of recipes that ablations start from: other ablations may train another network.
    """
    about, best = found[0].record, _mean(results.best_experiment(found))
    known = results.load_for_effects(out, about["dataset"]["name"])
    bases = {row.variant_of for row in recipes.of_model(about["model"])}
    alike = [
        [result.record["test"]["accuracy"] for result in group]
        for group in results.by_experiment(known).values()
        if len(group) > 2
        and group[0].record["model"] == about["model"]
        and group[0].record["recipe"] in bases
        and results.backbone_of(group[0].record) == results.backbone_of(about)
    ]
    return [float(np.std(each, ddof=1)) for each in alike if np.mean(each) > best - _ALIKE]


def _unknown(groups: list[list[Result]], spreads: list[float]) -> str:
    """Which rows were trained once, and how far seeds moved other trainings of the network."""
    single = [f"**{group[0].record['recipe']}**" for group in groups if len(group) == 1]
    if not single:
        return ""
    line = f"Not known: how far another seed would move {listed(single)}, trained once"
    if not spreads:
        return f"{line}."
    ends = [100 * each(spreads) for each in (min, max)]
    told = " to ".join(dict.fromkeys(f"{end:.{1 if end >= 0.1 else 2}f}" for end in ends))
    return (
        f"{line}. Over three seeds or more, the test accuracy of the recipes that ablations start from "
        f"has a standard deviation of {told} points; intervals over test images and McNemar's test do "
        "not allow for that."
    )


# The whole study


def describe_answer(found: list[Result]) -> Markdown:
    """Which model is best, how sure that is, what it costs, and what the recipes decide.

    Args:
        found: results of the study's rows, in the order of the table.
    """
    return bullets(study_lines(found))


def study_lines(found: list[Result]) -> list[str]:
    """The sentences of `describe_answer`."""
    groups = list(results.by_experiment(found).values())
    names = dict.fromkeys(result.record["model"] for result in found)
    chosen = [
        results.best_experiment([each for each in found if each.record["model"] == name])
        for name in names
    ]
    order = sorted(chosen, key=_mean, reverse=True)
    ladder = "; ".join(
        f"{_label(group)} **{percent(_mean(group))}** ({_seeds(group)})" for group in order
    )
    lines = [
        "A *row* is one network trained by one recipe. From best to worst on the test images, each "
        f"network's row that did best on validation images: {ladder}."
    ]
    if len(order) > 1:
        difference_of_two = _difference(order[1], order[0])
        lines.append(f"{_label(order[0])} against {_label(order[1])}: {difference_of_two}.")
    own = [group for group in order if not group[0].record["backbone"]]
    if own and own[0] is not order[0]:
        weights = count(own[0][0].record["parameters"]["total"])
        lines.append(
            f"Without pretraining, {_label(own[0])} is best: {percent(_mean(own[0]))} with {weights} "
            "weights."
        )
    return [*lines, _decided_by_recipes(groups, chosen), _certainty(groups), _cost(order)]


def _mean(group: list[Result]) -> float:
    return sum(each.record["test"]["accuracy"] for each in group) / len(group)


def _seeds(group: list[Result]) -> str:
    return "1 seed" if len(group) == 1 else f"{len(group)} seeds"


def _label(group: list[Result]) -> str:
    return results.row_label(group[0])


def _decided_by_recipes(groups: list[list[Result]], chosen: list[list[Result]]) -> str:
    """How far its rows, from the weakest to the best, are apart for each network."""
    moved = []
    for best in chosen:
        record = best[0].record
        network = (record["model"], results.backbone_of(record))
        rows = [
            each
            for each in groups
            if (each[0].record["model"], results.backbone_of(each[0].record)) == network
        ]
        worst = min(rows, key=_mean)
        gain = 100 * (_mean(best) - _mean(worst))
        if gain > 0:
            first, last = worst[0].record, record
            amounts = (
                (first["epochs"]["requested"], last["epochs"]["requested"], "epochs"),
                (first["image_size"], last["image_size"], "pixels"),
            )
            told = [f"{then} and {now} {unit}" for then, now, unit in amounts if then != now]
            moved.append(
                f"{models.network_label(*network)} {gain:.1f}{f' ({listed(told)})' if told else ''}"
            )
    if not moved:
        return ""
    return (
        "From a network's weakest row to its best, test accuracy rises by these points: "
        f"{'; '.join(moved)}. The recipes of two rows may differ in several settings."
    )


def _certainty(groups: list[list[Result]]) -> str:
    single = sum(len(group) == 1 for group in groups)
    if not single:
        return f"Each of the {len(groups)} rows was trained with several seeds."
    return (
        f"Of {len(groups)} rows, {single} rest on a single training run: how far another seed would "
        "move them is not known."
    )


def _cost(order: list[list[Result]]) -> str:
    best = order[0][0].record
    cheapest = min(order, key=lambda group: group[0].record["multiply_adds"])
    if best is cheapest[0].record:
        return ""
    times = best["multiply_adds"] / cheapest[0].record["multiply_adds"]
    return (
        f"The most accurate row costs {times:,.0f} times the multiply-adds per image of "
        f"{_label(cheapest)}."
    )
