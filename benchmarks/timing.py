"""Timing of works that alternate."""

import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[float], float | None]
SLOW, PARTS = 3.0, 200


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
        rivals: of works that are given up where a 200th of a round takes them `SLOW` times as long
            as this other one, as a number format does that the processor has to emulate.

    Returns:
        A list a work; that of one given up is empty.
    """
    rivals = rivals or {}
    first, taken = {}, {}
    for name, work in works.items():
        part = steps / PARTS if rivals else steps
        work(part)  # compiles, fills caches
        first[name] = min(_counted(work, part) for _ in range(2)) if rivals else 0.0
        taken[name] = []
    kept = [name for name in works if first[name] <= SLOW * first[rivals.get(name, name)]]
    for _ in range(rounds):
        for name in kept:
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
