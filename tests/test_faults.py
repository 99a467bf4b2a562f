"""What may befall a run in the night: real processes, real signals, a disk that is really full."""

import ast
import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import filelock
import psutil
import pytest
from nbclient.exceptions import DeadKernelError
from tiny_study import ROOT, is_gone, without_kernels

from cifar_helpers.runner import execution, processes, record, steps

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@contextmanager
def running(study, environment, *words):
    """A runner that has come to the notebook that sleeps; gives the process."""
    process = subprocess.Popen(
        study.process("--no-html", *words),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )
    try:
        _wait_for(kernel_file(study))
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _heed_signals() -> None:
    """Undo what the tests' own surroundings ignore, the background or nohup: children inherit it."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def kernel_file(study) -> Path:
    """Where the notebook that sleeps writes the process number of its kernel."""
    return study.runs / "full" / "kernel.pid"


def _wait_for(path: Path) -> None:
    deadline = time.time() + 60
    while not (path.exists() and path.read_text()) and time.time() < deadline:
        time.sleep(0.1)


def no_half_files(folder: Path) -> bool:
    """Whether all that bears a final name can be read to its end."""
    names = [path for path in folder.rglob("*") if path.suffix in (".json", ".ipynb")]
    for path in names:
        if ".partial" not in path.name:
            json.loads(path.read_text())
    return True


@pytest.fixture
def sleepy(study):
    """A study whose first notebook sleeps and whose second would be done at once."""
    study.add("01_sleeps", "sleeps")
    study.add("02_records", "records_its_parameters")
    return study


def awake(study, *words) -> int:
    """The same command, with a first notebook that no longer sleeps; its exit status."""
    study.add("01_sleeps", "records_its_parameters")
    with without_kernels():
        return study.run("--no-html", *words)


# Signals


@pytest.mark.parametrize(
    ("name", "whole_group"),
    [("SIGINT", True), ("SIGTERM", False), ("SIGHUP", True)],
)
def test_a_signal_ends_the_kernel_and_the_command_continues(sleepy, environment, name, whole_group):
    with running(sleepy, environment) as process:
        send = os.killpg if whole_group else os.kill
        send(process.pid, getattr(signal, name))
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    running_then, ended = (
        "01_sleeps was running.\n",
        "Interrupted. The same command again continues.",
    )
    if name == "SIGHUP":
        # A terminal that closes also ends Python's own helper processes, whose complaints may
        # stand around our words.
        assert 0 <= err.find(running_then.strip()) < err.find(ended)
    else:
        assert err == f"{running_then}{ended}\n"
    assert is_gone(kernel_file(sleepy))
    assert sleepy.statuses() == {"01_sleeps": "interrupted", "02_records": "waiting"}
    assert no_half_files(sleepy.runs) and awake(sleepy, "--notebooks", "1") == 0
    assert sleepy.statuses()["01_sleeps"] == "finished"


def _leave_a_failed_watch() -> None:
    """What nbclient's watch over a kernel comes to, where the kernel takes long to shut down."""

    async def watch():
        raise DeadKernelError("Kernel died")

    async def shut_down():
        asyncio.ensure_future(watch())
        await asyncio.sleep(0)

    asyncio.run(shut_down())


def test_nothing_is_said_of_the_watch_over_a_kernel_that_is_shut_down(capfd):
    processes.run_apart(_leave_a_failed_watch)
    assert capfd.readouterr().err == ""


def test_a_killed_runner_leaves_no_process_and_no_lock(sleepy, environment):
    with running(sleepy, environment) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(family, timeout=60)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert is_gone(kernel_file(sleepy))
    assert sleepy.statuses()["01_sleeps"] == "running"  # nobody was left to write anything else
    assert no_half_files(sleepy.runs) and awake(sleepy) == 0
    assert set(sleepy.statuses().values()) == {"finished"}


def test_a_killed_worker_fails_its_notebook_alone(sleepy, environment):
    with running(sleepy, environment) as process:
        kernel = psutil.Process(int(kernel_file(sleepy).read_text()))
        kernel.parent().kill()
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "")
    assert "01_sleeps failed in BrokenProcessPool: the process that ran" in out
    assert is_gone(kernel_file(sleepy))
    assert sleepy.statuses() == {"01_sleeps": "failed", "02_records": "finished"}
    assert awake(sleepy) == 0


def test_a_killed_check_of_the_data_is_told(sleepy, monkeypatch, capfd):
    with pytest.raises(OSError, match="was killed, often for want of memory"):
        processes.run_apart(signal.raise_signal, signal.SIGKILL)

    def killed(*arguments):
        processes.run_apart(signal.raise_signal, signal.SIGKILL)

    monkeypatch.setattr(steps, "find_data", killed)
    assert sleepy.run("--no-html") == 1
    assert "the same command again continues" in capfd.readouterr().err


def test_a_killed_kernel_fails_its_notebook_alone(sleepy, environment):
    with running(sleepy, environment) as process:
        os.kill(int(kernel_file(sleepy).read_text()), signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "")
    assert "01_sleeps failed in cell 3 (import os): DeadKernelError: Kernel died" in out
    assert sleepy.statuses() == {"01_sleeps": "failed", "02_records": "finished"}
    assert awake(sleepy) == 0


# Other systems


def test_nothing_imports_at_its_top_what_windows_lacks():
    for path in [
        *ROOT.glob("*.py"),
        *ROOT.glob("benchmarks/*.py"),
        *ROOT.rglob("cifar_helpers/**/*.py"),
    ]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            assert not names & {"fcntl", "grp", "pwd", "resource", "termios"}, path.name


