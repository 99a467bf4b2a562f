"""What the terminal shows while trainings and notebooks run."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_helpers.text import duration, percent

MARKS = {
    "waiting": ("·", "dim"),
    "running": ("›", "cyan"),
    "finished": ("✓", "green"),
    "failed": ("✗", "red"),
    "interrupted": ("!", "yellow"),
}
# Lines that a training may take where the output is not a terminal.
LINES_A_TRAINING = 5


@dataclass(frozen=True)
class State:
    """How far a training is, and how many its notebook has.

    Attributes:
        row: what the progress file says of it: `recipe`, `seed`, finished `epoch`, planned
            `epochs`, whether it `may_stop` before, `phase` of `phases`, and once it has begun
            `val_accuracy`, a fraction, and `seconds_per_epoch`.
        position: in the notebook's plan, from 1.
        trainings: in the plan.
        seconds_left: until the plan is done, at the most; None if it cannot be known yet.
        may_stop: whether one of those may end before.
        named: whether to say which training it is.
    """

    row: dict[str, Any]
    position: int = 1
    trainings: int = 1
    seconds_left: float | None = None
    may_stop: bool = False
    named: bool = True

    def __str__(self) -> str:
        row = self.row
        words = [f"{row['recipe']}, seed {row['seed']}"] if self.named else []
        if self.trainings > 1:
            words.append(f"training {self.position} of {self.trainings}")
        words.append(f"epoch {row['epoch']} of {row['epochs']}")
        if row.get("val_accuracy") is not None:
            words.append(f"validation {percent(row['val_accuracy'])}")
        if self.seconds_left:
            words.append(time_left(self.seconds_left, may_stop=self.may_stop))
        return " · ".join(words)

    @classmethod
    def of(cls, row: dict[str, Any]) -> "State":
        """Of a training by itself, whose line has its name."""
        return cls(row, 1, 1, _seconds_left([row], 0), row.get("may_stop", False), named=False)

    @property
    def step(self) -> tuple:
        """Changes as often as a plain line is printed."""
        part = LINES_A_TRAINING * self.row["epoch"] // max(self.row["epochs"], 1)
        return self.row["recipe"], self.row["seed"], part


@dataclass(frozen=True)
class Row:
    """The line of a notebook, or of a training.

    Attributes:
        name: of either.
        status: a key of `MARKS`.
        seconds: since it started, or that it took; None before.
        detail: what else there is to say: a `State` or words.
    """

    name: str
    status: str
    seconds: float | None = None
    detail: State | str = ""


def time_left(seconds: float, *, may_stop: bool) -> str:
    """A time left in words, as exact as it is known: early stopping can shorten it."""
    return f"{'at most' if may_stop else 'about'} {duration(seconds)} left"


def read_rows(folder: Path, model: str | None) -> list[dict[str, Any]]:
    """What the progress file of a model's trainings says of each; [] where there is none."""
    from cifar_helpers.training.progress import read_progress

    return read_progress(str(folder), str(model))


def find_training(folder: Path, model: str | None) -> State | None:
    """The training of a model that a run is at; None before its plan and when all is trained."""
    rows = read_rows(folder, model)
    statuses = [row["status"] for row in rows]
    # Between two trainings none is running.
    status = next((each for each in ("running", "waiting") if each in statuses), None)
    if status is None:
        return None
    at = statuses.index(status)
    may_stop = any(row.get("may_stop") for row in rows[at:] if row["status"] != "finished")
    return State(rows[at], at + 1, len(rows), _seconds_left(rows, at), may_stop)


def _seconds_left(rows: list[dict[str, Any]], at: int) -> float | None:
    """As of `State.seconds_left`, by the latest epochs."""
    row, to_come = rows[at], [each for each in rows[at + 1 :] if each["status"] != "finished"]
    known = [each["seconds_per_epoch"] for each in rows[: at + 1] if each.get("seconds_per_epoch")]
    # An epoch of fine-tuning takes many times as long as one of the head: nothing is known of
    # those to come.
    phases = row["phases"] - (row["phase"] or 1) + sum(each["phases"] - 1 for each in to_come)
    begun = row["epoch"] and not row.get("seconds_per_epoch")  # a phase, of which none is done
    if not known or phases or begun:
        return None
    return known[-1] * (row["epochs"] - row["epoch"] + sum(each["epochs"] for each in to_come))


def forget(folder: Path, model: str) -> None:
    """Remove what an earlier command's trainings left, before a notebook starts."""
    from cifar_helpers.training.progress import progress_file

    progress_file(str(folder), model).unlink(missing_ok=True)


@contextlib.contextmanager
def open_display() -> Iterator[Callable[[list[Row], str], None]]:
    """The display that suits the standard output.

    Yields:
        A function that shows lines and how far the whole run is: on a terminal in place, else what
        has changed.
    """
    if not sys.stdout.isatty():
        yield PlainDisplay().show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), refresh_per_second=4) as live:
        yield lambda rows, whole: live.update(_table(rows, whole))


def _table(rows: list[Row], whole: str) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for row in rows:
        mark, style = MARKS[row.status]
        seconds = "" if row.seconds is None else duration(row.seconds)
        state = Text(f"{mark} {row.name}", style=style)
        table.add_row(state, row.status, Text(seconds, justify="right"), Text(str(row.detail)))
    return Group(table, Text(whole, style="bold")) if whole else table


class PlainDisplay:
    """A line where something changed, without control characters; for files and pipes."""

    def __init__(self):
        self._seen: dict[str, tuple] = {}
        self._whole = ""

    def show(self, rows: list[Row], whole: str = "") -> None:
        """Print what has changed since the last call; how far the whole is, where something ended."""
        ended = False
        for row in rows:
            detail = row.detail
            state = (row.status, detail.step if isinstance(detail, State) else detail)
            known = self._seen.get(row.name, ("waiting", ""))
            # That a running notebook has nothing to tell for a moment is no news.
            if state == known or (row.status == known[0] == "running" and not detail):
                continue
            self._seen[row.name] = state
            words = [f"{row.name}: {row.status}"]
            if row.seconds is not None and row.status != "running":
                words.append(f"after {duration(row.seconds)}")
            if detail:
                words.append(f"· {detail}")
            print(" ".join(words), flush=True)
            ended |= row.status not in ("running", "waiting")
        if ended and whole != self._whole:
            self._whole = whole
            print(whole, flush=True)
