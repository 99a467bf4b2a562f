"""The README's parts that are made from records."""

import pandas as pd

from cifar_helpers import results
from cifar_helpers.narrative.answers import study_lines
from cifar_helpers.narrative.closer import run_arguments
from cifar_helpers.narrative.conclusions import conclusion_rows
from cifar_helpers.narrative.findings import describe_results
from cifar_helpers.narrative.html import bullets
from cifar_helpers.results import Result
from cifar_helpers.text import duration

_COLUMNS = (
    "network, recipe",
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
    parts = [bullets(_headline(found)).data, figure, table, describe_results(found), _claims(found)]
    return "\n" + "\n\n".join(filter(None, parts)) + "\n"


def _headline(found: list[Result]) -> list[str]:
    """What the study comes to, in a few lines."""
    lines = study_lines(found)
    if found[0].record["dataset"]["real"]:
        doubted = len(results.doubtful_labels(results.good_rows(found)))
        lines.append(
            f"On {doubted} test images all rows above {100 * results.GOOD:.0f} % on validation agree "
            "on a class that is not the label: mistakes, or wrong labels? [Notebook 5](notebooks/05_comparison.ipynb) shows them."
        )
    return lines


def _claims(found: list[Result]) -> str:
    """What became of the conclusions and next steps of the study that is rebuilt."""
    if not found[0].record["dataset"]["real"]:
        return ""
    variants = results.load_for_effects("", found[0].record["dataset"]["name"])
    claims = conclusion_rows(found, variants)
    return (
        "What the study that is rebuilt concluded and proposed. A claim that names a cause is tested "
        "by changing that one thing ([notebook 5](notebooks/05_comparison.ipynb) says how) in a "
        "recipe cut short: *short-base* and *short-improved* are the model's recipes base and improved "
        "with fewer epochs and images, *with-callbacks* is short-base with the callbacks. A "
        "verdict holds for the epochs and images that are named; longer trainings may decide otherwise. "
        "A difference above zero is for the claim:\n\n"
        + results.to_markdown(claims, bold=["verdict"])
    )


def commands_section(found: list[Result]) -> str:
    """How to train each row again and what it gave here, as a Markdown table."""
    shown = results.format_table(found)
    groups = results.by_experiment(found).values()
    table = pd.DataFrame(
        {
            "row": shown["model"] + ", " + shown["recipe"],
            "command": [f"`run_all.py {run_arguments(group)}`" for group in groups],
            "on": ["; ".join(results.machines(group)) for group in groups],
            "training takes, all seeds": [
                duration(sum(results.training_seconds(result.record) for result in group))
                for group in groups
            ],
            **shown[["test accuracy", "95 % interval"]],
        }
    )
    return f"\n{results.to_markdown(table, bold=['test accuracy'])}\n"
