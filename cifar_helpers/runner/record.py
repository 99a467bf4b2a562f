"""A run's folder: its lock, and its record `run.json`, by which the same command continues."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from cifar_helpers import files, hardware
from cifar_helpers.errors import UserError
from cifar_helpers.runner.inputs import Inputs
from cifar_helpers.runner.options import LOCK, TABLE, Options, holds_files
from cifar_helpers.runner.plan import Job, describe_reductions

# What a run leaves, with room to spare: records, pages, networks, and the checkpoints on the way.
NEEDED_BYTES = 500e6


@dataclass
class Record:
    """What became of a run, kept as `run.json` in its folder.

    Attributes:
        folder: the run's.
        content: of `run.json`.
        skipped: names of notebooks that were finished before.
    """

    folder: Path
    content: dict[str, Any]
    skipped: set[str] = field(default_factory=set)

    def entry(self, name: str) -> dict[str, Any]:
        """What became of a notebook."""
        return self.content["notebooks"].setdefault(name, {"status": "waiting"})

    def note(self, name: str, **values: Any) -> None:
        """Write down what became of a notebook."""
        self.entry(name).update(values)
        self.save()

    def save(self) -> None:
        """Write `run.json`."""
        files.write_json(self.folder / "run.json", self.content)

    def job_hash(self, job: Job) -> str:
        """Names all that decides a job's outcome, the records that it reads included."""
        if not job.reads_records:
            return job.inputs_hash
        return files.json_hash([job.inputs_hash, self.results()])

    def results(self, model: str = "*") -> dict[str, str]:
        """The SHA-256 of each training's record and predictions, by their places in `results/`."""
        folder = self.folder / "results"
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob(f"{model}/*/seed*.*"))
        }

    def skip(self, job: Job) -> bool:
        """Whether a job was finished before, with the same inputs; else it waits.

        And whether all its records are still as it left them: without one it would be missing from
        the comparison.
        """
        entry = self.entry(job.name)
        same = entry.get("parameters_hash") == self.job_hash(job)
        if job.model:
            kept = entry.get("records", {})
            same = same and kept.items() <= self.results(job.model).items()
        if entry["status"] == "finished" and same and job.output.exists():
            self.skipped.add(job.name)
            return True
        self.content["notebooks"][job.name] = {"status": "waiting"}
        return False

    def stop(self) -> None:
        """Write down that the run was interrupted."""
        for entry in self.content["notebooks"].values():
            if entry["status"] == "running":
                entry["status"] = "interrupted"
        self.content.update(status="interrupted", finished=files.now())
        self.save()

    def finish(self) -> None:
        """Write down that the run has come to its end."""
        statuses = {entry["status"] for entry in self.content["notebooks"].values()}
        status = "failed" if "failed" in statuses else "finished"
        if status == "finished" and statuses - {"finished"}:  # left by an earlier command
            status = "interrupted"
        self.content.update(status=status, finished=files.now())
        self.save()


def open_record(folder: Path, options: Options, inputs: Inputs, jobs: Sequence[Job]) -> Record:
    """Begin a run's record, or continue the one in its folder; write it.

    Raises:
        UserError: if the folder holds a run whose results cannot stand beside this one's.
    """
    earlier = read_record(folder)
    data: dict[str, Any] = dict(inputs.data)
    if inputs.weights:
        data |= {"weights": inputs.weights[0], "own_weights": list(inputs.weights[1:])}
    content: dict[str, Any] = {
        "status": "running",
        "arguments": options.given(TABLE),
        "settings": _settings(options, inputs),
        "data": data,
        "precisions": inputs.precisions,
        "quick": options.is_quick,
        "reductions": describe_reductions(options, inputs, jobs),
        "versions": hardware.versions(),
        "started": files.now(),
        "finished": None,
        "notebooks": _continued(earlier["notebooks"] if earlier else {}, jobs),
    }
    if earlier:
        _check_same_settings(folder, earlier["settings"], content["settings"])
        content["started"] = earlier["started"]
        content["precisions"] = (earlier.get("precisions") or {}) | inputs.precisions
        # Notebooks that need none do not settle anew which weights the others use.
        for name in {"weights", "own_weights"} & set(earlier.get("data") or ()):
            data.setdefault(name, earlier["data"][name])
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder, content)
    record.save()
    return record


