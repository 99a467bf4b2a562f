"""A run from its options to its report, step by step."""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from datetime import datetime
from pathlib import Path
from typing import Any

from cifar_helpers import files
from cifar_helpers.errors import UserError
from cifar_helpers.models import BACKBONE_VARIABLE
from cifar_helpers.runner import progress
from cifar_helpers.runner.estimates import seconds_left
from cifar_helpers.runner.execution import execute_notebook
from cifar_helpers.runner.inputs import Inputs, find_data, find_precisions, find_weights
from cifar_helpers.runner.notebooks import choose_notebooks, find_notebooks, with_wanted_recipes
from cifar_helpers.runner.options import Options, check
from cifar_helpers.runner.plan import ROOT, Job, kernel_environment, make_plan, run_folder
from cifar_helpers.runner.processes import Processes, open_processes, signals_interrupt
from cifar_helpers.runner.record import Record, earlier_choices, hold, open_record, shown
from cifar_helpers.runner.schedule import train_all
from cifar_helpers.runner.trainings import Training, is_done, plan_trainings
from cifar_helpers.runner.workers import connect, open_workers
from cifar_helpers.text import listed, percent

SUCCESS, FAILURE, MISUSE, INTERRUPTED = 0, 1, 2, 130
POLL = 0.5  # seconds between looks at how far the notebooks are


def run(
    options: Options,
    *,
    notebooks_dir: Path = ROOT / "notebooks",
    runs_dir: Path = ROOT / "runs",
) -> int:
    """Run the study as asked.

    Args:
        options: what was asked for; checked here, before anything is created or started.
        notebooks_dir: folder with the notebooks.
        runs_dir: where run folders go that `options.out` does not name.

    Returns:
        The exit status: 0 all ran; 1 a notebook failed, the disk filled up, or a check of published
        records disagreed; 2 refused; 130 interrupted.
    """
    # What is there may also be the run that was to be replaced.
    again = "without --fresh, the same command" if options.fresh else "the same command again"
    try:
        with signals_interrupt():
            return _run_steps(options, notebooks_dir, runs_dir)
    except UserError as error:
        print(f"run_all.py: error: {error}", file=sys.stderr)
        return MISUSE
    except OSError as error:
        where = f" ({shown(Path(error.filename))})" if error.filename else ""
        print(
            f"run_all.py: error: the run cannot go on: {error.strerror or error}{where}. What is "
            f"finished is kept; once the cause is removed, {again} continues.",
            file=sys.stderr,
        )
        return FAILURE
    except KeyboardInterrupt:
        print(f"Interrupted. {again.capitalize()} continues.", file=sys.stderr)
        return INTERRUPTED


def _run_steps(options: Options, notebooks_dir: Path, runs_dir: Path) -> int:
    chosen = choose_notebooks(find_notebooks(notebooks_dir), options.notebooks)
    options = check(options, chosen)
    if options.check_published is not None:
        return _check_published(options, runs_dir / "check-published")
    notebooks = with_wanted_recipes(chosen, options.recipes, named=bool(options.notebooks))
    data = find_data(options, notebooks)
    options = options.at_full_size(data.get("images", 0))
    folder = run_folder(options, data, runs_dir)
    # No more than there are trainings, which would only have fewer threads each.
    workers = max(1, min(options.processes, len(plan_trainings(notebooks, options, Inputs(data)))))
    environment = kernel_environment(workers, shared=not options.scheduler)
    backbone, precisions = ("", {}) if options.fresh else earlier_choices(folder)
    inputs = Inputs(
        data,
        find_weights(options, notebooks, backbone),
        find_precisions(options, notebooks, folder, precisions, environment),
    )
    environment[BACKBONE_VARIABLE] = inputs.backbone or options.backbone or backbone
    jobs = make_plan(notebooks, options, inputs, folder, environment)
    trainings = plan_trainings(notebooks, options, inputs)
    with (
        connect(options.scheduler) as client,
        hold(folder, fresh=options.fresh),  # until the processes that write into it have ended
    ):
        record = open_record(folder, options, inputs, jobs)
        idle = [notebook.name for notebook in chosen if notebook not in notebooks]
        overview = Overview(record, trainings, jobs)
        with _stopped_if_interrupted(overview):
            _announce(record, inputs, idle)
            for model in (job.model for job in jobs if job.model and not record.skip(job)):
                progress.forget(folder, model)
            if client or workers > 1:
                train(overview, client, workers, environment)
            with open_processes() as executor:
                execute(overview, executor, workers)
        record.finish()
        return _report(record, jobs, html=options.html)


