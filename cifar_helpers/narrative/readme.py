"""The README's parts that are made from records."""

import pandas as pd

from cifar_helpers import models, recipes, results
from cifar_helpers.narrative.ablations import clear_effects, untested
from cifar_helpers.narrative.answers import study_lines
from cifar_helpers.narrative.closer import run_arguments
from cifar_helpers.narrative.conclusions import conclusion_rows
from cifar_helpers.narrative.findings import describe_results
from cifar_helpers.narrative.html import bullets
from cifar_helpers.results import Result
from cifar_helpers.text import duration, listed, points

_COLUMNS = (
    "network (recipe)",
    "parameters",
    "training images",
    "epochs, time, precision",
    "test accuracy",
    "95 % interval",  # says of how many seeds
    "gap",
    "original",
)


def results_section(found: list[Result]) -> str:
    """The results, all of one data set, as Markdown: in short, as a figure, as tables, with notes."""
    table = results.to_markdown(results.format_table(found, _COLUMNS), bold=["test accuracy"])
    figure = "![Test accuracy of every row, with intervals](docs/accuracy.png)"
    about = found[0].record["dataset"]
    variants = results.load_for_effects("", about["name"]) if about["real"] else []
    lines = [*_headline(found), *_single_changes(results.effects(variants))]
    claims = _claims(found, variants) if about["real"] else ""
    parts = [bullets(lines).data, figure, table, describe_results(found), claims]
    return "\n" + "\n\n".join(filter(None, parts)) + "\n"


def _headline(found: list[Result]) -> list[str]:
    """What the study comes to, in a few lines."""
    lines = [*study_lines(found), _beside_original(found)]
    if found[0].record["dataset"]["real"]:
        good = results.good_rows(found)
        lines.append(
            f"On {len(results.doubtful_labels(good))} test images all {len(good)} rows above "
            f"{100 * results.GOOD:.0f} % on validation, of {len({each.record['model'] for each in good})} networks, agree on a class that "
            "is not the label: mistakes, or wrong labels? [Notebook 5](notebooks/05_comparison.ipynb) shows the surest."
        )
    have = {result.row for result in found}
    best = (row for row in recipes.RECIPES if row.group == "best")
    lacking = [models.model_label(row.model) for row in best if (row.model, row.name) not in have]
    if lacking:
        lines.append(
            f"Not trained for all their epochs yet: the *best* recipes of {listed(lacking)}, which short "
            "training runs on validation images chose."
        )
    return list(filter(None, lines))


def _beside_original(found: list[Result]) -> str:
    """How far the rows that follow the study on its own networks are from its figures."""
    table = results.results_table(found)
    rows = table[table["reference"].notna() & (table["reference_backbone"] == "")]
    if len(rows) < 2:
        return ""
    apart = 100 * (rows["accuracy"] - rows["reference"])
    return (
        f"The {len(rows)} rows that rebuild the study on its own networks differ from its test accuracies by "
        f"{points(apart.min())} to {points(apart.max())} points."
    )


def _single_changes(effects: pd.DataFrame) -> list[str]:
    """What the ablations show in all, from rows of `results.effects`."""
    if effects.empty:
        return []
    several = effects[(effects["seeds"] > 1) & ~effects["same_training"]]
    clear = clear_effects(several)
    if clear.empty:
        return []
    by_network = several.groupby(["model", "backbone"], sort=False).size()
    clear_of = clear.groupby(["model", "backbone"]).size()
    shares = [
        f"{models.network_label(*network)} {clear_of.get(network, 0)} of {size}"
        for network, size in by_network.items()
    ]
    rest = {
        "had one seed": sum((effects["seeds"] == 1) & ~effects["same_training"]),
        "did not change the course of training": sum(effects["same_training"]),
        "have no records yet": sum(
            len(untested(model, effects[effects["model"] == model])) for model in models.MODELS
        ),
    }
    more = [f"{number} {words}" for words, number in rest.items() if number]
    largest = clear.sort_values("test", key=abs, ascending=False).drop_duplicates("model")
    told = [
        f"{models.network_label(row.model, row.backbone)} ("
        f"{_in_words(row.model, row.base)}): {row.changes} "
        f"{points(row.test)}"
        for row in largest.itertuples()
    ]
    return [
        f"*Ablations* change one setting of a recipe, and what that entails. {len(several)} were trained with the seeds of the "
        f"unchanged recipe{f' (of the others listed, {listed(more)})' if more else ''}. In {len(clear)} "
        f"of them ({listed(shares)}) the 95 % interval over seeds of the mean difference of test "
        "accuracy excludes zero; about one in twenty would if no change had an effect.",
        "The largest of these differences for each network, in points: "
        f"{'; '.join(told)}. Notebooks 1 to 4 show all.",
    ]


