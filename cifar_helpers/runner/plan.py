"""What a run is to do: its folder, and each notebook with its parameters as a job."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_helpers import data, models
from cifar_helpers.errors import user_path
from cifar_helpers.files import json_hash
from cifar_helpers.hardware import cores, thread_variables
from cifar_helpers.runner.inputs import Inputs, absolute_path
from cifar_helpers.runner.notebooks import Notebook
from cifar_helpers.runner.options import PATHS, Options
from cifar_helpers.text import listed

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """One notebook with its parameters.

    Attributes:
        name: of the notebook, without ending.
        model: that it trains; None if it trains none.
        reads_records: whether it compares what the others record, and so runs after them.
        source: the notebook as committed.
        output: where the executed notebook goes; it runs in this folder.
        parameters: for papermill.
        inputs_hash: names all that decides its outcome, but the records that it reads.
        environment: variables for the kernel.
        cell_timeout: seconds a cell may take; None for no limit.
    """

    name: str
    model: str | None
    reads_records: bool
    source: Path
    output: Path
    parameters: dict[str, Any]
    inputs_hash: str
    environment: dict[str, str]
    cell_timeout: int | None

    @property
    def failed(self) -> Path:
        """Where the notebook is kept if it fails."""
        return self.output.with_suffix(".failed.ipynb")

    @property
    def log(self) -> Path:
        """Where what the kernel writes outside the notebook goes."""
        return self.output.with_suffix(".log")


def run_folder(options: Options, found: dict[str, Any], runs_dir: Path) -> Path:
    """The run's folder: `--out`, or one below `runs_dir` that the options name."""
    folder = user_path(options.out) if options.out else Path(runs_dir) / run_name(options, found)
    return folder.resolve()


def run_name(options: Options, found: dict[str, Any]) -> str:
    """The folder's name: the same for the same options, whichever notebooks are chosen."""
    words = [f"epochs-{options.epochs}" if options.epochs else "full"]
    if found and not found["real"]:
        words.insert(0, found["dataset"])
    # Where the data are does not matter, but what they are does.
    rest = options.changed("name") | options.others
    if found.get("real") and not found["verified"]:
        rest["data"] = found["sha256"]
    if rest:
        words.append(json_hash(rest)[:8])
    return "-".join(words)


def make_plan(
    notebooks: Sequence[Notebook],
    options: Options,
    inputs: Inputs,
    folder: Path,
    environment: dict[str, str],
) -> list[Job]:
    """A job for each notebook, those that read the others' records last."""
    sources = _sources_hash(ROOT / "cifar_helpers")
    picture = _digest(user_path(options.picture)) if options.picture else ""
    jobs = []
    for notebook in notebooks:
        parameters = notebook_parameters(notebook, options, inputs, folder)
        job = Job(
            name=notebook.name,
            model=notebook.model,
            reads_records=notebook.reads_records,
            source=notebook.path.resolve(),
            output=folder / "notebooks" / f"{notebook.name}.ipynb",
            parameters=parameters,
            inputs_hash=_inputs_hash(notebook, parameters, inputs, sources, picture),
            environment=environment,
            cell_timeout=options.cell_timeout,
        )
        jobs.append(job)
    return sorted(jobs, key=lambda job: job.reads_records)


def describe_reductions(options: Options, inputs: Inputs, jobs: Sequence[Job]) -> str:
    """What there is less of in a quick pass than in the full study, and how to have it whole."""
    if not options.is_quick:
        return ""
    cap = "1 epoch" if options.epochs == 1 else f"{options.epochs} epochs"
    reductions = [f"every training phase is capped at {cap}"]
    if not options.seeds:
        reductions.append("each recipe has one seed")
    shorter: dict[str, list[str]] = {}
    read = data.DATASETS.get(inputs.data.get("dataset", ""))
    for job in jobs:
        entry, words = models.MODELS.get(job.model or ""), []
        if entry and read and not options.train_size:
            images = entry.quick_images(read.quick_train_size)
            words.append(f"on {images:,} training images")
            if entry.quick_batch_size:
                words.append(f"in batches of {entry.quick_batch_size}")
        if entry and entry.quick_image_size and not options.image_size:
            words.append(f"at {' and '.join(map(str, entry.quick_image_size))} pixels")
        if words:
            shorter.setdefault(" ".join(words), []).append(job.name)
    reductions += [f"{listed(names)} {words}" for words, names in shorter.items()]
    full = "--full-size takes all images, as large as in the full study."
    return f"Quick pass: {'; '.join(reductions)}. {full if shorter else ''}".rstrip()


def notebook_parameters(
    notebook: Notebook, options: Options, inputs: Inputs, folder: Path
) -> dict[str, Any]:
    """What is passed to a notebook: of all that was asked for and found, what it has parameters for.

    Paths are relative to the executed notebook, which runs where it lies: its page then shows no
    path of this machine, and the run's folder can be moved.
    """
    values = options.for_notebooks()
    # By the names that were found, so that nothing can be found otherwise later.
    if inputs.data:
        values["dataset"] = inputs.data["dataset"]
    if inputs.backbone:
        values["backbone"] = inputs.backbone
    # One that was not settled is left to the records of the run's folder.
    asked = values.get("precision", "auto")
    values["precision"] = inputs.precisions.get(notebook.model or "", asked)
    read = data.DATASETS.get(inputs.data.get("dataset", ""))
    if read is None or not read.takes_copy:
        values.pop("data_dir", None)
    for name in PATHS:
        if name in values:
            values[name] = _relative(absolute_path(values[name]), folder / "notebooks")
    values["out"] = ".."
    values["train_anew"] = True
    return {name: values[name] for name in notebook.types if name in values}


def _relative(path: str, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return path


def _inputs_hash(
    notebook: Notebook, parameters: dict[str, Any], inputs: Inputs, sources: str, picture: str
) -> str:
    read: list[Any] = [inputs.data.get("sha256"), sources]
    if picture and "picture" in notebook.types:
        read.append(picture)
    if "backbone" in notebook.types:
        read += [each["sha256"] for each in inputs.weights]
    # Files count by what is in them, not by where they are.
    rest = {name: value for name, value in parameters.items() if name not in PATHS}
    return json_hash([notebook.code, rest, read])


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _sources_hash(package: Path) -> str:
    """Names the code that notebooks call: all of the package but the runner."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("runner/"):
            digest.update(f"{name}\0{_digest(path)}\n".encode())
    return digest.hexdigest()


def kernel_environment(workers: int, *, shared: bool) -> dict[str, str]:
    """Variables for the kernels, of which `workers` may share this machine's cores.

    Those that the user has set stay.
    """
    variables = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if workers > 1 and shared:
        variables |= thread_variables(cores() // workers)
    variables = {name: os.environ.get(name, value) for name, value in variables.items()}
    # The kernel runs in another folder: what is relative to this one must be made absolute.
    for name in ("CIFAR10_DIR", "CIFAR_HELPERS_CACHE", "KERAS_HOME"):
        if os.environ.get(name):
            variables[name] = absolute_path(os.environ[name])
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in paths)
    return variables