def _check_published(options: Options, folder: Path) -> int:
    from cifar_helpers.results import published
    from cifar_helpers.runner.check import check_rows, choose_rows

    if ignored := options.flags(but=("check_published", "data_dir", "fresh")):
        raise UserError(
            "--check-published trains a row as its records say, in its own folder, and takes "
            f"--data-dir and --fresh alone; leave {listed(ignored)} out."
        )
    checks = choose_rows(options.check_published or (), published())
    os.environ.update(kernel_environment(1, shared=False))
    with hold(folder, fresh=options.fresh):
        return SUCCESS if check_rows(checks, options, folder) else FAILURE


@contextlib.contextmanager
def _stopped_if_interrupted(overview: "Overview"):
    """Say and write down what was running when the run comes to an end before its time."""
    record = overview.record
    try:
        yield
    except BaseException:
        notebooks = [_row(job, record) for job in overview.jobs]
        for row in (*overview.training_rows(overview.running), *notebooks):
            if row.status == "running":
                detail = f": {row.detail}" if row.detail else ""
                print(f"{row.name} was running{detail}.", file=sys.stderr)
        with contextlib.suppress(OSError):  # a full disk, which the error tells of
            record.stop()
        raise


# Execution


def train(overview: "Overview", client: Any, workers: int, environment: dict[str, str]) -> None:
    """Do the trainings of the notebooks that are not finished, several at a time, ahead of them.

    Args:
        overview: of the run.
        client: of a Dask cluster, or None for processes of this machine.
        workers: how many of these.
        environment: variables of theirs.
    """
    models = {job.model for job in overview.jobs if job.name not in overview.record.skipped}
    trainings = [
        each
        for each in overview.trainings
        # A teacher's answers are on this machine.
        if each.recipe.model in models and not (client and each.recipe.teacher)
    ]
    folder = overview.record.folder
    if client and any(folder.glob("results/*/*/*.json")):  # which its workers do not see
        trainings = [each for each in trainings if not is_done(each, str(folder))]
    if not trainings:
        return
    with (
        open_workers(client, workers, folder, trainings, environment) as opened,
        progress.open_display() as show,
    ):
        overview.workers = max(1, len(opened.names()))  # a cluster may have none for a moment
        failed = train_all(
            trainings, opened, lambda running: show(overview.training_rows(running), str(overview))
        )
    overview.running = ()
    overview.workers = 1
    for training, error in failed.items():
        print(f"{training.name} failed: {error}. Its notebook tries it once more.", flush=True)


def execute(overview: "Overview", executor: Processes, workers: int) -> None:
    """Run the jobs that are not finished, `workers` at a time, and keep the record up to date.

    Those that read records start when the others have ended.
    """
    jobs, record = overview.jobs, overview.record
    with progress.open_display() as show:
        for last in (False, True):
            batch = [job for job in jobs if job.reads_records == last]
            waiting = [job for job in batch if not record.skip(job)]
            running: dict[Future, tuple[Job, float]] = {}
            while waiting or running:
                # No more than can start, so that "running" is true.
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    running[_start(job, record, executor)] = job, time.monotonic()
                show([_row(job, record) for job in jobs], str(overview))
                ended, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
                for future in ended:
                    job, started = running.pop(future)
                    _end(job, record, future, time.monotonic() - started)
            show([_row(job, record) for job in jobs], str(overview))


def _start(job: Job, record: Record, executor: Processes) -> Future:
    record.note(
        job.name,
        status="running",
        started=files.now(),
        parameters=job.parameters,
        parameters_hash=record.job_hash(job),
    )
    return executor.submit(execute_notebook, job)


def _end(job: Job, record: Record, future: Future, seconds: float) -> None:
    """Write down how a notebook ended."""
    error = future.exception()
    if error is None:
        outcome = future.result()
    else:
        outcome = {"seconds": round(seconds, 1), "failed_cell": _without_cell(error)}
    failed = "failed_cell" in outcome
    output = job.failed if failed else job.output
    if job.model and not failed:
        outcome["records"] = record.results(job.model)
    record.note(
        job.name,
        status="failed" if failed else "finished",
        output=output.relative_to(record.folder).as_posix() if output.exists() else None,
        **outcome,
    )


def _without_cell(error: BaseException) -> dict[str, Any]:
    """What is known where the process that ran a notebook died, or could not be reached."""
    message = str(error)
    if isinstance(error, BrokenExecutor):
        message = (
            "the process that ran the notebook was killed; often for want of memory: fewer "
            "--workers or smaller images need less"
        )
    return {"number": None, "source": "", "error": type(error).__name__, "message": message}


# What the terminal is told


