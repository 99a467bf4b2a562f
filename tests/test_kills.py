"""Kill a toy run again and again at random moments; the same command must end in the same records.

`KILLS=10 python -m pytest tests/test_kills.py` does it ten times to three of the study's notebooks;
by default it is once to a notebook that only trains.
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

KILLS = int(os.environ.get("KILLS", "1"))
STUDY = ("--dataset", "toy", "--train-size", "500", "--epochs", "3", "--precision", "float32")
STUDY += (
    ("--notebooks", "01", "--recipes", "improved", "--seeds", "0", "1")
    if KILLS < 10
    else ("--notebooks", "01", "02", "03", "05")
)
TRAININGS = 2 if KILLS < 10 else 8

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@pytest.fixture
def start(study, environment):
    """Starts the runner, in a process of its own."""
    study.add_training("01_baseline_cnn")
    command = [sys.executable, str(ROOT / "run_all.py")] if KILLS >= 10 else study.process()
    cache = {"CIFAR_HELPERS_CACHE": str(study.root / "cache")}

    def start(folder: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [*command, *STUDY, "--no-html", "--out", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment | cache,
        )

    return start


def kill_one(process: subprocess.Popen, choose: random.Random) -> str:
    """Kill the runner, or first a process that it has started; gives what was killed first."""
    try:
        runner = psutil.Process(process.pid)
        # Of the standard library, and nobody's loss.
        children = [
            each
            for each in runner.children(recursive=True)
            if "resource_tracker" not in " ".join(each.cmdline())
        ]
        chosen = choose.choice([runner, *children])
        chosen.kill()
        if chosen == runner:
            return "the runner"
        time.sleep(choose.uniform(0, 5))  # it says what failed, and goes on with the next notebook
        process.kill()
        return "a process of its"
    except psutil.NoSuchProcess:
        return "nobody"  # it ended by itself in this moment


def end(process: subprocess.Popen, family: list) -> None:
    """Let the runner end, and wait for its processes to notice."""
    process.communicate(timeout=300)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


def found(folder: Path) -> dict:
    """What each record says, without times and dates."""
    times = ("seconds", "images_per_second", "prediction_seconds_per_image", "created")
    changing = (*times, "history")
    rows = {}
    for result in results.load_results(folder):
        record = {name: result.record[name] for name in result.record if name not in changing}
        losses = result.record["history"]["val_loss"]
        rows[record["model"], record["recipe"], record["seed"]] = record, losses, result
    return rows


def test_kills_at_random_moments_lose_nothing(start, tmp_path):
    started = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed")
    while undisturbed.poll() is None and not list(tmp_path.glob("undisturbed/checkpoints/*/*/*")):
        time.sleep(0.1)
    until_training = time.monotonic() - started
    _, error = undisturbed.communicate(timeout=1_200)
    assert undisturbed.returncode == 0, error.decode()
    whole = time.monotonic() - started

    seed = random.randrange(10**6)
    choose = random.Random(seed)
    print(f"seed {seed}; undisturbed it took {whole:.0f} s, {until_training:.0f} to the training")
    folders, kills = [tmp_path / "killed-1"], 0
    while kills < KILLS:
        process = start(folders[-1])
        # So long that the work is about done after the last kill.
        at_most = until_training + min(2, KILLS) * (whole - until_training) / KILLS
        time.sleep(choose.uniform(0.5, at_most))
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        killed = kill_one(process, choose)
        end(process, family)
        assert process.returncode in (0, 1, -signal.SIGKILL)
        print(
            f"kill {kills + 1}, of {killed}: status {process.returncode}, {len(found(folders[-1]))} records"
        )
        for path in folders[-1].rglob("*.json"):
            json.loads(path.read_text())
        if process.returncode == 0:  # it was done before it could be killed: another one
            folders.append(tmp_path / f"killed-{len(folders) + 1}")
        else:
            kills += 1
    last = start(folders[-1])
    _, error = last.communicate(timeout=1_200)
    assert last.returncode == 0, error.decode()

    expected = found(tmp_path / "undisturbed")
    assert len(expected) == TRAININGS
    for folder in folders:
        assert json.loads((folder / "run.json").read_text())["status"] == "finished"
        kept = found(folder)
        assert set(kept) == set(expected)
        for row, (record, losses, result) in expected.items():
            assert kept[row][0] == record
            assert kept[row][1] == losses
            np.testing.assert_array_equal(kept[row][2].probabilities, result.probabilities)
