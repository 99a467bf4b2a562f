"""Processes of this machine, which end with the runner and end their kernels first."""

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

STOP_TIMEOUT = 15  # seconds that a worker has to end its kernel


class Processes(Executor):
    """Runs each call in a process of its own, so that the death of one is nobody else's."""

    def __init__(self) -> None:
        self._others = set(multiprocessing.active_children())

    @property
    def workers(self) -> set:
        """The processes that have not ended."""
        return set(multiprocessing.active_children()) - self._others

    def submit(self, function, /, *args, **kwargs) -> Future:
        """Call a function in a new process, which ends with the call."""
        pool = one_process(kernels=True)
        future = pool.submit(function, *args, **kwargs)
        pool.shutdown(wait=False)
        return future


def one_process(*, kernels: bool = False) -> ProcessPoolExecutor:
    """An executor of one process, which outlives neither it nor the runner.

    Args:
        kernels: whether it starts kernels, which it then shuts down before it ends; else it ends at
            once where it is told to.
    """
    return ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
        initargs=(_end_worker if kernels else signal.SIG_DFL,),
    )


@contextlib.contextmanager
def open_processes() -> Iterator[Processes]:
    """Processes of this machine; they have ended, and their kernels, when the block has."""
    executor = Processes()
    with end_on_interruption():
        yield executor
        for worker in executor.workers:  # their kernels are on their way out
            worker.join(STOP_TIMEOUT)


@contextlib.contextmanager
def end_on_interruption() -> Iterator[None]:
    """End the processes that were started in the block, and their kernels, if it ends in an error."""
    before = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        _stop(set(multiprocessing.active_children()) - before)
        raise


def _begin_worker(at_its_end: Any) -> None:
    # Ctrl-C goes to the whole process group; the runner alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, at_its_end)
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


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own and return what it returns.

    For work that imports Keras or fills memory, which the runner itself should not.

    Raises:
        OSError: if the process was killed.
    """
    with end_on_interruption():
        executor = Processes()
        try:
            return executor.submit(function, *arguments).result()
        except BrokenExecutor as error:
            raise OSError(
                "the process that checks data, weights and number formats was killed, often for want of memory: "
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
