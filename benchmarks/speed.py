"""How fast the study trains beside what a user would otherwise pick, measured on this machine.

Variants of the same work alternate, round after round, and ratios are taken within a round, so that
a machine that is shared or warms up does not favour one of them. Run `python benchmarks/speed.py`;
`--help` lists the parts. PyTorch takes part where it is installed (`pip install -e ".[benchmarks]"`).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cifar_helpers import backbones, data, models, narrative, recipes, results, training
from cifar_helpers.quiet import keras

BATCHES = {"baseline_cnn": 64, "vgg10": 128, "resnet20": 128}
IMAGES = {"baseline_cnn": 12_800, "vgg10": 6_400, "resnet20": 3_840}
# Multiply-adds of training: forward, and twice as many backward; two operations each.
OPERATIONS_PER_MULTIPLY_ADD = 6


def main() -> None:
    """The command line: which parts, how many rounds, where the JSON goes."""
    parts = {
        "training": training_speed,
        "input": input_speed,
        "feeding": feeding_share,
        "transfer": transfer_speed,
        "growth": growth,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--out", default="benchmarks/speed.json", help="where the JSON goes")
    arguments = parser.parse_args()
    report = {"hardware": results.hardware(), "versions": results.versions()}
    print(narrative.machine(report["hardware"]))
    for name in arguments.parts:
        print(f"\n{name}", flush=True)
        report[name] = parts[name](arguments.rounds)
    results.write_json(Path(arguments.out), report)
    print(f"\nwritten to {arguments.out}")


def _images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype="uint8")
    return images, rng.integers(0, 10, count)


def _seconds(work: Callable) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _alternate(variants: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round, the variants in turn."""
    for work in variants.values():
        work()  # compiles, fills caches
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            seconds[name].append(_seconds(work))
    return seconds


def _ratio(slow: list[float], fast: list[float]) -> float:
    """How many times as fast the second is: the median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


# Training


def training_speed(rounds: int) -> dict:
    """Images a second of one training step after another, on ready-made batches."""
    peaks = {kind: _peak(kind) for kind in ("float32", "bfloat16")}
    print("matrix product: " + ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in peaks.items()))
    found = {"peak_flops": peaks}
    for model, batch in BATCHES.items():
        images, labels = _images(IMAGES[model])
        variants = {**_keras_variants(model, images, labels, batch)}
        variants |= _torch_variants(model, images, labels, batch)
        seconds = _alternate(variants, rounds)
        found[model] = _training_rows(model, len(images), seconds, peaks)
    return found


def _training_rows(model: str, count: int, seconds: dict, peaks: dict) -> dict:
    """Speed, ratio to ours and share of the machine's peak for each variant; printed as lines."""
    operations = OPERATIONS_PER_MULTIPLY_ADD * models.multiply_adds(getattr(models, model)())
    rows = {}
    for name, taken in seconds.items():
        speed = count / statistics.median(taken)
        kind = "bfloat16" if "bfloat16" in name else "float32"
        rows[name] = {
            "images_per_second": speed,
            "ours_is_times_as_fast": _ratio(taken, seconds["ours"]),
            "share_of_peak": speed * operations / peaks[kind],
            "seconds": taken,
        }
        print(
            f"  {model:13s} {name:28s} {speed:8,.0f} images/s  ours is "
            f"{rows[name]['ours_is_times_as_fast']:.2f} times as fast  "
            f"{100 * rows[name]['share_of_peak']:3.0f} % of the {kind} peak",
            flush=True,
        )
    return rows


def _keras_variants(model: str, images, labels, batch: int) -> dict[str, Callable]:
    fastest = training.fastest_precision(model)
    other = "float32" if fastest != "float32" else "mixed_bfloat16"
    return {
        "ours": _keras_fit(model, images, labels, batch, precision=fastest),
        f"ours in {other}": _keras_fit(model, images, labels, batch, precision=other),
        "stock Keras": _keras_fit(model, images, labels, batch, stock=True),
        "stock Keras with XLA": _keras_fit(model, images, labels, batch, stock=True, xla=True),
    }


