"""What a worker of a Dask cluster does: it trains in a process of its own and gives back what was made.

A worker shares no folder with the runner. What else goes on in its process draws random numbers too,
so that a training there would not be the same each time.
"""

import contextlib
import multiprocessing
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, wait
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_helpers import data
from cifar_helpers.hardware import thread_variables
from cifar_helpers.models import backbones
from cifar_helpers.runner.processes import one_process
from cifar_helpers.runner.trainings import Training, find_weights, load_images, train

if TYPE_CHECKING:
    from cifar_helpers.results import Result

WATCH = 2.0  # seconds between looks at whether the runner is still there
POLL = 1.0  # seconds between looks at how far a training is


@dataclass(frozen=True)
class Shipment:
    """What the runner sends to each worker once, for all trainings.

    Attributes:
        splits: all images.
        weights: each backbone's weights, with the content of their file.
        client: the id of the runner's connection to the scheduler.
        topic: under which workers tell of their progress; no other run's.
    """

    splits: data.Splits
    weights: dict[str, tuple[backbones.Weights, bytes]]
    client: str
    topic: str


def make_shipment(trainings: Sequence[Training], **about: Any) -> Shipment:
    """Read what the trainings need; `about` are the other attributes of a `Shipment`."""
    first, weights = trainings[0], {}
    for each in trainings:
        if (found := find_weights(each)) and each.backbone not in weights:
            weights[each.backbone] = found, Path(found.path).read_bytes()
    return Shipment(load_images(first.dataset, first.data_dir), weights, **about)


# In the worker


def train_there(training: Training, shipment: Shipment) -> tuple["Result", bytes]:
    """Train; returns the record with the predictions, and the network.

    Raises:
        BrokenExecutor: if the process that trains was killed, or the runner is gone.
    """
    from distributed import get_worker

    from cifar_helpers import results
    from cifar_helpers.training.progress import read_progress

    worker = get_worker()
    trainer = _trainer(shipment, worker)
    with tempfile.TemporaryDirectory(dir=trainer.folder) as out:
        future = trainer.submit(training, out)
        told, ended = None, False
        while not ended:
            ended = not wait([future], timeout=POLL).not_done
            entries = read_progress(out, training.recipe.model)
            if entries and entries != told:
                told = entries
                worker.log_event(shipment.topic, (training.recipe.model, entries[0]))
        future.result()
        (result,) = results.load_results(out)
        network = results.model_path(
            out, training.recipe.model, training.recipe.name, training.seed
        )
        return replace(result, arrays=dict(result.arrays)), network.read_bytes()


class _Trainer:
    """The process in which a worker trains, for as long as the runner is there."""

    def __init__(self, shipment: Shipment, worker: Any):
        from distributed import get_client

        self.environment = thread_variables(worker.state.nthreads) | {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        # Below Dask's own folder, which Dask clears of what a killed worker has left.
        self.folder = Path(worker.local_directory, shipment.topic)
        self.folder.mkdir(exist_ok=True)
        self.shipment = self.folder / "shipment"
        self.shipment.write_bytes(pickle.dumps(shipment))
        self.start()
        watched = (get_client(), shipment)
        threading.Thread(target=self._end_with_the_runner, args=watched, daemon=True).start()

    def start(self) -> None:
        """Start the process, or another one in its place."""
        self._executor = one_process()
        with _may_have_children():
            self._process = self._executor.submit(os.getpid).result()

    def submit(self, training: Training, out: str) -> Future:
        """Let the process train."""
        call = partial(_train, training, out, str(self.shipment), self.environment)
        try:
            return self._executor.submit(call)
        except BrokenExecutor:  # killed in an earlier training
            self.start()
            return self._executor.submit(call)

    def _end_with_the_runner(self, client: Any, shipment: Shipment) -> None:
        import psutil  # which distributed brings

        with contextlib.suppress(Exception):  # then the connection to the scheduler has ended
            while client.run_on_scheduler(_is_connected, shipment.client):
                time.sleep(WATCH)
        del _trainers[shipment.topic]
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self._process).kill()
        shutil.rmtree(self.folder, ignore_errors=True)


_trainers: dict[str, _Trainer] = {}


def _trainer(shipment: Shipment, worker: Any) -> _Trainer:
    """The process of a run; another one where it was killed."""
    if shipment.topic not in _trainers:
        _trainers[shipment.topic] = _Trainer(shipment, worker)
    return _trainers[shipment.topic]


@contextlib.contextmanager
def _may_have_children() -> Iterator[None]:
    """Dask's workers are daemons, to which multiprocessing allows no processes of their own.

    That is so that none outlives them, which `one_process` sees to by itself.
    """
    settings = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    before = settings.get("daemon")
    settings["daemon"] = False
    try:
        yield
    finally:
        settings["daemon"] = before


def _is_connected(client: str, dask_scheduler: Any = None) -> bool:
    return client in dask_scheduler.clients


# In the worker's process that trains


def _train(training: Training, out: str, shipment: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    splits, weights = _unpack(shipment)
    train(training, out, splits, weights.get(training.backbone))


@cache
def _unpack(path: str) -> tuple[data.Splits, dict[str, backbones.Weights]]:
    """The images and the weights, these as files beside the shipment."""
    shipment = pickle.loads(Path(path).read_bytes())
    weights = {}
    for name, (found, content) in shipment.weights.items():
        file = Path(path).with_name(Path(found.path).name)
        file.write_bytes(content)
        weights[name] = replace(found, path=str(file))
    return shipment.splits, weights