# The folder


def test_a_second_runner_in_the_same_folder_is_refused(sleepy, environment, capfd):
    with running(sleepy, environment) as process:
        before = (sleepy.runs / "full" / "run.json").read_bytes()
        for words in ((), ("--fresh",)):
            assert sleepy.run("--no-html", *words) == 2
            assert "full is in use by another run_all.py" in capfd.readouterr().err
        assert (sleepy.runs / "full" / "run.json").read_bytes() == before
        assert process.poll() is None
    assert awake(sleepy) == 0


def test_the_folder_is_held_until_the_runs_processes_have_ended(sleepy, monkeypatch):
    held = []

    def interrupted(*arguments):
        raise KeyboardInterrupt

    def stop(workers):
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(sleepy.runs / "full" / record.LOCK).acquire(timeout=0)
        held.append(True)

    monkeypatch.setattr(steps, "execute", interrupted)
    monkeypatch.setattr(processes, "_stop", stop)
    assert sleepy.run("--no-html") == 130
    assert held


def test_a_nearly_full_disk_is_refused_at_the_start(sleepy, monkeypatch, capfd):
    monkeypatch.setattr(record, "NEEDED_BYTES", 1e18)
    assert sleepy.run("--no-html") == 2
    assert "needs 1,000,000,000,000 MB" in capfd.readouterr().err
    assert not sleepy.runs.exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"status": "fin',
        "",
        "{}",
        "[1]",
        '{"settings": {}, "started": "2026-01-02", "notebooks": {"01_sleeps": {}}}',
        '{"settings": [], "started": "2026-01-02", "notebooks": {}}',
    ],
)
def test_a_damaged_record_of_the_run_is_not_overwritten(sleepy, capfd, content):
    path = sleepy.runs / "full" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert sleepy.run("--no-html") == 2
    assert "run.json of full cannot be read" in capfd.readouterr().err
    assert path.read_text() == content


def test_a_clock_set_back_makes_nothing_stale_or_new(study, capfd):
    study.add("01_records", "records_its_parameters")
    assert study.run() == 0
    folder = study.runs / "full"
    tomorrow = time.time() + 86_400  # what was the time when all of it was written
    for path in folder.rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    capfd.readouterr()
    assert study.run() == 0
    assert "01_records: finished · in an earlier run" in capfd.readouterr().out
    source = study.notebooks / "01_records.ipynb"
    source.write_text(source.read_text().replace('epochs:\\"', 'cap:\\"'))
    assert study.run() == 0
    assert "cap: 0" in (folder / "html" / "01_records.html").read_text()
    assert study.record()["notebooks"]["01_records"]["seconds"] >= 0


def test_two_fresh_runs_within_a_second_keep_both_earlier_ones(tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, tzinfo=tz)

    monkeypatch.setattr(record, "datetime", Stopped)
    for number in range(3):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "kept").write_text(str(number))
        record._rename(tmp_path / "full")
    kept = sorted(path.read_text() for path in tmp_path.glob("full.*/kept"))
    assert kept == ["0", "1", "2"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, where the machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small file system can be made here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_is_finished_is_kept(study, small_disk, monkeypatch, capfd):
    monkeypatch.setattr(record, "NEEDED_BYTES", 0)
    study.runs = small_disk
    study.add("01_records", "records_its_parameters")
    study.add("02_fills", "fills_the_disk")
    study.add("03_records", "records_its_parameters")
    folder = small_disk / "full"
    assert study.run("--no-html") == 1
    out, err = capfd.readouterr()
    assert "No space left on device" in out + err and "Traceback" not in out + err
    assert study.statuses()["01_records"] == "finished"
    assert study.statuses()["02_fills"] != "finished"
    assert no_half_files(folder)
    (folder / "filler").unlink()
    study.add("02_fills", "records_its_parameters")
    assert study.run("--no-html") == 0
    assert set(study.statuses().values()) == {"finished"}
    assert len(study.seen("full")) == 3  # the first was not run again


def test_half_a_notebook_on_a_full_disk_fails_by_its_cause_and_is_removed(tmp_path, monkeypatch):
    def full(job, partial, reached):
        partial.write_text('{"cells": [')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(execution, "_papermill", full)
    places = {name: tmp_path / f"x.{name}.ipynb" for name in ("output", "failed")}
    cell = execution.execute_notebook(SimpleNamespace(**places))["failed_cell"]
    assert (cell["number"], cell["message"]) == (None, "[Errno 28] No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_fails_after_the_last_cell_is_no_cells_fault(tmp_path, monkeypatch):
    def all_cells(job, partial, reached):
        reached.update(cell=SimpleNamespace(source="last"), index=46, number=46)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(execution, "_papermill", all_cells)
    monkeypatch.setattr(execution, "_keep", full)
    places = {name: tmp_path / f"x.{name}.ipynb" for name in ("output", "failed")}
    cell = execution.execute_notebook(SimpleNamespace(**places))["failed_cell"]
    assert (cell["number"], cell["source"]) == (None, "")


def test_a_disk_that_cannot_be_written_is_refused(study, small_disk, monkeypatch, capfd):
    monkeypatch.setattr(record, "NEEDED_BYTES", 0)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    study.add("01_records", "records_its_parameters")
    assert study.run("--no-html", "--out", str(small_disk / "here")) == 2
    assert "--out must be a folder that can be written" in capfd.readouterr().err
    study.runs = small_disk
    assert study.run("--no-html") == 2
    assert "must be one that can be written; received: Read-only" in capfd.readouterr().err
