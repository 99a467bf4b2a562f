"""The README's parts that are made from records."""

import pandas as pd

from cifar_helpers import models, results
from cifar_helpers.narrative.conclusions import conclusion_rows
from cifar_helpers.narrative.findings import describe_results, shortened
from cifar_helpers.narrative.html import bullets
from cifar_helpers.results import Result
from cifar_helpers.text import count, duration, percent

_COLUMNS = (
    "network, recipe",
    "parameters",
    "training images",
    "epochs, time, precision",
    "test accuracy",
    "95 % interval",  # says of how many seeds
    "gap",
    "published",
)


def results_section(found: list[Result]) -> str:
    """The results, all of one data set, as Markdown: in short, as a figure, as a table."""
    table = results.to_markdown(results.format_table(found, _COLUMNS), bold=["test accuracy"])
    figure = "![Test accuracy of every row, with intervals](docs/accuracy.png)"
    parts = [bullets(_headline(found)).data, figure, describe_results(found), table]
    return "\n" + "\n\n".join(parts) + "\n"


def _headline(found: list[Result]) -> list[str]:
    """What the study comes to, in a few lines."""
    chosen = results.best_of_each_model(found)
    means = {result.record["model"]: _mean(found, result) for result in chosen}
    ladder = ", ".join(
        f"{models.model_label(name)} **{percent(mean)}**" for name, mean in means.items()
    )
    lines = [f"Each model's best recipe, by validation: {ladder}."]
    own = [result for result in chosen if not result.record["backbone"]]
    if own:
        best = max(own, key=lambda result: means[result.record["model"]])
        lines.append(
            f"The best without pretraining: {percent(means[best.record['model']])} with "
            f"{count(best.record['parameters']['total'])} weights."
        )
    if found[0].record["dataset"]["real"]:
        variants = results.load_for_effects("", found[0].record["dataset"]["name"])
        verdicts = conclusion_rows(found, variants)["verdict"]
        kinds = ("supported", "contradicted", "undecided", "not tested")
        counts = ", ".join(f"{(verdicts == kind).sum()} {kind}" for kind in kinds)
        lines.append(
            f"Of the {len(verdicts)} conclusions of the rebuilt study: {counts}. "
            "[Notebook 5](notebooks/05_comparison.ipynb) shows the measured effect and the interval "
            "of each."
        )
    return lines


def _mean(found: list[Result], one: Result) -> float:
    """The mean test accuracy of the trainings that differ from one in their seed alone."""
    group = results.by_experiment(found)[results.experiment_hash(one)]
    return sum(result.record["test"]["accuracy"] for result in group) / len(group)


def commands_section(found: list[Result]) -> str:
    """How to train each row again and what it gave here, as a Markdown table."""
    shown = results.format_table(found)
    groups = results.by_experiment(found).values()
    table = pd.DataFrame(
        {
            "row": shown["model"] + ", " + shown["recipe"],
            "command": [f"`run_all.py {_arguments(group)}`" for group in groups],
            "on": ["; ".join(results.machines(group)) for group in groups],
            "training takes": [
                duration(sum(results.training_seconds(result.record) for result in group))
                for group in groups
            ],
            **shown[["test accuracy", "95 % interval"]],
        }
    )
    return f"\n{results.to_markdown(table, bold=['test accuracy'])}\n"


def _arguments(group: list[Result]) -> str:
    """What `run_all.py` takes to train these again: one recipe, each with another seed."""
    record = group[0].record
    notebook = models.MODELS[record["model"]].notebook
    seeds = " ".join(str(result.record["seed"]) for result in group)
    number = notebook.partition("_")[0]
    precision = record["precision"].removeprefix("mixed_")
    words = [f"--notebooks {number} --recipes {record['recipe']} --seeds {seeds}"]
    words.append(f"--precision {precision}")
    if shortened(group):
        words.append(f"--epochs {max(p['requested'] for p in record['epochs']['phases'])}")
    if record["backbone"]:
        words.append(f"--backbone {record['backbone']['backbone']}")
    return " ".join(words)
