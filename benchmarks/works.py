"""What is timed, and who does it: tasks, and works in processes of their own.

A work takes a number of steps and does them. Run as a script, this module is a worker: it does what
the lines of its input ask for. TensorFlow, once imported, slows PyTorch down in the same process,
so nothing here imports either before it is asked for.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from timing import Work


@dataclass(frozen=True)
class Task:
    """A network and what is done with it.

    Attributes:
        label: what readers see.
        model: one of `models.MODELS`.
        batch: images a step.
        steps: of one round.
        image_size: that a backbone's images are resized to, in pixels.
        unfrozen: how many of a backbone's last layers train, None for all.
        with_weights: how many of these have weights.
        trains: whether it is trained, not run forward.
    """

    label: str
    model: str
    batch: int
    steps: int
    image_size: int = 32
    unfrozen: int | None = None
    with_weights: int | None = None
    trains: bool = True


TASKS = {
    "baseline_cnn": Task("Baseline CNN", "baseline_cnn", 64, 200),
    "vgg10": Task("VGG-10", "vgg10", 128, 24),
    "resnet20": Task("ResNet-20", "resnet20", 128, 12),
    "lite0_96": Task("Lite0, 96 px, all layers", "transfer", 64, 8, 96),
    "lite0_128": Task("Lite0, 128 px, all layers", "transfer", 64, 4, 128),
    "lite0_96_last_30": Task("Lite0, 96 px, last 30 layers", "transfer", 64, 20, 96, 30, 19),
    "lite0_96_forward": Task("Lite0, 96 px, forward", "transfer", 64, 30, 96, trains=False),
}


def images_of(task: Task, steps: float) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels for so many steps, or for a part of one."""
    return random_images(max(2, math.ceil(task.batch * steps)))


@lru_cache
def random_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `(count, 32, 32, 3)` and labels int64 `(count,)`, ten classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype="uint8")
    return images, rng.integers(0, 10, count)


class Worker:
    """A process of its own for works, which it builds when they are first asked for.

    Args:
        environment: variables besides this process's; None takes one away.
    """

    def __init__(self, environment: Mapping[str, str | None]):
        variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in variables.items() if value is not None},
        )

    def begin(self, *request: str | float) -> None:
        """Ask for the arguments of `make`, and steps."""
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def end(self) -> float | None:
        """Wait until it is done, for what the work returns."""
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a worker ended with exit status {self.process.wait()}.")
        return json.loads(answer)

    def work(self, *request: str) -> Work:
        """A work that is done over there."""

        def work(steps: float) -> float | None:
            self.begin(*request, steps)
            return self.end()

        return work

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


@lru_cache
def make(name: str, task: str, precision: str) -> Work:
    """A work of a task in one of Keras' policies.

    Its name is "ours", "stock", "newcomer", "pytorch" or "pytorch compiled".
    """
    if name.startswith("pytorch"):
        import torch_models

        return torch_models.work(TASKS[task], precision, compiled=name.endswith("compiled"))
    import variants

    return getattr(variants, name)(TASKS[task], precision)


def main() -> None:
    """A worker's side."""
    for line in sys.stdin:
        *request, steps = json.loads(line)
        print(json.dumps(make(*request)(steps)), flush=True)


if __name__ == "__main__":
    main()
