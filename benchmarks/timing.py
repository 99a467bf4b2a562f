"""Timing of works that alternate."""

import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[float], float | None]
SLOW, PARTS = 3.0, 50


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(
    works: Mapping[str, Work],
    steps: float = 1,
    rounds: int = 5,
    rivals: Mapping[str, str] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each work in each round, the works in turn.

    Ratios within a round are fair on a machine that is shared or warms up.

    Args:
        works: each takes a number of steps, and may return the seconds to be counted for it.
        steps: of one round.
        rounds: how many.
        rivals: of works that are given up where a 50th of a round takes them `SLOW` times as long as
            this earlier one, or where that was given up: a number format that the processor has to
            emulate is hopeless.

    Returns:
        A list a work; that of one given up is empty.
    """
    rivals = rivals or {}
    first: dict[str, float] = {}
    for name, work in works.items():
        part = steps / PARTS if rivals else steps
        if name in rivals and rivals[name] not in first:
            continue
        work(part)  # compiles, fills caches
        first[name] = min(_counted(work, part) for _ in range(2)) if rivals else 0.0
        if first[name] > SLOW * first[rivals.get(name, name)]:
            del first[name]
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name in first:
            taken[name].append(_counted(works[name], steps))
    return taken


def _counted(work: Work, steps: float) -> float:
    started = time.perf_counter()
    counted = work(steps)
    return time.perf_counter() - started if counted is None else counted


def ratios(slow: list[float], fast: list[float]) -> list[float]:
    """How many times as fast the second is, in each round."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times as fast the second is: the median of the rounds' ratios."""
    return statistics.median(ratios(slow, fast))
