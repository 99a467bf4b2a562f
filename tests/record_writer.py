"""What one of many processes does that write records at the same time; imports no Keras."""

from pathlib import Path

import numpy as np

from cifar_helpers import results
from cifar_helpers.results.store import REQUIRED


def write_records(folder: Path, process: int, count: int) -> None:
    """Save as many records, each of another seed, as fast as possible."""
    rng = np.random.default_rng(process)
    for number in range(count):
        probabilities = rng.random((100, 10), dtype=np.float32)
        arrays = {"probabilities": probabilities, "labels": np.zeros(100)}
        seed = process * count + number
        names = {"model": "vgg10", "recipe": "base", "seed": seed, "parameters_hash": str(seed)}
        record = dict.fromkeys(REQUIRED) | names
        shared = {**record, "seed": 9_999, "parameters_hash": "shared"}
        for each in (record, shared):
            results.save_result(results.Result(each, arrays), folder)
