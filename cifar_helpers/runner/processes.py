"""Where notebooks run: processes of this machine, or workers of a cluster."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any

from cifar_helpers.errors import UserError
from cifar_helpers.text import first_line

STOP_TIMEOUT = 15  # seconds that a worker has to end its kernel


class Processes(Executor):
    """Runs each call in a process of its own, so that the death of one is nobody else's."""

    def __init__(self) -> None:
        self._next: ProcessPoolExecutor | None = None
        self._others = set(multiprocessing.active_children())

    @property
    def workers(self) -> set:
        """The processes that have not ended."""
        return set(multiprocessing.active_children()) - self._others

    def prepare(self, function: Callable[..., Any], /, *arguments: Any) -> None:
        """Start the next call's process and call a function in it, unless that was done before."""
        if self._next is None:
            self._next = _one_process()
            self._next.submit(function, *arguments)

    def submit(self, function, /, *args, **kwargs) -> Future:
        """Call a function in the process that was prepared, or a new one; it ends with the call."""
        pool, self._next = self._next or _one_process(), None
        try:
            future = pool.submit(function, *args, **kwargs)
        except BrokenExecutor:  # killed while it waited
            pool = _one_process()
            future = pool.submit(function, *args, **kwargs)
        pool.shutdown(wait=False)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the process that was prepared for a call that did not come."""
        if self._next:
            self._next.shutdown(wait)
            self._next = None


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
    )


@contextlib.contextmanager
def open_executor(client: Any, workers: int) -> Iterator[tuple[Executor, int]]:
    """Where notebooks run, and how many at the same time.

    Args:
        client: of a Dask cluster, or None for processes of this machine.
        workers: how many of these.
    """
    if client is not None:
        yield client.get_executor(pure=False), sum(client.nthreads().values())
        return
    with _local_executor() as executor:
        yield executor, workers
        executor.shutdown()
        for worker in executor.workers:  # their kernels are on their way out
            worker.join(STOP_TIMEOUT)


@contextlib.contextmanager
def _local_executor() -> Iterator[Processes]:
    """Processes of this machine; on an interruption they end their kernels before this returns."""
    executor = Processes()
    try:
        yield executor
    except BaseException:
        _stop(executor.workers)
        raise


def _begin_worker() -> None:
    # Ctrl-C goes to the whole process group; the runner alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_worker)
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    # What they have to say is in the outcome; on the terminal it would cut through the display.
    # asyncio tells of nbclient's watch over a kernel that is being shut down.
    for name in ("papermill", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def _end_worker(*_) -> None:
    """Unlike what the signal does by default, let the kernel be shut down, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _end_with_the_runner() -> None:
    """End this process, and with it its kernel, when the runner was killed."""
    runner = multiprocessing.parent_process()
    if runner is None:
        return
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


def connect(scheduler: str | None) -> contextlib.AbstractContextManager:
    """A client of a Dask cluster that shares the file system with this machine; None without one.

    Raises:
        UserError: if `distributed` is not installed, or no worker can be had.
    """
    if not scheduler:
        return contextlib.nullcontext()
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "--scheduler needs the package distributed; install the [cluster] extra: "
            'pip install -e ".[cluster]".'
        ) from None
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise UserError(f"--scheduler {scheduler} does not answer: {first_line(error)}.") from error
    if not client.nthreads():
        client.close()
        raise UserError(f"--scheduler {scheduler} has no workers; start some first.")
    return client


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own and return what it returns.

    For work that imports Keras or fills memory, which the runner itself should not.

    Raises:
        OSError: if the process was killed.
    """
    with _local_executor() as executor:
        try:
            return executor.submit(function, *arguments).result()
        except BrokenExecutor as error:
            raise OSError(
                "the process that checks data and weights was killed, often for want of memory: "
                "about 1 GB must be free"
            ) from error


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let the signals that end a process, or its terminal, do what Ctrl-C does."""
    names = ("SIGTERM", "SIGHUP")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        signals = []  # only the main thread may

    def interrupt(*_):
        raise KeyboardInterrupt

    # Who has them ignored, as nohup does, wants to go on.
    before = {each: signal.getsignal(each) for each in signals}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}
    for each in before:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
