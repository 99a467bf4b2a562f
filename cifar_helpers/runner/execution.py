"""One notebook in one kernel."""

import contextlib
import os
import time
from pathlib import Path

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
        _keep(partial, job.output)
    except Exception as error:
        failed = _failed_cell(error, reached)
        # Where nothing can be written, or only half of it was, the record must do.
        with contextlib.suppress(OSError, ValueError):
            _keep(partial, job.failed, reached, error)
        partial.unlink(missing_ok=True)
        return {"seconds": round(time.monotonic() - started, 1), "failed_cell": failed}
    job.failed.unlink(missing_ok=True)
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

    with _kernel_log(job.log) as log:
        papermill.execute_notebook(
            literal_path(job.source),
            literal_path(partial),
            parameters=job.parameters,
            kernel_name="python3",
            kernel_manager_class=_kernel_manager(job, log),
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            iopub_timeout=IOPUB_TIMEOUT,
            execution_timeout=job.cell_timeout,
            on_cell_start=note,
        )


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

        async def start_kernel(self, **options):  # type: ignore[override]
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
        if path.exists() and path.stat().st_size == 0:
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
        "number": reached.get("number"),
        "source": (cell.source.strip() or " ").splitlines()[0] if cell else "",
        "error": getattr(error, "ename", None) or type(error).__name__,
        "message": message,
    }
