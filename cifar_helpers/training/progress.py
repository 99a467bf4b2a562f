"""How far a notebook's trainings are, in one file for whoever shows it."""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import filelock

from cifar_helpers import files
from cifar_helpers.errors import user_path
from cifar_helpers.recipes import Recipe
from cifar_helpers.training.runs import Run


def write_plan(out: str, model: str, pairs: Iterable[tuple[Recipe, int]]) -> None:
    """Note the trainings that a notebook is going to do, in `out`/progress/<model>.json.

    The file holds `model`, `updated` (ISO 8601) and `trainings`, for each of them `recipe`, `seed`,
    `epochs` (at the most), `may_stop` (whether early stopping may end it before), `phases`,
    `status` ("waiting", "running" or "finished"), `epoch` (those run), `phase` (from 1),
    `val_accuracy` (a fraction), None until an epoch is done, and `seconds_per_epoch`, None until one
    of the phase is. What workers have finished before the notebook stays finished.
    """

    def planned(before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        finished = [entry for entry in before if entry["status"] == "finished"]
        known = {(entry["recipe"], entry["seed"]): entry for entry in finished}
        return [known.get((recipe.name, seed)) or _entry(recipe, seed) for recipe, seed in pairs]

    _write(out, model, planned)


def note_progress(out: str, run: Run, status: str, phase: int) -> None:
    """Bring a training's entry up to date.

    Args:
        out: the run's folder; "" for none.
        run: the training.
        status: "running" or "finished".
        phase: the one it is in, from 1.
    """
    if not out:
        return
    recipe, history = run.recipe, run.history
    accuracies = history.get("val_accuracy", [])
    ended = run.phase_epochs[: phase - 1]
    # Of this phase: an epoch of fine-tuning takes many times as long as one of the head.
    seconds = history.get("seconds", [])[sum(ended) :][-5:]
    entry = _entry(recipe, run.seed) | {
        "status": status,
        # Without those that early stopping has saved.
        "epochs": sum(ended) + sum(each.epochs for each in recipe.phases[len(ended) :]),
        "epoch": len(history.get("accuracy", [])),
        "phase": phase,
        "val_accuracy": accuracies[-1] if accuracies else None,
        "seconds_per_epoch": sum(seconds) / len(seconds) if seconds else None,
    }
    note_entry(out, recipe.model, entry)


def note_entry(out: str, model: str, entry: dict[str, Any]) -> None:
    """Put a training's entry in the place of its last one."""
    _write(out, model, lambda before: [*before, entry])


def _entry(recipe: Recipe, seed: int) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "seed": seed,
        "epochs": recipe.epochs,
        "may_stop": recipe.may_stop,
        "phases": len(recipe.phases),
        "status": "waiting",
        "epoch": 0,
        "phase": 1,
        "val_accuracy": None,
        "seconds_per_epoch": None,
    }


def progress_file(out: str, model: str) -> Path:
    """Where the progress of a model's trainings is told."""
    return user_path(out) / "progress" / f"{model}.json"


def _write(out: str, model: str, change: Callable[[list], list[dict[str, Any]]]) -> None:
    path = progress_file(out, model)
    # It is only shown: whatever keeps it from being written must not end a training.
    with contextlib.suppress(OSError, RuntimeError):  # a file system without locks
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may train the same model, and each writes the others' entries too.
        with filelock.FileLock(path.with_suffix(".lock"), timeout=5):
            entries = change(read_progress(out, model))
            rows = {(entry["recipe"], entry["seed"]): entry for entry in entries}
            now = files.now()
            content = {"model": model, "trainings": list(rows.values()), "updated": now}
            files.write_json(path, content)


def read_progress(out: str, model: str) -> list[dict[str, Any]]:
    """The entries of a model's trainings; [] where there are none."""
    try:
        return json.loads(progress_file(out, model).read_text())["trainings"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
