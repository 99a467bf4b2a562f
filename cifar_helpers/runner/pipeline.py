"""The notebooks in order: which to run, with what, into which folder, and how it went."""

import contextlib
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path

from cifar_helpers.errors import UserError, user_path
from cifar_helpers.files import json_hash as digest
from cifar_helpers.hardware import cores
from cifar_helpers.runner import execution, options, progress
from cifar_helpers.runner.execution import Job
from cifar_helpers.runner.options import Arguments, Notebook, Request
from cifar_helpers.runner.runs import Study, folder_of, hold, now, open_run, seconds_of, shown

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "runs"

# Without flags the run is the full one, with as many seeds as each notebook says for itself.
FULL = {
    "epochs": 0,
    "train_size": 0,
    "image_size": [96, 224],
    "recipes": ["reference", "improved"],
}
QUICK_SEEDS = [0]
# In a quick pass transfer learning does less of all else too: one epoch of fine-tuning at 224 pixels
# takes a CPU an hour.
QUICK_IMAGE_SIZE = [64, 96]
QUICK_TRANSFER_TRAIN_SIZE = 10_000
QUICK_TOY_TRAIN_SIZE = 4_000

SUCCESS, FAILURE, MISUSE, INTERRUPTED = 0, 1, 2, 130
POLL = 0.5  # seconds between looks at how far the notebooks are


