"""A run's folder: its name, its record `run.json`, and taking up what an earlier sitting left."""

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import filelock

from cifar_helpers import files, hardware
from cifar_helpers.errors import UserError, user_path
from cifar_helpers.files import json_hash as digest
from cifar_helpers.runner import options
from cifar_helpers.runner.execution import Job
from cifar_helpers.runner.options import Request

LOCK = "run.lock"
# What a run leaves, with room to spare: records, pages, networks, and the checkpoints on the way.
NEEDED_BYTES = 500e6


@dataclass
class Study:
    """A run, its record kept as `run.json` in its folder.

    Attributes:
        folder: where everything goes.
        request: what was asked for.
        jobs: what to execute, by the notebooks' names.
        record: the content of `run.json`.
        skipped: names of notebooks that an earlier sitting has finished.
    """

    folder: Path
    request: Request
    jobs: dict[str, Job]
    record: dict
    skipped: set[str] = field(default_factory=set)

    @property
    def inputs(self) -> dict:
        """The data, as found by `pipeline.resolve_inputs`."""
        return self.record["data"]

    def entry(self, name: str) -> dict:
        """The record's part on a notebook."""
        return self.record["notebooks"].setdefault(name, {"status": "waiting"})

    def note(self, name: str, **values) -> None:
        """Write down what became of a notebook."""
        self.entry(name).update(values)
        self.save()

    def save(self) -> None:
        """Write `run.json`."""
        files.write_json(self.folder / "run.json", self.record)

    def stop(self) -> None:
        """Write down that the run was interrupted."""
        for entry in self.record["notebooks"].values():
            if entry["status"] == "running":
                entry["status"] = "interrupted"
        self.record.update(status="interrupted", finished=now())
        self.save()

    def finish(self) -> None:
        """Write down that the run has come to its end."""
        statuses = {entry["status"] for entry in self.record["notebooks"].values()}
        status = "failed" if "failed" in statuses else "finished"
        if status == "finished" and statuses - {"finished"}:  # left by an earlier sitting
            status = "interrupted"
        self.record.update(status=status, finished=now())
        self.save()


def open_run(folder: Path, request: Request, inputs: dict, jobs: dict[str, Job]) -> Study:
    """Create the run's folder, or take up that of an earlier sitting.

    Args:
        folder: the run's, as from `folder_of`.
        request: what was asked for.
        inputs: the data, as from `pipeline.resolve_inputs`.
        jobs: what to execute.

    Returns:
        The run, its record written.

    Raises:
        UserError: if the folder holds a run whose results cannot stand beside this one's.
    """
    settings = _settings(request, inputs)
    earlier = _earlier_record(folder)
    study = Study(folder, request, jobs, _new_record(request, inputs, settings))
    if earlier is not None:
        _check_same_settings(folder, earlier["settings"], settings)
        study.record["started"] = earlier["started"]
    study.record["notebooks"] = _earlier_notebooks(earlier, jobs)
    folder.mkdir(parents=True, exist_ok=True)
    study.save()
    return study


@contextlib.contextmanager
def hold(folder: Path, request: Request):
    """Keep every other runner out of the run's folder; with `--fresh` make room for a new one.

    The lock is the operating system's: it ends with the process, however that ends.

    Args:
        folder: the run's; created.
        request: what was asked for.

    Raises:
        UserError: if another runner has it, it cannot be written, or the disk is nearly full.
    """
    _check_space(folder)
    if request.arguments.fresh and (folder / "run.json").exists():
        with _lock(folder):
            pass
        _set_aside(folder)
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
def _lock(folder: Path):
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


def folder_of(request: Request, inputs: dict, runs_dir: Path) -> Path:
    """The run's folder: `--out`, or one below `runs_dir` that the options name."""
    out = request.arguments.out
    folder = user_path(out) if out else Path(runs_dir) / run_name(request, inputs)
    return folder.resolve()


def run_name(request: Request, inputs: dict) -> str:
    """The folder's name: the same for the same options, whichever notebooks are chosen."""
    arguments = request.arguments
    words = [f"epochs-{arguments.epochs}" if arguments.epochs else "full"]
    if inputs and not inputs["real"]:
        words.insert(0, "toy")
    # Where the data is does not matter, but what it is does.
    rest = arguments.given(set(options.SHARED) - {"epochs", "dataset", "data_dir"})
    rest |= request.parameters
    if inputs.get("real") and not inputs["verified"]:
        rest["data"] = inputs["sha256"]
    if rest:
        words.append(digest(rest)[:8])
    return "-".join(words)


def _settings(request: Request, inputs: dict) -> dict:
    """What all results of a run have in common, so that they can be compared."""
    names = ("epochs", "train_size", "image_size", "precision", "backbone", "weights_file")
    data = {"dataset": f"{inputs['name']} ({inputs['sha256'][:12]})"} if inputs else {}
    return {**request.arguments.given(names), **request.parameters, **data}


def _new_record(request: Request, inputs: dict, settings: dict) -> dict:
    arguments = asdict(request.arguments)
    return {
        "status": "running",
        "arguments": {name: value for name, value in arguments.items() if value not in (None, ())},
        "settings": settings,
        "data": inputs,
        "quick": request.arguments.is_quick,
        "versions": hardware.versions(),
        "started": now(),
        "finished": None,
        "notebooks": {},
    }


def _earlier_record(folder: Path) -> dict | None:
    try:
        record = json.loads((folder / "run.json").read_text())
        for wanted in (
            record["started"],
            *(each["status"] for each in record["notebooks"].values()),
        ):
            if not isinstance(wanted, str):
                raise TypeError(f"{wanted!r} in place of text")
        record["settings"].items()
        return record
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"run.json of {folder.name} cannot be read ({error}): name another folder with --out, "
            "or begin anew with --fresh."
        ) from error


def _earlier_notebooks(earlier: dict | None, jobs: dict[str, Job]) -> dict:
    """What is known of the notebooks; of those that did not finish, no more than that."""
    found = earlier["notebooks"] if earlier else {}
    kept = {}
    for name in sorted({*found, *jobs}):
        entry = found.get(name, {"status": "waiting"})
        if name in jobs and entry["status"] != "finished":
            entry = {"status": "waiting"}
        elif entry["status"] == "running":
            entry = {**entry, "status": "interrupted"}
        kept[name] = entry
    return kept


def _check_same_settings(folder: Path, earlier: dict, asked: dict) -> None:
    for name in sorted({*earlier, *asked}):
        if earlier.get(name) != asked.get(name):
            before, after = (of.get(name, "at its default") for of in (earlier, asked))
            raise UserError(
                f"{folder.name} holds a run with {name} {before}, now it is {after}: "
                "name another folder with --out, or begin anew with --fresh."
            )


def _set_aside(folder: Path) -> None:
    name = f"{folder.name}.{datetime.now():%Y%m%d-%H%M%S}"
    aside, number = folder.with_name(name), 1
    while aside.exists():  # the clock was set back, or the second is not over
        number += 1
        aside = folder.with_name(f"{name}-{number}")
    os.rename(folder, aside)
    print(f"The earlier run is kept as {shown(aside)}.")


def shown(path: Path) -> str:
    """A path as the user would type it: relative to the current folder where it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def now() -> str:
    """The time, as it is written in records."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def seconds_of(time: str) -> float:
    """A record's time as seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp()
