"""What the terminal shows while notebooks run."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from cifar_helpers.text import duration

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
class Training:
    """How far the training is that a notebook is at.

    Attributes:
        model: one of `recipes.MODELS`.
        recipe: its name.
        seed: its seed.
        epoch: finished epochs.
        epochs: planned epochs, at the most.
        position: of this training in the notebook's plan, from 1.
        trainings: in the plan.
        val_accuracy: a fraction; None before the first epoch's end.
        seconds_left: until the plan is done, at the most; None if it cannot be known yet.
    """

    model: str
    recipe: str
    seed: int
    epoch: int
    epochs: int
    position: int
    trainings: int
    val_accuracy: float | None
    seconds_left: float | None

    def __str__(self) -> str:
        words = [f"{self.recipe}, seed {self.seed}"]
        if self.trainings > 1:
            words.append(f"training {self.position} of {self.trainings}")
        words.append(f"epoch {self.epoch} of {self.epochs}")
        if self.val_accuracy is not None:
            words.append(f"validation {self.val_accuracy:.1%}")
        if self.seconds_left is not None:
            words.append(f"about {duration(self.seconds_left)} left")
        return " · ".join(words)

    @property
    def step(self) -> tuple:
        """Changes as often as a plain line is due."""
        part = LINES_A_TRAINING * self.epoch // max(self.epochs, 1)
        return self.model, self.recipe, self.seed, part


@dataclass(frozen=True)
class Row:
    """A notebook's line.

    Attributes:
        name: of the notebook.
        status: a key of `MARKS`.
        seconds: since it started, or that it took; None before.
        detail: what else there is to say: a `Training` or words.
    """

    name: str
    status: str
    seconds: float | None = None
    detail: Training | str = ""


def watch(folder: Path, model: str | None, since: float) -> Training | None:
    """How far a notebook's trainings are, by the files that they leave.

    Args:
        folder: the run's.
        model: the one that the notebook trains.
        since: when it started, seconds since the epoch; older files are an earlier sitting's.

    Returns:
        The training that it is at; None before the plan is made and when all is trained.
    """
    plan = _read(folder / "plan" / f"{model}.json", since) or []
    states = [_read(_part(folder, "checkpoints", row) / "progress.json", since) for row in plan]
    finished = [_part(folder, "results", row).with_suffix(".json").exists() for row in plan]
    at = max((index for index, state in enumerate(states) if state), default=-1)
    if at < 0 or states[at]["epoch"] >= states[at]["epochs"]:
        # The next one has not finished an epoch yet.
        at = next((index for index in range(at + 1, len(plan)) if not finished[index]), len(plan))
    if at >= len(plan):
        return None
    left = [row for index, row in enumerate(plan) if index > at and not finished[index]]
    return _training(plan, at, states, left)


def _training(plan: list[dict], at: int, states: list, left: list[dict]) -> Training:
    state = states[at] or {}
    done = state.get("epoch", 0)
    known = [earlier["seconds_per_epoch"] for earlier in states if earlier]
    epochs_left = plan[at]["epochs"] - done + sum(row["epochs"] for row in left)
    # An epoch of fine-tuning takes many times as long as one of the head: nothing is known of
    # those to come.
    to_come = plan[at]["phases"] - state.get("phase", 1) + sum(row["phases"] - 1 for row in left)
    return Training(
        model=plan[at]["model"],
        recipe=plan[at]["recipe"],
        seed=plan[at]["seed"],
        epoch=done,
        epochs=plan[at]["epochs"],
        position=at + 1,
        trainings=len(plan),
        val_accuracy=state.get("val_accuracy"),
        seconds_left=epochs_left * known[-1] if known and not to_come else None,
    )


def _part(folder: Path, kind: str, row: dict) -> Path:
    return folder / kind / row["model"] / row["recipe"] / f"seed{row['seed']}"


def _read(path: Path, since: float):
    """A JSON file's content, or None if it is missing, older than `since` or not readable."""
    try:
        # File systems keep times less exactly than the clock does.
        if path.stat().st_mtime < since - 2:
            return None
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


class LiveDisplay:
    """One line a notebook, kept up to date in place; for terminals."""

    def __init__(self):
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(), refresh_per_second=4)

    def __enter__(self):
        self._live.start()
        return self

    def __exit__(self, *error):
        self._live.stop()

    def show(self, rows: list[Row]) -> None:
        """Bring the lines up to date."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for row in rows:
            mark, style = MARKS[row.status]
            seconds = "" if row.seconds is None else duration(row.seconds)
            state = Text(f"{mark} {row.name}", style=style)
            table.add_row(state, row.status, Text(seconds, justify="right"), Text(str(row.detail)))
        self._live.update(table)


class PlainDisplay:
    """A line where something changed, without control characters; for files and pipes."""

    def __init__(self):
        self._seen: dict[str, tuple] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def show(self, rows: list[Row]) -> None:
        """Print what has changed since the last call."""
        for row in rows:
            detail = row.detail
            state = (row.status, detail.step if isinstance(detail, Training) else detail)
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


def display() -> LiveDisplay | PlainDisplay:
    """The display that suits the standard output."""
    return LiveDisplay() if sys.stdout.isatty() else PlainDisplay()
