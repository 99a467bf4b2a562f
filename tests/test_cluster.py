"""Trainings on a Dask cluster whose workers share no folder with the runner, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_study import ROOT

from cifar_helpers import results

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

STUDY = (
    *("--dataset", "toy", "--train-size", "300", "--epochs", "4", "--recipes", "improved"),
    *("--precision", "float32"),
    *("--seeds", "0", "1", "2", "-p", "deterministic=True", "--no-html"),
)
THREADS = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}


@pytest.mark.parametrize("address", ["foo://localhost:1", "tls://localhost:1"])
def test_an_address_that_cannot_be_connected_to_is_refused(address):
    # In a process of its own: a client that could not be made troubles later ones.
    program = f"from cifar_helpers.runner.workers import connect; connect({address!r})"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert f"UserError: --scheduler {address} does not answer" in ran.stderr


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> Path:
    """The folder with the homes of the cluster's processes."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(scope="module")
def cluster(homes):
    """The client of a scheduler with two workers of one thread, each in a home of its own."""
    started = []

    def start(name: str, *words: str) -> Path:
        home = homes / name
        home.mkdir()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CIFAR")},
            "HOME": str(home),
            "TMPDIR": str(home),
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
        }
        with open(home / "log", "wb") as log:
            command = [sys.executable, "-m", *words]
            started.append(
                subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
            )
        return home

    home = start(
        "scheduler",
        *("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
        *("--no-dashboard", "--scheduler-file", "scheduler.json"),
    )
    written = home / "scheduler.json"
    wait_for(lambda: written.exists() and written.read_text().endswith("}"))
    address = json.loads(written.read_text())["address"]
    for name in ("one", "two"):
        start(
            name,
            *("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"),
            *("--local-directory", "."),
        )
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=60)
        yield client
    for process in started:
        family = psutil.Process(process.pid).children(recursive=True)
        for each in (process, *family):
            each.kill()


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def runner(study, environment):
    """Starts the runner, in a process of its own."""
    study.add_training("01_baseline_cnn")
    cache = {"CIFAR_HELPERS_CACHE": str(study.root / "cache")}

    def start(folder: Path, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            study.process(*STUDY, "--out", str(folder), *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**environment, **THREADS, **cache},
        )

    return start


def trains(folder: Path, since: float) -> bool:
    """Whether a training has told of an epoch since a time."""
    return any(
        row["status"] == "running" and row["epoch"] >= 1
        for path in folder.glob("progress/*.json")
        if path.stat().st_mtime > since
        for row in json.loads(path.read_text())["trainings"]
    )


def records(folder: Path, *names: str) -> dict:
    """Fields of the records, by seed."""
    return {
        each.record["seed"]: [each.record[name] for name in names]
        for each in results.load_results(folder)
    }


def test_what_dies_on_a_cluster_is_trained_elsewhere_and_the_same_command_continues(
    cluster, homes, runner, tmp_path
):
    address = cluster.scheduler.address
    folder = tmp_path / "run"
    first = runner(folder, "--scheduler", address)
    wait_for(lambda: results.load_results(folder) != [])
    first.kill()
    first.wait()
    done = records(folder, "created")
    assert 1 <= len(done) < 3, "so that there is something to continue"
    wait_for(lambda: not any(cluster.processing().values()), 30)

    started = time.time()
    second = runner(folder, "--scheduler", address)
    wait_for(lambda: trains(folder, started))
    busy = next(worker for worker, tasks in cluster.processing().items() if tasks)
    os.kill(cluster.run(os.getpid)[busy], signal.SIGKILL)
    out, _ = second.communicate(timeout=600)
    assert second.returncode == 0, out
    assert "3 of 3 training runs done" in out and "01_baseline_cnn: finished" in out
    assert done.items() <= records(folder, "created").items(), "not trained again"
    assert len(list(folder.glob("models/*.keras"))) == 3
    wait_for(lambda: not list(homes.rglob("shipment")), 30)
    left = {path.name for name in ("one", "two") for path in (homes / name).iterdir()}
    assert left <= {"log", ".cache", ".config", ".keras", "dask-scratch-space"}

    local = runner(tmp_path / "local", "--workers", "2")
    out, _ = local.communicate(timeout=600)
    assert local.returncode == 0, out
    told = ("parameters_hash", "weights_sha256")
    assert records(folder, *told) == records(tmp_path / "local", *told)
    assert len(records(folder, *told)) == 3


def test_workers_of_other_versions_are_refused(cluster, study, monkeypatch, capfd):
    from cifar_helpers.runner import workers

    monkeypatch.setattr(workers, "versions", lambda: dict.fromkeys(workers.DECIDING, "0"))
    study.add("01_records", "records_its_parameters")
    assert study.run("--scheduler", cluster.scheduler.address) == 2
    assert "Install the same there." in capfd.readouterr().err
    assert not study.runs.exists()
