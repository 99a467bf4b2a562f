"""The one formatted table: columns of text, for a notebook, the terminal, Markdown and HTML."""

from collections.abc import Callable, Sequence

import pandas as pd

from cifar_helpers.models import backbone_label, model_label, network_label
from cifar_helpers.results.store import Result
from cifar_helpers.results.tables import results_table
from cifar_helpers.text import DASH, count, interval, loss, percent, points


def _original(row: pd.Series) -> str:
    """The accuracy in the original study, its epochs, and another backbone that it had."""
    told = [f"{row['reference_epochs']} epochs", backbone_label(row["reference_backbone"])]
    return f"{percent(row['reference'])} ({', '.join(filter(None, told))})"


def _with_mark(row: pd.Series, name: str) -> str:
    return ", ".join(filter(None, (row[name], row["mark"])))


_COLUMNS: dict[str, Callable[[pd.Series], str]] = {
    "model": lambda row: model_label(row["model"]),
    "network": lambda row: network_label(row["model"], row["backbone"]),
    "recipe": lambda row: _with_mark(row, "recipe"),
    "network (recipe)": lambda row: _with_mark(row, "label"),
    "what changes": lambda row: row["changes"],
    "parameters": lambda row: count(row["parameters"]),
    "training images": lambda row: f"{count(row['train_images'])} at {row['image_size']} px",
    "epochs": lambda row: row["epochs"],
    "test accuracy": lambda row: percent(row["accuracy"]),
    "95 % interval": lambda row: f"{interval(row['low'], row['high'])} ({row['interval']})",
    "seeds": lambda row: count(row["seeds"]),
    "test loss": lambda row: loss(row["loss"]),
    "gap": lambda row: points(row["gap"]),
    "training": lambda row: row["time"],
    "epochs, time, precision": lambda row: f"{row['epochs']}, {row['time']}, {row['precision']}",
    "original": _original,
    # Beside the study's gap, which is that of the last epoch, stands that of ours.
    "original gap": lambda row: f"{points(row['reference_gap'])} (here {points(row['last_gap'])})",
}
# Shown where a row has a figure of the original study, beside which they belong.
_ORIGINAL = ("original", "original gap")
_MARKS = {
    "adapted": "*Adapted*: the study's recipe on another backbone, with a fine-tuning schedule of its own.",
    "another copy": "*Another copy*: the training used another complete copy of the data set.",
}
_WORDS = ("model", "network", "recipe", "network (recipe)", "what changes")
COLUMNS = tuple(_COLUMNS)


def format_table(found: list[Result], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """The results as text, one row an experiment.

    Args:
        found: results of one data set.
        columns: of `COLUMNS`, in order. Those about the original study are left out
            where no row is one of its own, and hold a dash in rows that are not.
    """
    table = results_table(found)
    has_figure = table["reference"].notna()
    shown = {
        name: table.apply(_COLUMNS[name], axis=1)
        for name in columns
        if has_figure.any() or name not in _ORIGINAL
    }
    for name in shown.keys() & set(_ORIGINAL):
        shown[name] = shown[name].where(has_figure, DASH)
    return pd.DataFrame(shown)


def mark_lines(found: Sequence[Result]) -> list[str]:
    """What the marks in the recipe column mean, those that are there, as Markdown."""
    marks = ", ".join(results_table(list(found))["mark"]) if found else ""
    return [line for mark, line in _MARKS.items() if mark in marks]


def to_markdown(table: pd.DataFrame, *, bold: Sequence[str] = ()) -> str:
    """A table of text as Markdown; the named columns are set in bold."""
    rows = [
        [f"**{row[name]}**" if name in bold else row[name] for name in table]
        for row in table.to_dict("records")
    ]
    lines = [list(table), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def print_table(rows: list[dict], columns: Sequence[str]) -> None:
    """Print the `columns` that rows of `index_rows` have in the terminal, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    shown = [name for name in columns if name in rows[0]]
    table = Table(box=None, pad_edge=False)
    for name in shown:
        table.add_column(name, justify="left" if name in _WORDS else "right")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print()
    console.print(table)
    console.print()


def index_rows(found: list[Result]) -> list[dict]:
    """The rows of the index page: every formatted column by its name, as text."""
    return format_table(found).to_dict("records") if found else []