class Overview:
    """How far the trainings of a run are.

    Attributes:
        record: the run's.
        trainings: those that its notebooks need.
        jobs: its notebooks.
        workers: how many trainings run at the same time.
        running: those that run outside notebooks, as last shown.
    """

    def __init__(self, record: Record, trainings: Sequence[Training], jobs: Sequence[Job]):
        self.record, self.trainings, self.jobs = record, trainings, jobs
        self.workers = 1
        self.running: Sequence[Training] = ()
        self._seen: set[Training] = set()

    def __str__(self) -> str:
        """Trainings done of all and the time left, "" where there is none to do."""
        states = self._states()
        open_ = [each for each in self.trainings if states[each].get("status") != "finished"]
        if self.record.skipped.issuperset(job.name for job in self.jobs if job.model):
            return ""
        words = f"{len(self.trainings) - len(open_)} of {len(self.trainings)} training runs done"
        left = seconds_left(self.trainings, states, self.workers)
        if left is None or not open_:
            return words
        may_stop = any(each.recipe.may_stop for each in open_)
        return f"{words} · {progress.time_left(left, may_stop=may_stop)}"

    def training_rows(self, running: Sequence[Training]) -> list[progress.Row]:
        """A line for each training that runs, or has run in this command."""
        self.running = running
        self._seen.update(running)
        states, rows = self._states(), []
        for training in filter(self._seen.__contains__, self.trainings):
            state = states[training]
            if training in running:
                detail = progress.State.of(state) if state else ""
                rows.append(progress.Row(training.name, "running", None, detail))
            elif state.get("status") == "finished":
                kept = state.get("val_accuracy")
                words = "" if kept is None else f"validation {percent(kept)}"
                rows.append(progress.Row(training.name, "finished", None, words))
        return rows

    def _states(self) -> dict[Training, dict[str, Any]]:
        """What the progress files say of each training."""
        finished = {
            job.model
            for job in self.jobs
            if job.model and self.record.entry(job.name)["status"] == "finished"
        }
        rows = {
            (model, row["recipe"], row["seed"]): row
            for model in {each.recipe.model for each in self.trainings}
            for row in progress.read_rows(self.record.folder, model)
        }
        done = {"status": "finished"}
        return {
            each: rows.get((each.recipe.model, each.recipe.name, each.seed), {})
            | (done if each.recipe.model in finished else {})
            for each in self.trainings
        }


def _row(job: Job, record: Record) -> progress.Row:
    entry = record.entry(job.name)
    status, seconds = entry["status"], entry.get("seconds")
    detail: progress.State | str = ""
    if status == "running":
        seconds = max(0.0, time.time() - datetime.fromisoformat(entry["started"]).timestamp())
        detail = progress.find_training(record.folder, job.model) or ""
    elif status == "failed":
        detail = _describe_failure(entry)
    elif job.name in record.skipped:
        seconds, detail = None, "in an earlier run of this command"
    return progress.Row(job.name, status, seconds, detail)


def _describe_failure(entry: dict[str, Any]) -> str:
    """What went wrong in a failed notebook, in one line."""
    cell = entry["failed_cell"]
    where = "" if cell["number"] is None else f"cell {cell['number']} ({cell['source']}): "
    return f"{where}{cell['error']}: {cell['message']}"


def _announce(record: Record, inputs: Inputs, idle: Sequence[str]) -> None:
    lines = [f"Run folder: {shown(record.folder)}", *inputs.notices]
    lines += [f"{name} is left out: it has none of the recipes asked for." for name in idle]
    lines.append(record.content["reductions"])
    print("\n".join(filter(None, lines)), flush=True)


def _report(record: Record, jobs: Sequence[Job], *, html: bool) -> int:
    """Write the pages, print the results and what failed; gives the exit status."""
    from cifar_helpers.runner import report  # pandas and nbconvert take their time

    failed = [job.name for job in jobs if record.entry(job.name)["status"] == "failed"]
    found = report.read_results(record.folder)
    if html:
        report.write_pages(record.folder, record.content, found)
        record.save()
    report.print_results(found.rows)
    if found.problem:
        print(found.problem)
    for name in failed:
        entry = record.entry(name)
        print(f"{name} failed in {_describe_failure(entry)}")
        if entry["output"]:
            print(f"  see {shown(record.folder / entry['output'])}")
    if failed:
        without = " without --fresh" if record.content["arguments"].get("fresh") else ""
        print(f"The same command again{without} runs what failed; what is finished is skipped.")
    if html:
        print(f"Report: {shown(record.folder / 'html' / 'index.html')}")
    return FAILURE if failed else SUCCESS