def _keras_fit(
    model: str, images, labels, batch: int, *, precision="float32", stock=False, xla=False
) -> Callable:
    """One epoch of `fit`, with the layers and the compilation of the variant."""
    ours = models.BatchNormalization
    models.BatchNormalization = keras.layers.BatchNormalization if stock else ours
    recipe = recipes.of_model(model)[0]
    network = training.build(recipe, precision=precision)
    models.BatchNormalization = ours
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=xla)
    return lambda: network.fit(images, labels, batch_size=batch, shuffle=False, verbose=0)


def _peak(kind: str, size: int = 3072) -> float:
    """Floating-point operations a second of a square matrix product, the best of ten."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((size, size)), kind)
    multiply = tf.function(lambda a: tf.linalg.matmul(a, a))
    multiply(matrix)
    return 2 * size**3 / min(_seconds(lambda: multiply(matrix).numpy()) for _ in range(10))


def _torch_variants(model: str, images, labels, batch: int) -> dict[str, Callable]:
    try:
        import torch
    except ImportError:
        print("  PyTorch is not installed: left out")
        return {}
    from torch_models import BUILDERS, step

    torch.set_num_threads(results.hardware()["cores"])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
    targets = torch.from_numpy(labels)
    variants = {}
    for name, bfloat16 in (("PyTorch float32", False), ("PyTorch bfloat16", True)):
        network = BUILDERS[model]().to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.Adam(network.parameters())
        variants[name] = lambda network=network, optimizer=optimizer, bfloat16=bfloat16: [
            step(network, optimizer, pixels[i : i + batch], targets[i : i + batch], bfloat16)
            for i in range(0, len(pixels), batch)
        ]
    return variants


# Input


def input_speed(rounds: int) -> dict:
    """Images a second of augmentation alone: ours against the classic per-image generator."""
    images, labels = _images(5_000)
    generator = _classic_generator()

    def classic() -> None:
        batches = generator.flow(images, labels, batch_size=128)
        for _ in range(len(batches)):
            next(batches)

    def ours(policy: str) -> Callable:
        return lambda: data.augment(images, policy, seed=0, epoch=1)

    policies = ("reference", "crop_flip", "crop2_flip", "flip")
    variants = {policy: ours(policy) for policy in policies} | {"classic generator": classic}
    seconds = _alternate(variants, rounds)
    rows = {}
    for name, taken in seconds.items():
        rows[name] = {
            "images_per_second": len(images) / statistics.median(taken),
            "times_as_fast_as_the_classic": _ratio(seconds["classic generator"], taken),
        }
        print(
            f"  {name:20s} {rows[name]['images_per_second']:10,.0f} images/s  "
            f"{rows[name]['times_as_fast_as_the_classic']:6.1f} times the classic generator",
            flush=True,
        )
    return rows


def _classic_generator():
    """The generator of the study that is rebuilt, with its settings."""
    import tensorflow as tf

    return tf.keras.preprocessing.image.ImageDataGenerator(
        rotation_range=15,
        width_shift_range=0.1,
        height_shift_range=0.1,
        zoom_range=0.1,
        horizontal_flip=True,
    )


class _ReadyMade(keras.utils.PyDataset):
    """An epoch's batches, made beforehand."""

    def __init__(self, batches: list):
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        return self.batches[index]


