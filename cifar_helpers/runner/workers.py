"""Who does trainings: processes of this machine, or the workers of a Dask cluster."""

import contextlib
import uuid
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cifar_helpers import hardware
from cifar_helpers.errors import UserError
from cifar_helpers.files import replace_file
from cifar_helpers.hardware import versions
from cifar_helpers.runner.cluster import Shipment, make_shipment, train_there
from cifar_helpers.runner.processes import end_on_interruption, one_process
from cifar_helpers.runner.trainings import Training, train_here
from cifar_helpers.text import first_line, listed

DECIDING = ("tensorflow", "keras", "numpy", "cifar-helpers")  # what a training's numbers depend on


class Workers(Protocol):
    """Whoever trains: each worker does one training at a time."""

    def names(self) -> set[Hashable]:
        """Those that are there now; one that has died is not among them, or is another one."""

    def submit(self, name: Any, training: Training) -> Future:
        """Let a worker train; raises or gives `BrokenExecutor` if it dies."""

    def record(self, training: Training, outcome: Any) -> None:
        """Write down what the future gave, if the worker could not."""


class LocalWorkers:
    """Processes of this machine, which write into the run's folder."""

    def __init__(self, count: int, folder: Path, environment: dict[str, str]):
        self._folder, self._environment = folder, environment
        self._executors: dict[int, ProcessPoolExecutor | None] = dict.fromkeys(range(count))

    def names(self) -> set[Hashable]:
        """Numbers: a process that has died has a successor."""
        return set(self._executors)

    def submit(self, name: int, training: Training) -> Future:
        """Let a process train; it lives on for the next training."""
        call = partial(train_here, training, str(self._folder), self._environment)
        executor = self._executors[name] or one_process()
        try:
            future = executor.submit(call)
        except BrokenExecutor:  # killed in this or in an earlier training
            executor = one_process()
            future = executor.submit(call)
        self._executors[name] = executor
        return future

    def record(self, training: Training, outcome: Any) -> None:
        """Nothing: the process has written its record."""

    def close(self) -> None:
        """Let the processes end."""
        for executor in filter(None, self._executors.values()):
            executor.shutdown()


class ClusterWorkers:
    """The workers of a Dask cluster, which give back what they make."""

    def __init__(self, client: Any, folder: Path, shipment: Shipment):
        self._client, self._folder = client, folder
        self._sent = client.scatter(shipment, hash=False)
        client.subscribe_topic(shipment.topic, self._note)

    def names(self) -> set[Hashable]:
        """Addresses."""
        return set(self._client.nthreads())

    def submit(self, name: str, training: Training) -> Future:
        """Let a worker train."""
        executor = self._client.get_executor(workers=[name], pure=False)
        return executor.submit(train_there, training, self._sent)

    def record(self, training: Training, outcome: Any) -> None:
        """Write record, predictions and network into the run's folder."""
        from cifar_helpers import results

        result, network = outcome
        results.save_result(
            result,
            self._folder,
            save_model=partial(replace_file, write=lambda file: file.write(network)),
        )

    def _note(self, event: tuple[float, tuple[str, dict[str, Any]]]) -> None:
        from cifar_helpers.training import progress

        _, (model, entry) = event
        progress.note_entry(str(self._folder), model, entry)


def connect(address: str | None) -> contextlib.AbstractContextManager:
    """A client of a Dask cluster that has workers; None without an address.

    Raises:
        UserError: if `distributed` is not installed, or no worker can be had.
    """
    if not address:
        return contextlib.nullcontext()
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "--scheduler needs the package distributed; install the [cluster] extra: "
            'pip install -e ".[cluster]".'
        ) from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TypeError, AssertionError) as error:  # the latter of addresses
        raise UserError(f"--scheduler {address} does not answer: {first_line(error)}.") from error
    try:
        if not client.nthreads():
            raise UserError(f"--scheduler {address} has no workers; start some first.")
        _check_versions(client)
    except UserError:
        client.close()
        raise
    return client


@contextlib.contextmanager
def open_workers(
    client: Any,
    count: int,
    folder: Path,
    trainings: Sequence[Training],
    environment: dict[str, str],
) -> Iterator[Workers]:
    """The workers of a cluster, or as many processes of this machine; they train in the block only.

    Args:
        client: of the cluster, or None.
        count: of the processes.
        folder: the run's.
        trainings: all that are to come.
        environment: variables for whoever trains.
    """
    if client is None:
        with end_on_interruption():
            local = LocalWorkers(count, folder, environment)
            yield local
            local.close()
        return
    topic = uuid.uuid4().hex
    shipment = make_shipment(trainings, client=client.id, topic=topic)
    yield ClusterWorkers(client, folder, shipment)


def _check_versions(client: Any) -> None:
    """Refuse workers that would compute something else."""
    own = versions()
    wanted = {name: own[name] for name in DECIDING if name in own}
    for worker, found in client.run(hardware.versions, on_error="return").items():
        if isinstance(found, Exception):
            raise UserError(f"the worker {worker} cannot import this package: {first_line(found)}.")
        other = [f"{name} {found.get(name)}" for name in wanted if found.get(name) != wanted[name]]
        if other:
            needed = listed(f"{name} {version}" for name, version in wanted.items())
            raise UserError(
                f"workers need the versions of this machine ({needed}); the one at {worker} has "
                f"{listed(other)}. Install the same there."
            )