def run(arguments: Arguments, *, notebooks_dir: Path = NOTEBOOKS, runs_dir: Path = RUNS) -> int:
    """Run the study as asked.

    Args:
        arguments: what was asked for; checked here, before anything is created or started.
        notebooks_dir: folder with the notebooks.
        runs_dir: where run folders go that `arguments.out` does not name.

    Returns:
        The exit status: 0 all ran, 1 a notebook failed, 2 bad arguments, 130 interrupted.
    """
    try:
        with _signals_interrupt():
            request = options.check(arguments, Path(notebooks_dir))
            inputs = _prepare_inputs(request)
            folder = folder_of(request, inputs, Path(runs_dir))
            with _executor(request.arguments) as (executor, workers), hold(folder, request):
                jobs = {
                    each.name: _job(each, request, inputs, folder) for each in request.notebooks
                }
                study = open_run(folder, request, inputs, jobs)
                return _run_study(study, executor, workers)
    except UserError as error:
        print(f"run_all.py: error: {error}", file=sys.stderr)
        return MISUSE
    except OSError as error:
        where = f" ({shown(Path(error.filename))})" if error.filename else ""
        print(
            f"run_all.py: error: the run cannot go on: {error.strerror or error}{where}. What is "
            "finished is kept; when it is mended, the same command continues.",
            file=sys.stderr,
        )
        return FAILURE
    except KeyboardInterrupt:
        print("Interrupted. The same command again continues.", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def _signals_interrupt():
    """Let the signals that end a process, or its terminal, do what Ctrl-C does."""
    names = ("SIGTERM", "SIGHUP")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        signals = []  # only the main thread may

    def interrupt(*_):
        raise KeyboardInterrupt

    # Who has them ignored, as nohup does, wants to go on.
    before = {each: signal.getsignal(each) for each in signals}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    for each in before:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _run_study(study: Study, executor: Executor, workers: int) -> int:
    """Announce, execute, report."""
    try:
        _announce(study)
        execute(study, executor, workers)
    except BaseException:
        for line in _interrupted(study):
            print(line, file=sys.stderr)
        with contextlib.suppress(OSError):  # a full disk, which the error tells of
            study.stop()
        raise
    study.finish()
    failed = [name for name in study.jobs if study.entry(name)["status"] == "failed"]
    _report(study, failed)
    return FAILURE if failed else SUCCESS


# Inputs


def _prepare_inputs(request: Request) -> dict:
    """Make sure that data and weights are there, once, before several notebooks ask for them.

    Returns:
        The data's `dataset` ("cifar10" or "toy"), `name`, `real`, `verified`, `sha256` and
        `notice`, and if a notebook needs them the `weights` (`backbone`, `origin`, `sha256`,
        `notice`); empty if no notebook of the run reads data.
    """
    if not any("dataset" in notebook.types for notebook in request.notebooks):
        return {}
    print("Checking the data ...", flush=True)
    arguments = request.arguments
    weights = None
    if any("weights_file" in notebook.types for notebook in request.notebooks):
        weights = (arguments.backbone or "auto", _absolute(arguments.weights_file))
    data_dir = _absolute(arguments.data_dir)
    return execution.run_apart(resolve_inputs, arguments.dataset or "auto", data_dir, weights)


def resolve_inputs(dataset: str, data_dir: str, weights: tuple[str, str] | None) -> dict:
    """Check data and weights by loading them; imports Keras.

    Args:
        dataset: one of `options.DATASETS`.
        data_dir: folder or archive, or "".
        weights: backbone and weights file to check, or None where no notebook needs any.

    Returns:
        As for `_prepare_inputs`.

    Raises:
        UserError: if the data or weights that were asked for cannot be had.
    """
    from cifar_helpers import data
    from cifar_helpers.models import backbones

    source = data.load(dataset, data_dir=data_dir).source
    found = {
        "dataset": "cifar10" if source.real else "toy",
        **source.as_dict(),
        "notice": source.notice(),
    }
    if weights:
        resolved = backbones.resolve(*weights)
        found["weights"] = {**resolved.as_dict(), "notice": resolved.notice()}
    return found


def _absolute(path: str | None) -> str:
    return str(user_path(path).resolve()) if path else ""


@contextlib.contextmanager
def _executor(arguments: Arguments):
    """Where notebooks run, and how many at the same time."""
    if arguments.scheduler:
        with execution.cluster_executor(arguments.scheduler) as (executor, workers):
            yield executor, workers
    else:
        with execution.local_executor() as executor:
            yield executor, arguments.workers


# Jobs


def _job(notebook: Notebook, request: Request, inputs: dict, folder: Path) -> Job:
    return Job(
        name=notebook.name,
        source=notebook.path.resolve(),
        output=folder / "notebooks" / f"{notebook.name}.ipynb",
        parameters=notebook_parameters(notebook, request, inputs, folder),
        environment=_environment(request.arguments),
        cell_timeout=request.arguments.cell_timeout,
        log=folder / "notebooks" / f"{notebook.name}.log",
    )


def notebook_parameters(
    notebook: Notebook, request: Request, inputs: dict, folder: Path
) -> dict[str, object]:
    """What is passed to a notebook: of all that was given, the parameters that it has.

    Paths are relative to the executed notebook, which runs where it lies: its page then shows no
    path of this machine, and the run's folder can be moved.
    """
    values = FULL | _quick_values(notebook, request, inputs) | request.arguments.given()
    values |= request.parameters
    if inputs:
        values["dataset"] = inputs["dataset"]
    if not inputs.get("real"):
        values.pop("data_dir", None)
    for name in ("data_dir", "weights_file"):
        if name in values:
            values[name] = _relative(_absolute(values[name]), folder / "notebooks")
    values["out"] = ".."
    return {name: values[name] for name in notebook.types if name in values}


def _quick_values(notebook: Notebook, request: Request, inputs: dict) -> dict:
    """The smaller work of a quick pass: one seed and, in transfer learning, smaller images."""
    if not request.arguments.is_quick:
        return {}
    if "image_size" not in notebook.types:
        return {"seeds": QUICK_SEEDS}
    train_size = QUICK_TRANSFER_TRAIN_SIZE if inputs.get("real") else QUICK_TOY_TRAIN_SIZE
    return {"seeds": QUICK_SEEDS, "image_size": QUICK_IMAGE_SIZE, "train_size": train_size}


def _relative(path: str, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return path


def _environment(arguments: Arguments) -> dict[str, str]:
    """Variables for the kernels; those that the user has set stay."""
    variables = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if arguments.workers > 1 and not arguments.scheduler:
        threads = str(max(1, cores() // arguments.workers))
        variables |= {name: threads for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")}
    variables = {name: os.environ.get(name, value) for name, value in variables.items()}
    # The kernel runs in another folder: what is relative to this one must be made absolute.
    for name in ("CIFAR10_DIR", "CIFAR_HELPERS_CACHE", "KERAS_HOME"):
        if os.environ.get(name):
            variables[name] = _absolute(os.environ[name])
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in paths)
    return variables


def _job_hash(study: Study, notebook: Notebook) -> str:
    """Names all that decides a notebook's outcome: its cells, parameters and what it reads."""
    cells = [cell["source"] for cell in notebook.cells if cell["cell_type"] == "code"]
    read = [study.inputs.get("sha256")]
    if "weights" in study.inputs and "weights_file" in notebook.types:
        read.append(study.inputs["weights"]["sha256"])
    if notebook.is_comparison:
        read.append(_records(study))
    return digest([cells, study.jobs[notebook.name].parameters, read])


def _records(study: Study, model: str = "*") -> dict[str, str]:
    """The SHA-256 of each record, and of its predictions, by their places below `results/`."""
    folder = study.folder / "results"
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(f"{model}/*/seed*.*"))
    }


# Execution


def execute(study: Study, executor: Executor, workers: int) -> None:
    """Run the notebooks that are not finished; the comparison when the others have ended.

    Args:
        study: what to run; its record is kept up to date.
        executor: where.
        workers: how many at the same time.
    """
    with progress.display() as display:

        def look() -> None:
            display.show(_rows(study))

        for last in (False, True):
            batch = [each for each in study.request.notebooks if each.is_comparison == last]
            _execute_batch(study, batch, executor, workers, look)


def _execute_batch(
    study: Study,
    batch: list[Notebook],
    executor: Executor,
    workers: int,
    look: Callable[[], None],
) -> None:
    waiting = [notebook for notebook in batch if not _skip(study, notebook)]
    running: dict[Future, tuple[str, float]] = {}
    look()
    while waiting or running:
        # No more than can start, so that "running" is true.
        while waiting and len(running) < workers:
            notebook = waiting.pop(0)
            future = _start(study, notebook, executor)
            running[future] = notebook.name, time.monotonic()
        look()
        ended, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in ended:
            name, started = running.pop(future)
            _end(study, name, future, time.monotonic() - started)
        look()


def _skip(study: Study, notebook: Notebook) -> bool:
    """Whether the notebook has finished, in an earlier sitting, with the same inputs.

    And whether all its records are still as it left them: without one it would be missing from the
    comparison.
    """
    entry, job = study.entry(notebook.name), study.jobs[notebook.name]
    same = entry.get("parameters_hash") == _job_hash(study, notebook)
    if notebook.model:
        kept = entry.get("records", {})
        same = same and kept.items() <= _records(study, notebook.model).items()
    if entry["status"] == "finished" and same and job.output.exists():
        study.skipped.add(notebook.name)
        return True
    study.record["notebooks"][notebook.name] = {"status": "waiting"}
    return False


def _start(study: Study, notebook: Notebook, executor: Executor) -> Future:
    job = study.jobs[notebook.name]
    study.note(
        notebook.name,
        status="running",
        started=now(),
        parameters=job.parameters,
        parameters_hash=_job_hash(study, notebook),
    )
    try:
        return executor.submit(execution.execute_notebook, job)
    except BrokenExecutor as error:
        future: Future = Future()
        future.set_exception(error)
        return future


def _end(study: Study, name: str, future: Future, seconds: float) -> None:
    """Write down how a notebook ended."""
    job, error = study.jobs[name], future.exception()
    if error is None:
        outcome = future.result()
    else:
        outcome = {"seconds": round(seconds, 1), "failed_cell": _without_cell(error)}
    failed = "failed_cell" in outcome
    output = job.failed if failed else job.output
    model = next(each.model for each in study.request.notebooks if each.name == name)
    if model and not failed:
        outcome["records"] = _records(study, model)
    study.note(
        name,
        status="failed" if failed else "finished",
        output=output.relative_to(study.folder).as_posix() if output.exists() else None,
        **outcome,
    )


def _without_cell(error: BaseException) -> dict:
    """What is known where the process that ran a notebook died, or could not be reached."""
    message = str(error)
    if isinstance(error, BrokenExecutor):
        message = (
            "the process that ran the notebook was killed; often for want of memory: fewer "
            "--workers or smaller images need less"
        )
    return {"number": None, "source": "", "error": type(error).__name__, "message": message}


def _rows(study: Study) -> list[progress.Row]:
    return [_row(study, notebook) for notebook in study.request.notebooks]


def _row(study: Study, notebook: Notebook) -> progress.Row:
    entry = study.entry(notebook.name)
    status, seconds, detail = entry["status"], entry.get("seconds"), ""
    if status == "running":
        started = seconds_of(entry["started"])
        seconds = max(0.0, time.time() - started)
        detail = progress.watch(study.folder, notebook.model, started) or ""
    elif status == "failed":
        detail = failure(entry)
    elif notebook.name in study.skipped:
        seconds, detail = None, "in an earlier run of this command"
    return progress.Row(notebook.name, status, seconds, detail)


def failure(entry: dict) -> str:
    """What went wrong in a failed notebook, in one line."""
    cell = entry["failed_cell"]
    where = "" if cell["number"] is None else f"cell {cell['number']} ({cell['source']}): "
    return f"{where}{cell['error']}: {cell['message']}"


# What the terminal is told


def _interrupted(study: Study) -> list[str]:
    """Which notebooks were running, and how far they were."""
    lines = []
    for row in _rows(study):
        if row.status == "running":
            detail = f": {row.detail}" if row.detail else ""
            lines.append(f"{row.name} was running{detail}.")
    return lines


def _announce(study: Study) -> None:
    arguments = study.request.arguments
    print(f"Run folder: {shown(study.folder)}")
    if study.inputs:
        print(study.inputs["notice"])
    if "weights" in study.inputs:
        print(study.inputs["weights"]["notice"])
    for name in study.request.idle:
        print(f"{name} is left out: it has none of the recipes asked for.")
    if study.record["quick"]:
        cap = "1 epoch" if arguments.epochs == 1 else f"{arguments.epochs} epochs"
        seeds = "" if arguments.seeds else ", and each recipe is trained with one seed"
        print(f"Quick pass: every training phase is capped at {cap}{seeds}.")
        for notebook in study.request.notebooks:
            _announce_quick(study, notebook)
    sys.stdout.flush()


def _announce_quick(study: Study, notebook: Notebook) -> None:
    values = _quick_values(notebook, study.request, study.inputs)
    words = {
        "image_size": "at {} pixels".format(" and ".join(map(str, QUICK_IMAGE_SIZE))),
        "train_size": f"on {values.get('train_size', 0):,} training images",
    }
    flags = {"image_size": "--image-size 96 224", "train_size": "--train-size 50000"}
    given = study.request.arguments
    less = [name for name in words if name in values and getattr(given, name) is None]
    if not less:
        return
    print(
        f"{notebook.name} runs {' '.join(words[name] for name in less)}; "
        f"add {' '.join(flags[name] for name in less)} for the full size."
    )


def _report(study: Study, failed: list[str]) -> None:
    """Write the HTML pages and print the summary."""
    from cifar_helpers.runner import report

    table, problem = report.results_rows(study.folder)
    if study.request.arguments.html:
        report.write_pages(study.folder, study.record, table)
        study.save()
    report.print_results(table)
    if problem:
        print(problem)
    for name in failed:
        entry = study.entry(name)
        print(f"{name} failed in {failure(entry)}")
        if entry["output"]:
            print(f"  see {shown(study.folder / entry['output'])}")
    if failed:
        print("The same command again runs what failed; what is finished is skipped.")
    if study.request.arguments.html:
        print(f"Report: {shown(study.folder / 'html' / 'index.html')}")
