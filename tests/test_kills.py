"""Kill a toy run again and again at random moments; the same command must end in the same records.

`KILLS=10 python -m pytest tests/test_kills.py` does it ten times; by default it is three.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tiny_study import ROOT

from cifar_helpers import results

KILLS = int(os.environ.get("KILLS", "3"))
STUDY = ("--dataset", "toy", "--train-size", "500", "--epochs", "3", "--notebooks", "01", "05")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def start(folder: Path) -> subprocess.Popen:
    """The runner, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_all.py"), *STUDY, "--no-html", "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "CIFAR_HELPERS_CACHE": str(folder.parent / "cache")},
    )


def kill_one(process: subprocess.Popen, choose: random.Random) -> None:
    """Kill the runner, or a process that it has started, as a machine short of memory would."""
    try:
        runner = psutil.Process(process.pid)
        choose.choice([runner, runner, *runner.children(recursive=True)]).kill()
    except psutil.NoSuchProcess:
        pass  # it ended by itself in this moment


def end(process: subprocess.Popen, family: list) -> None:
    """Let the runner end, and wait for its processes to notice."""
    process.communicate(timeout=300)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def found(folder: Path) -> dict:
    """What each record says, without times and dates."""
    changing = ("seconds", "images_per_second", "created", "history")
    rows = {}
    for result in results.load_results(folder):
        record = {name: result.record[name] for name in result.record if name not in changing}
        losses = result.record["history"]["val_loss"]
        rows[record["model"], record["recipe"], record["seed"]] = record, losses, result
    return rows


def test_kills_at_random_moments_lose_nothing(tmp_path):
    started = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed")
    _, error = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, error.decode()
    whole = time.monotonic() - started

    seed = random.randrange(10**6)
    choose = random.Random(seed)
    print(f"seed {seed}; undisturbed it took {whole:.0f} s")
    folder = tmp_path / "killed"
    for number in range(KILLS):
        process = start(folder)
        # The later ones find less to do.
        time.sleep(choose.uniform(0.5, whole / (1 + 0.3 * number)))
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        kill_one(process, choose)
        end(process, family)
        print(f"kill {number + 1}: exit status {process.returncode}, {len(found(folder))} records")
        for path in folder.rglob("*.json"):
            json.loads(path.read_text())
    last = start(folder)
    _, error = last.communicate(timeout=600)
    assert last.returncode == 0, error.decode()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"

    expected, kept = found(tmp_path / "undisturbed"), found(folder)
    assert len(expected) == 2 and set(kept) == set(expected)
    for row, (record, losses, result) in expected.items():
        assert kept[row][0] == record
        assert kept[row][1] == losses
        np.testing.assert_array_equal(kept[row][2].probabilities, result.probabilities)
    assert process.returncode in (0, 1, -signal.SIGKILL)