def _settings(options: Options, inputs: Inputs) -> dict[str, Any]:
    """What all results of a run have in common, so that they can be compared."""
    found = options.changed("settings") | options.others
    if inputs.data:
        found["dataset"] = f"{inputs.data['name']} ({inputs.data['sha256'][:12]})"
    return found


def read_record(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's `run.json`; None if there is none.

    Raises:
        UserError: if it is damaged.
    """
    try:
        content = json.loads((folder / "run.json").read_text())
        statuses = [entry["status"] for entry in content["notebooks"].values()]
        for wanted in (content["started"], *statuses):
            if not isinstance(wanted, str):
                raise TypeError(f"{wanted!r} in place of text")
        content["settings"].items()
        return content
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"run.json of {folder.name} cannot be read ({error}): name another folder with --out, "
            "or begin anew with --fresh."
        ) from error


def earlier_choices(folder: Path) -> tuple[str, dict[str, str]]:
    """What a folder's run has settled on: its backbone, "" if none, and each model's precision."""
    earlier = read_record(folder) or {}
    weights = (earlier.get("data") or {}).get("weights") or {}
    return weights.get("backbone", ""), earlier.get("precisions") or {}


def _continued(earlier: dict[str, Any], jobs: Sequence[Job]) -> dict[str, Any]:
    """What is known of all notebooks; of those to run that have not finished, no more than that."""
    kept = {job.name: {"status": "waiting"} for job in jobs}
    for name, entry in earlier.items():
        if entry["status"] == "finished" or name not in kept:
            interrupted = {"status": "interrupted"} if entry["status"] == "running" else {}
            kept[name] = entry | interrupted
    return dict(sorted(kept.items()))


def _check_same_settings(folder: Path, earlier: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in sorted({*earlier, *asked}):
        if earlier.get(name) != asked.get(name):
            before, after = (of.get(name, "at its default") for of in (earlier, asked))
            raise UserError(
                f"{folder.name} holds a run with {name} {before}, now it is {after}: "
                "name another folder with --out, or begin anew with --fresh."
            )


# The folder


@contextlib.contextmanager
def hold(folder: Path, *, fresh: bool) -> Iterator[None]:
    """Keep every other runner out of the run's folder.

    The lock is the operating system's: it ends with the process, however that ends.

    The folder is created; with `fresh`, that of an earlier run is renamed first.

    Raises:
        UserError: if another runner has it, it cannot be written, or the disk is nearly full.
    """
    _check_space(folder)
    if fresh and holds_files(folder):
        with _lock(folder):
            pass
        _rename(folder)
    with _lock(folder):
        yield


def _check_space(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise UserError(
            f"a run needs {NEEDED_BYTES / 1e6:,.0f} MB on the disk of {folder.name}; "
            f"{free / 1e6:,.0f} MB are free. Make room, or name a folder elsewhere with --out."
        )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"{folder.name} is in use by another run_all.py: wait until it has ended, or name "
            "another folder with --out."
        ) from None
    except OSError as error:
        raise UserError(
            f"the run's folder {folder.name} must be one that can be written; received: "
            f"{error.strerror}. Name another one with --out."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _rename(folder: Path) -> None:
    name = f"{folder.name}.{datetime.now():%Y%m%d-%H%M%S}"
    kept, number = folder.with_name(name), 1
    while kept.exists():  # the clock was set back, or the second is not over
        number += 1
        kept = folder.with_name(f"{name}-{number}")
    os.rename(folder, kept)
    print(f"The earlier run is kept as {shown(kept)}.")


def shown(path: Path) -> str:
    """A path as the user would type it: relative to the current folder where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
