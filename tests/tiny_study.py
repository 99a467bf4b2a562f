"""A study of tiny notebooks, for tests of the runner with real processes."""

import contextlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from unittest import mock

import nbformat

from cifar_helpers.runner import options, run, steps

FIXTURES = Path(__file__).with_name("notebooks")
ROOT = Path(__file__).resolve().parents[1]


class TinyStudy:
    def __init__(self, root: Path):
        self.root, self.notebooks, self.runs = root, root / "sources", root / "runs"
        self.notebooks.mkdir()

    def add(self, name: str, fixture: str) -> None:
        shutil.copy(FIXTURES / f"{fixture}.ipynb", self.notebooks / f"{name}.ipynb")

    def add_training(self, name: str) -> None:
        """A notebook that trains and evaluates, without figures: `01_baseline_cnn` or `02_vgg10`."""
        source = (FIXTURES / "trains_its_plan.ipynb").read_text()
        (self.notebooks / f"{name}.ipynb").write_text(source.replace("MODEL", name[3:]))

    def run(self, *words: str) -> int:
        asked = options.parse(list(words))
        return run(asked, notebooks_dir=self.notebooks, runs_dir=self.runs)

    def record(self, name: str = "full") -> dict:
        return json.loads((self.runs / name / "run.json").read_text())

    def statuses(self, name: str = "full") -> dict[str, str]:
        entries = self.record(name)["notebooks"]
        return {notebook: entry["status"] for notebook, entry in entries.items()}

    def seen(self, name: str) -> list[dict]:
        """The parameters that `records_its_parameters` was run with, each time."""
        return [
            json.loads(path.read_text()) for path in sorted((self.runs / name / "seen").iterdir())
        ]

    def add_foreign_kernel(self) -> None:
        """Another kernel that is called python3 and comes first on the search path."""
        folder = self.root / "jupyter" / "kernels" / "python3"
        folder.mkdir(parents=True)
        spec = {"argv": ["false"], "display_name": "another", "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))

    def process(self, *words: str) -> list[str]:
        """The command line that runs this study in a process of its own."""
        program = (
            "import sys, pathlib\n"
            "from cifar_helpers.runner import options, run\n"
            "if __name__ == '__main__':\n"
            "    sys.exit(run(options.parse(None),\n"
            f"        notebooks_dir=pathlib.Path({str(self.notebooks)!r}),\n"
            f"        runs_dir=pathlib.Path({str(self.runs)!r})))\n"
        )
        script = self.root / "run_tiny.py"
        script.write_text(program)
        return [sys.executable, str(script), *words]


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Notebooks run in this process: for tests of what goes on around them."""
    with mock.patch.object(steps, "open_processes", lambda: contextlib.nullcontext(_Inline())):
        yield


class _Inline:
    def submit(self, _, job) -> Future:
        future: Future = Future()
        future.set_result({"seconds": 0.0} | _run_cells(job))
        return future


def _run_cells(job) -> dict:
    job.output.parent.mkdir(parents=True, exist_ok=True)
    names, before = {}, os.getcwd()
    os.chdir(job.output.parent)
    cells = nbformat.read(job.source, as_version=4).cells
    try:
        for cell in cells:
            if cell.cell_type == "code":
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(cell.source, names)
                if "parameters" in cell.metadata.get("tags", ()):
                    names |= job.parameters
    except Exception as error:
        shutil.copy(job.source, job.failed)
        about = {"source": cell.source, "error": type(error).__name__, "message": str(error)}
        return {"failed_cell": {"number": cells.index(cell) + 1, **about}}
    finally:
        os.chdir(before)
    shutil.copy(job.source, job.output)
    job.failed.unlink(missing_ok=True)
    return {}


def is_gone(pid_file: Path) -> bool:
    """Whether the process whose id is in the file ends; it has half a minute, for busy machines."""
    pid = int(pid_file.read_text())
    for _ in range(300):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False
