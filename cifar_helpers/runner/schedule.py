"""Trainings on several workers: the longest first, each tried again where its worker dies."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any

from cifar_helpers.runner.estimates import expected_seconds
from cifar_helpers.runner.trainings import Training
from cifar_helpers.runner.workers import Workers
from cifar_helpers.text import first_line

POLL = 0.5  # seconds between looks at how far the trainings are
TRIES = 3  # of a training whose worker dies
PATIENCE = 120.0  # seconds without any worker


def train_all(
    trainings: Sequence[Training],
    workers: Workers,
    show: Callable[[Sequence[Training]], Any],
) -> dict[Training, str]:
    """Do trainings, one at a time a worker.

    Args:
        trainings: those to do; one that is done already takes no time.
        workers: who does them.
        show: called with the running ones, often.

    Returns:
        Why those failed that did; the notebooks that want them try them once more and show it.

    Raises:
        OSError: if there is no worker left.
    """
    # Students come last: by then another training may have made their teacher.
    waiting = sorted(
        trainings, key=lambda each: (bool(each.recipe.teacher), -expected_seconds(each))
    )
    running: dict[Future, tuple[Any, Training]] = {}
    tries: Counter = Counter()
    failed: dict[Training, str] = {}

    def again(training: Training, error: str) -> None:
        if tries[training] < TRIES:
            waiting.insert(0, training)
        else:
            failed[training] = error

    alone_since = time.monotonic()
    while waiting or running:
        there = workers.names()
        if there:
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > PATIENCE:
            raise OSError(f"no worker is left, for {PATIENCE:.0f} seconds")
        for future, (name, training) in list(running.items()):
            if name not in there:
                future.cancel()
                del running[future]
                again(training, "its worker died")
        busy = {name for name, _ in running.values()}
        for name in sorted(there - busy, key=str)[: len(waiting)]:
            training = waiting.pop(0)
            tries[training] += 1
            running[workers.submit(name, training)] = name, training
        show([training for _, training in running.values()])
        ended, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
        if not running:  # then it has not waited
            time.sleep(POLL)
        for future in ended:
            _, training = running.pop(future)
            if future.cancelled():  # by a cluster that is gone
                again(training, "its worker is gone")
                continue
            error = future.exception()
            if error is None:
                workers.record(training, future.result())
            elif isinstance(error, BrokenExecutor):
                again(training, "its process was killed; often for want of memory")
            else:
                failed[training] = f"{type(error).__name__}: {first_line(error)}"
    show([])
    return failed