def feeding_share(rounds: int) -> dict:
    """What augmentation and feeding add to an epoch, for each model's own recipes."""
    rows = {}
    for model in BATCHES:
        for recipe in (recipes.of_model(model)[-2], recipes.of_model(model)[-1]):
            batch = recipe.phases[0].batch_size
            images, labels = _images(3 * IMAGES[model])
            network = training.build(recipe, precision=training.fastest_precision(model))
            network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
            fed = data.Batches(images, labels, batch, policy=recipe.augmentation)
            ready = _ReadyMade([fed[index] for index in range(len(fed))])
            fit = {
                "fed": lambda n=network, b=fed: n.fit(b, shuffle=False, verbose=0),
                "ready": lambda n=network, b=ready: n.fit(b, shuffle=False, verbose=0),
            }
            seconds = _alternate(fit, rounds)
            share = 1 - 1 / _ratio(seconds["fed"], seconds["ready"])
            rows[f"{model} {recipe.name}"] = {"share_of_epoch": share, **seconds}
            print(f"  {model:13s} {recipe.name:10s} {100 * share:5.1f} % of an epoch", flush=True)
    return rows


# Transfer learning


def transfer_speed(rounds: int) -> dict:
    """Seconds of ten epochs of feature extraction, 5,000 images at 96 pixels, without validation."""
    import tempfile

    images, labels = _images(5_000)
    weights = backbones.resolve("auto")
    seconds: dict[str, list[float]] = {"plain": [], "first time": [], "from the cache": []}
    for _ in range(min(rounds, 3)):
        with tempfile.TemporaryDirectory() as folder:
            for name, work in _transfer_variants(images, labels, weights, folder).items():
                seconds[name].append(_seconds(work))
    for name, taken in seconds.items():
        print(
            f"  {name:15s} {statistics.median(taken):6.1f} s  plain takes "
            f"{_ratio(seconds['plain'], taken):.1f} times as long",
            flush=True,
        )
    return {
        "backbone": weights.backbone,
        "seconds": seconds,
        "plain_to_first_time": _ratio(seconds["plain"], seconds["first time"]),
        "plain_to_cache": _ratio(seconds["plain"], seconds["from the cache"]),
    }


def _transfer_variants(images, labels, weights, folder: str) -> dict[str, Callable]:
    """Feature extraction through the whole network in each epoch, and on stored features."""
    import os

    from cifar_helpers import cache

    os.environ["CIFAR_HELPERS_CACHE"] = folder
    options = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "jit_compile": False}

    def plain() -> None:
        model = models.transfer(weights, image_size=96)
        model.compile(**options)
        model.fit(images, labels, batch_size=64, epochs=10, verbose=0)

    def stored() -> None:
        trunk, tail = models.split(models.transfer(weights, image_size=96))
        features = cache.cached(
            {"images": cache.digest(images)},
            lambda: training.predict(trunk, images).astype("float16"),
        )
        tail.compile(**options)
        tail.fit(features, labels, batch_size=64, epochs=10, verbose=0)

    return {"plain": plain, "first time": stored, "from the cache": stored}


# Growth


def growth(rounds: int) -> dict:
    """Seconds and memory of whole trainings of the baseline, each in a process of its own."""
    rows = []
    for images, epochs in (
        (5_000, 1),
        (10_000, 1),
        (20_000, 1),
        (40_000, 1),
        (10_000, 2),
        (10_000, 4),
    ):
        command = [sys.executable, __file__, "--one-training", str(images), str(epochs)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(ran.stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"  {images:6,} images x {epochs} epochs  {row['seconds']:6.1f} s  "
            f"{row['peak_memory'] / 1e9:.2f} GB",
            flush=True,
        )
    return {"trainings": rows}


def one_training(count: int, epochs: int) -> None:
    """Train the baseline once; print its seconds and this process's peak memory in bytes."""
    images, labels = _images(count)
    recipe = recipes.of_model("baseline_cnn")[-1]
    network = training.build(recipe, precision=training.fastest_precision(recipe.model))
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    batches = data.Batches(images, labels, 64, policy=recipe.augmentation)
    seconds = _seconds(lambda: network.fit(batches, epochs=epochs, shuffle=False, verbose=0))
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"images": count, "epochs": epochs, "seconds": seconds, "peak_memory": memory}
    print(json.dumps(row))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-training"]:
        one_training(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