def _in_words(model: str, name: str) -> str:
    """A base of ablations: a row of the study by its name, another by what it is."""
    base = recipes.select(model, [name])[0]
    return base.changes if base.variant_of else name


def _claims(found: list[Result], variants: list[Result]) -> str:
    """What became of the conclusions and next steps of the original study."""
    claims = conclusion_rows(found, variants)
    return (
        "What the original study concluded and proposed, beside what was measured. A claim that "
        "names a cause is tested by changing one setting of a recipe, in most cases a shortened one, and "
        "its verdict holds for training runs of that length: *short-base* and *short-improved* are the rows "
        "with fewer epochs and images, *with-callbacks* is *short-base* with callbacks, *long-base* has "
        "more epochs and fewer images. A claim is *supported* where the interval lies above zero, "
        "*contradicted* below it, *undecided* where it contains zero: that is no evidence against a claim, since an "
        "interval over three seeds can be wider than the effect. "
        "[Notebook 5](notebooks/05_comparison.ipynb) says which settings change more than they say. Intervals allow for seeds and test "
        "images together, that of stability for seeds alone, that of mistakes for test images alone. A "
        "difference above zero speaks for the claim:\n\n"
        + results.to_markdown(claims, bold=["verdict"])
    )


def commands_section(found: list[Result]) -> str:
    """How to train each row again, what it was trained on and for how long, as a Markdown table."""
    shown = results.format_table(found)
    groups = results.by_experiment(found).values()
    table = pd.DataFrame(
        {
            "row": shown["network (recipe)"],
            "command": [f"`run_all.py {run_arguments(group)}`" for group in groups],
            "on": ["; ".join(results.machines(group)) for group in groups],
            "training, all seeds": [
                results.time_in_words([result.record for result in group], total=True)
                for group in groups
            ],
        }
    )
    return f"\n{results.to_markdown(table)}\n\n{_versions(found)}{_in_all(found)}\n"


def _versions(found: list[Result]) -> str:
    """The software that the rows were trained with."""
    used = pd.DataFrame([result.record["versions"] for result in found])
    names = {"python": "Python", "tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}
    told = [f"{name} {' or '.join(sorted(set(used[key])))}" for key, name in names.items()]
    return f"All were trained with {listed(told)}."


def _in_all(found: list[Result]) -> str:
    """How long a plain run takes, where all of its rows are there."""
    if results.missing_rows(found):
        return ""
    plain = [
        result.record
        for result in found
        if result.row in recipes.default_rows()
        and result.record["seed"] in models.MODELS[result.record["model"]].seeds
    ]
    backbone = next(filter(None, map(results.backbone_of, plain)))
    time = results.time_in_words(plain, total=True)
    wall = duration(sum(record["seconds"]["train"] for record in plain))
    return (
        f"\n\n`run_all.py --backbone {backbone}` trains all of these rows except those of the recipe "
        f"*best*, with the default seeds. The times of their records add up to "
        f"{time}{f' ({wall} by the clock)' if '≈' in time else ''}; many of them had to share two cores with another one."
    )
