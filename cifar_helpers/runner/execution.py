"""One notebook in one kernel."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cifar_helpers import files
from cifar_helpers.runner.notebooks import literal_path
from cifar_helpers.runner.plan import Job
from cifar_helpers.text import first_line

START_TIMEOUT = 180  # seconds; a first import of TensorFlow from a cold disk is slow
IOPUB_TIMEOUT = 60  # seconds


def execute_notebook(job: Job) -> dict:
    """Run a notebook; move it to its final name if all its cells ran.

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
        reached.clear()  # what fails from here on is no cell's fault
        _keep(partial, job.output)
    except Exception as error:
        failed = _failed_cell(error, reached)
        # Where nothing can be written, or only half of it was, the record must do.
        with contextlib.suppress(OSError, ValueError):
            _keep(partial, job.failed, reached, error)
        partial.unlink(missing_ok=True)
        return {"seconds": round(time.monotonic() - started, 1), "failed_cell": failed}
    job.failed.unlink(missing_ok=True)
    with contextlib.suppress(PermissionError):  # on Windows, where its kernel still has it open
        job.log.unlink(missing_ok=True)
    return {"seconds": round(time.monotonic() - started, 1)}


def _papermill(job: Job, partial: Path, reached: dict) -> None:
    import papermill

    def note(cell, cell_index):
        # The source notebook lacks the injected cell.
        number = cell_index + 1 - reached.get("injected", 0)
        reached.update(cell=cell, index=cell_index, number=number)
        if "injected-parameters" in cell.metadata.get("tags", []):
            reached["injected"] = 1

    with _kernel(job) as manager:
        papermill.execute_notebook(
            literal_path(job.source),
            literal_path(partial),
            parameters=job.parameters,
            kernel_name="python3",
            km=manager,
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            iopub_timeout=IOPUB_TIMEOUT,
            execution_timeout=job.cell_timeout,
            on_cell_start=note,
        )


# Kernels


@contextlib.contextmanager
def _kernel(job: Job) -> Iterator[Any]:
    """The manager of a notebook's kernel, which lives for the block."""
    manager = _kernel_manager()
    try:
        _start_kernel(manager, job)
        yield manager
    finally:
        _end_kernel(manager, job)


def _kernel_manager() -> Any:
    """The manager of a kernel of this interpreter, whatever "python3" is elsewhere on the machine."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    # Only errors: a warning would stand in the log of every kernel.
    arguments = ["--log-level=ERROR", "--HistoryManager.hist_file=:memory:"]

    class InterpreterKernelManager(AsyncKernelManager):
        opened = None

        @property
        def kernel_spec(self):
            return KernelSpec(**get_kernel_dict(extra_arguments=arguments))

        def client(self, **options):
            # nbclient leaves it open where it has not started the kernel itself.
            self.opened = super().client(**options)
            return self.opened

    return InterpreterKernelManager(kernel_name="python3")


def _start_kernel(manager: Any, job: Job) -> None:
    """Start the process; what it writes outside the notebook goes to the job's log.

    Its folder is set here, not through papermill's `cwd`, which changes this process's.
    """
    job.output.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **job.environment}
    with open(job.log, "wb") as log:
        folder = str(job.output.parent)
        _wait_for(manager.start_kernel, cwd=folder, env=environment, stdout=log, stderr=log)


def _end_kernel(manager: Any, job: Job) -> None:
    """End the process if it still runs; its log is removed if there is nothing in it."""
    if manager.has_kernel:
        _wait_for(manager.shutdown_kernel)
    if manager.opened:
        manager.opened.stop_channels()
    if job.log.exists() and job.log.stat().st_size == 0:
        job.log.unlink()


def _wait_for(function: Callable[..., Any], **options: Any) -> Any:
    """What a manager's method gives in the end."""
    from jupyter_client.utils import run_sync

    return run_sync(function)(**options)


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
    files.move(partial, target)


def _shows_error(notebook) -> bool:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return any(output.output_type == "error" for output in outputs)


def _failed_cell(error: Exception, reached: dict) -> dict:
    cell = reached.get("cell")
    message = first_line(getattr(error, "evalue", None) or error)
    if type(error).__name__ == "DeadKernelError":
        message += "; often for want of memory: fewer --workers or smaller images need less"
    return {
        "number": reached.get("number"),
        "source": (cell.source.strip() or " ").splitlines()[0] if cell else "",
        "error": getattr(error, "ename", None) or type(error).__name__,
        "message": message,
    }
