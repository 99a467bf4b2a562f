"""One notebook in one kernel, and the processes in which notebooks run."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cifar_helpers.errors import UserError
from cifar_helpers.text import first_line

START_TIMEOUT = 180  # seconds; a first import of TensorFlow from a cold disk is slow
IOPUB_TIMEOUT = 60  # seconds
STOP_TIMEOUT = 15  # seconds that a worker has to end its kernel


@dataclass(frozen=True)
class Job:
    """One notebook with its parameters: the unit of work, here or on a cluster.

    Attributes:
        name: of the notebook, without ending.
        source: the notebook as committed.
        output: where the executed notebook goes; it runs in this folder.
        parameters: for papermill.
        environment: variables for the kernel.
        cell_timeout: seconds a cell may take; None for no limit.
        log: file for what the kernel writes outside the notebook.
    """

    name: str
    source: Path
    output: Path
    parameters: dict
    environment: dict[str, str]
    cell_timeout: int | None
    log: Path

    @property
    def failed(self) -> Path:
        """Where the notebook is kept if it fails."""
        return self.output.with_suffix(".failed.ipynb")


def execute_notebook(job: Job) -> dict:
    """Run a notebook; move it to its final name if all its cells ran.

    Args:
        job: what to run.

    Returns:
        `seconds`, and if it failed `failed_cell`: `number` (position in the source notebook, from
        1; None if it failed outside a cell), `source` (the cell's first line), `error`, `message`.
    """
    started = time.monotonic()
    partial = job.output.with_suffix(".partial.ipynb")
    reached: dict = {}
    job.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        _papermill(job, partial, reached)
        _keep(partial, job.output)
    except Exception as error:
        failed = _failed_cell(error, reached)
        with contextlib.suppress(OSError):  # where nothing can be written, the record must do
            _keep(partial, job.failed, reached, error)
        partial.unlink(missing_ok=True)
        return {"seconds": round(time.monotonic() - started, 1), "failed_cell": failed}
    job.failed.unlink(missing_ok=True)
    job.log.unlink(missing_ok=True)
    return {"seconds": round(time.monotonic() - started, 1)}


def _papermill(job: Job, partial: Path, reached: dict) -> None:
    import papermill

    def note(cell, cell_index):
        reached.update(cell=cell, index=cell_index)
        if "injected-parameters" in cell.metadata.get("tags", []):
            reached["injected"] = cell_index

    with _kernel_log(job.log) as log:
        papermill.execute_notebook(
            _literal_path(job.source),
            _literal_path(partial),
            parameters=job.parameters,
            kernel_name="python3",
            kernel_manager_class=_kernel_manager(job, log),
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            iopub_timeout=IOPUB_TIMEOUT,
            execution_timeout=job.cell_timeout,
            on_cell_start=note,
        )


def _literal_path(path: Path) -> str:
    # Papermill formats paths with the parameters: braces must be doubled to stand for themselves.
    return str(path).replace("{", "{{").replace("}", "}}")


def _kernel_manager(job: Job, log) -> type:
    """The manager of a kernel of this interpreter, whatever "python3" is elsewhere on the machine.

    Starting it here, not through papermill's `cwd`, also leaves this process's folder alone, so
    that a cluster's worker may run notebooks in threads.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class InterpreterKernelManager(AsyncKernelManager):
        @property
        def kernel_spec(self):
            # Only errors: a warning would stand in the log of every kernel.
            return KernelSpec(**get_kernel_dict(extra_arguments=["--log-level=ERROR"]))

        async def start_kernel(self, **options):
            options |= {
                "cwd": str(job.output.parent),
                "env": {**os.environ, **job.environment},
                "stdout": log,
                "stderr": log,
            }
            await super().start_kernel(**options)

    return InterpreterKernelManager


@contextlib.contextmanager
def _kernel_log(path: Path):
    """A file for the kernel's last words; removed if there were none."""
    try:
        with open(path, "wb") as file:
            yield file
    finally:
        if path.stat().st_size == 0:
            path.unlink()


def _keep(partial: Path, target: Path, reached: dict | None = None, error=None) -> None:
    """Move an executed notebook to its name, without the paths of this machine in its metadata."""
    import nbformat

    if not partial.exists():
        return
    notebook = nbformat.read(partial, as_version=4)
    for key in ("input_path", "output_path"):
        if key in notebook.metadata.get("papermill", {}):
            notebook.metadata.papermill[key] = target.name
    if error is not None and reached and not _shows_error(notebook):
        # A cell that ran out of time or lost its kernel has no error output of its own.
        output = nbformat.v4.new_output(
            "error", ename=type(error).__name__, evalue=str(error), traceback=[first_line(error)]
        )
        notebook.cells[reached["index"]].outputs.append(output)
    nbformat.write(notebook, partial)
    os.replace(partial, target)


def _shows_error(notebook) -> bool:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return any(output.output_type == "error" for output in outputs)


def _failed_cell(error: Exception, reached: dict) -> dict:
    cell = reached.get("cell")
    message = first_line(getattr(error, "evalue", None) or error)
    if type(error).__name__ == "DeadKernelError":
        message += "; often for want of memory: fewer --workers or smaller images need less"
    return {
        "number": _source_number(reached),
        "source": (cell.source.strip() or " ").splitlines()[0] if cell else "",
        "error": getattr(error, "ename", None) or type(error).__name__,
        "message": message,
    }


def _source_number(reached: dict) -> int | None:
    """The reached cell's position in the source notebook, which lacks the injected cell."""
    if not reached:
        return None
    index = reached["index"]
    return index + 1 - (reached.get("injected", index) < index)


# Where notebooks run


class _Processes(Executor):
    """Runs each call in a process of its own, so that the death of one is nobody else's."""

    def submit(self, function, /, *arguments) -> Future:
        """Start the process; it ends with the call."""
        pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
        )
        future = pool.submit(function, *arguments)
        pool.shutdown(wait=False)
        return future


@contextlib.contextmanager
def local_executor():
    """Processes of this machine; on an interruption they end their kernels before this returns.

    Yields:
        An executor that starts at once whatever it is given.
    """
    before = set(multiprocessing.active_children())
    try:
        yield _Processes()
    except BaseException:
        _stop(set(multiprocessing.active_children()) - before)
        raise


def _begin_worker() -> None:
    # Ctrl-C goes to the whole process group; the runner alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Unlike the default, SystemExit lets nbclient shut its kernel down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    # What it has to say is in the outcome; on the terminal it would cut through the display.
    logging.getLogger("papermill").addHandler(logging.NullHandler())


def _end_with_the_runner() -> None:
    """End this process, and with it its kernel, when the runner was killed."""
    runner = multiprocessing.parent_process()
    multiprocessing.connection.wait([runner.sentinel])
    # The runner also ends in good order while a process that has done its work is on its way out.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT)
    os._exit(128 + signal.SIGTERM)


def _stop(workers: set) -> None:
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    try:
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
    finally:  # also when Ctrl-C comes again
        for worker in workers:
            if worker.is_alive():
                # Its kernel notices within a second that its parent is gone, and ends.
                worker.kill()


@contextlib.contextmanager
def cluster_executor(address: str):
    """Workers of a Dask cluster that shares the file system with this machine.

    Args:
        address: of the scheduler.

    Yields:
        An executor, and how many notebooks it runs at the same time.

    Raises:
        UserError: if `distributed` is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "--scheduler needs the package distributed; install the [cluster] extra: "
            'pip install -e ".[cluster]".'
        ) from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {address} does not answer: {first_line(error)}.") from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UserError(f"--scheduler {address} has no workers; start some first.")
        yield client.get_executor(pure=False), threads


def run_apart(function, *arguments):
    """Call a function in a process of its own and return what it returns.

    For work that imports Keras or fills memory, which the runner itself should not.

    Raises:
        OSError: if the process was killed.
    """
    with local_executor() as executor:
        try:
            return executor.submit(function, *arguments).result()
        except BrokenExecutor as error:
            raise OSError(
                "the process that checks data and weights was killed, often for want of memory: "
                "about 1 GB must be free"
            ) from error
