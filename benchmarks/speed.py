"""How fast the study trains beside what a user would otherwise pick, measured on this machine.

Variants of the same work alternate, round after round, and ratios are taken within a round, so that
a machine that is shared or warms up does not favour one of them. Run `python benchmarks/speed.py`;
`--help` lists the parts. PyTorch takes part where it is installed (`pip install -e ".[benchmarks]"`).
`python benchmarks/speed.py --readme` measures nothing: it writes what was measured into the README.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

from cifar_helpers import data, files, hardware, models, recipes, training
from cifar_helpers.backend import keras
from cifar_helpers.models import backbones
from cifar_helpers.runner import report

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
JSON = ROOT / "benchmarks" / "speed.json"

BATCHES = {"baseline_cnn": 64, "vgg10": 128, "resnet20": 128}
IMAGES = {"baseline_cnn": 12_800, "vgg10": 6_400, "resnet20": 2_560}
FED_IMAGES = 10_000  # so many that what happens once weighs little
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
    parser.add_argument("--out", type=Path, default=JSON, help="where the JSON goes")
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing; put the JSON into the README"
    )
    arguments = parser.parse_args()
    if arguments.readme:
        text = README.read_text(encoding="utf-8")
        section = readme_section(json.loads(arguments.out.read_text(encoding="utf-8")))
        files.write_text(README, report.with_section(text, "speed", section))
        return
    found = {
        "hardware": hardware.describe_hardware(),
        "versions": hardware.versions() | _torch_version(),
        "rounds": arguments.rounds,
    }
    # Parts that were measured before, in the same surroundings, stay.
    if arguments.out.exists():
        earlier = json.loads(arguments.out.read_text(encoding="utf-8"))
        if all(earlier.get(name) == value for name, value in found.items()):
            found = earlier
    print(hardware.hardware_label(found["hardware"]))
    for name in arguments.parts:
        print(f"\n{name}", flush=True)
        found[name] = parts[name](arguments.rounds)
        files.write_json(arguments.out, found)  # after each part, since all take a while
    print(f"\nwritten to {arguments.out}")


def _torch_version() -> dict[str, str]:
    try:
        return {"torch": metadata.version("torch")}
    except metadata.PackageNotFoundError:
        return {}


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
        precision = training.fastest_precision(model) if name == "ours" else name
        kind = "bfloat16" if "bfloat16" in precision else "float32"
        rows[name] = {
            "images_per_second": speed,
            "precision": kind,
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
        "ours": _ours(model, images, labels, batch, fastest),
        f"ours in {other}": _ours(model, images, labels, batch, other),
        "stock Keras": _stock(model, images, labels, batch, jit_compile=False),
        "stock Keras with XLA": _stock(model, images, labels, batch, jit_compile=True),
        "stock Keras on arrays": _stock(
            model, images, labels, batch, jit_compile=False, feed=False
        ),
    }


def _ours(model: str, images, labels, batch: int, precision: str) -> Callable:
    """One epoch as the study trains it."""
    recipe = recipes.of_model(model)[0]
    network = training.build(recipe, precision=precision)
    steps = len(labels) // batch
    training.compile_for(network, recipe.phases[0], steps, recipe.label_smoothing)
    batches = training.feed(_ReadyMade(images, labels, batch))
    return partial(network.fit, batches, shuffle=False, verbose=0)


def _stock(
    model: str, images, labels, batch: int, *, jit_compile: bool, feed: bool = True
) -> Callable:
    """One epoch of the same network in Keras' own layers and float32, fed as ours or by Keras."""
    module = importlib.import_module("cifar_helpers.models.resnet20")
    ours = module.BatchNormalization
    module.BatchNormalization = keras.layers.BatchNormalization
    network = training.build(recipes.of_model(model)[0])
    module.BatchNormalization = ours
    loss = "sparse_categorical_crossentropy"
    network.compile("adam", loss, metrics=["accuracy"], jit_compile=jit_compile)
    if not feed:
        return partial(network.fit, images, labels, batch_size=batch, shuffle=False, verbose=0)
    batches = training.feed(_ReadyMade(images, labels, batch))
    return partial(network.fit, batches, shuffle=False, verbose=0)


class _ReadyMade(keras.utils.PyDataset):
    """An epoch's batches, made beforehand, so that feeding them costs next to nothing."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch: int):
        super().__init__()
        starts = range(0, len(images), batch)
        self.batches = [(images[i : i + batch], labels[i : i + batch]) for i in starts]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        return self.batches[index]


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

    torch.set_num_threads(hardware.cores())
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


def feeding_share(rounds: int) -> dict:
    """What augmentation and feeding add to an epoch, for each model's own recipes."""
    rows = {}
    for model in BATCHES:
        for recipe in (recipes.of_model(model)[-2], recipes.of_model(model)[-1]):
            batch = recipe.phases[0].batch_size
            images, labels = _images(FED_IMAGES)
            network = training.build(recipe, precision=training.fastest_precision(model))
            steps = len(labels) // batch
            training.compile_for(network, recipe.phases[0], steps, recipe.label_smoothing)
            fed = data.Batches(images, labels, batch, policy=recipe.augmentation)
            ready = _ReadyMade(images, labels, batch)
            fit = {
                "fed": partial(network.fit, training.feed(fed), shuffle=False, verbose=0),
                "ready": partial(network.fit, training.feed(ready), shuffle=False, verbose=0),
            }
            seconds = _alternate(fit, 3 * rounds)  # a few percent are hard to see
            share = 1 - 1 / _ratio(seconds["fed"], seconds["ready"])
            alone = _feeding_alone(fed) / statistics.median(seconds["fed"])
            rows[f"{model} {recipe.name}"] = {"share": share, "alone": alone, **seconds}
            print(
                f"  {model:13s} {recipe.name:10s} {100 * share:5.1f} % of an epoch; done alone it "
                f"would take {100 * alone:.1f} %",
                flush=True,
            )
    return rows


def _feeding_alone(batches: data.Batches) -> float:
    """Seconds that it takes to augment and cut up the next epoch, the median of five."""

    def one_epoch() -> None:
        batches.on_epoch_begin()
        for index in range(len(batches)):
            batches[index]
        batches.on_epoch_end()

    return statistics.median(_seconds(one_epoch) for _ in range(5))


# Transfer learning


def transfer_speed(rounds: int) -> dict:
    """Seconds of ten epochs of the head: 5,000 images at 96 pixels, mirrored every other epoch."""
    weights = backbones.resolve("auto")
    recipe = recipes.select("transfer", ["96px"])[0]
    recipe = replace(recipe, phases=(replace(recipe.phases[0], epochs=10),))
    splits = data.load("toy", train_size=5_000)
    seconds: dict[str, list[float]] = {"plain": [], "first time": [], "from the cache": []}
    for _ in range(min(rounds, 3)):
        seconds["plain"].append(_seconds(lambda: _train_plainly(recipe, splits, weights)))
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CIFAR_HELPERS_CACHE"] = folder
            for name in ("first time", "from the cache"):
                train = partial(training.train, recipe, splits, seed=0, weights=weights)
                seconds[name].append(_seconds(partial(train, verbose=False)))
    for name, taken in seconds.items():
        print(
            f"  {name:15s} {statistics.median(taken):6.1f} s  plain takes "
            f"{_ratio(seconds['plain'], taken):.1f} times as long",
            flush=True,
        )
    return {
        "backbone": weights.backbone,
        "train_images": len(splits.train),
        "validation_images": len(splits.validation),
        "seconds": seconds,
        "plain_to_first_time": _ratio(seconds["plain"], seconds["first time"]),
        "plain_to_cache": _ratio(seconds["plain"], seconds["from the cache"]),
    }


def _train_plainly(recipe: recipes.Recipe, splits: data.Splits, weights) -> None:
    """The same training with the whole network run in every epoch, frozen part and all."""
    phase = recipe.phases[0]
    images, labels = splits.train.images, splits.train.labels
    held_out = splits.validation.images, splits.validation.labels
    network = training.build(recipe, weights)
    training.compile_for(network, phase, len(labels) // phase.batch_size)
    network.fit(
        training.feed(data.Batches(images, labels, phase.batch_size, policy=recipe.augmentation)),
        epochs=phase.epochs,
        validation_data=training.feed(data.Batches(*held_out, phase.batch_size, shuffle=False)),
        shuffle=False,
        verbose=0,
    )


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
    training.compile_for(network, recipe.phases[0], count // 64)
    batches = training.feed(data.Batches(images, labels, 64, policy=recipe.augmentation))
    seconds = _seconds(partial(network.fit, batches, epochs=epochs, shuffle=False, verbose=0))
    row = {"images": count, "epochs": epochs, "seconds": seconds, "peak_memory": _peak_memory()}
    print(json.dumps(row))


def _peak_memory() -> int:
    """Bytes that this process has held at the most; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:  # elsewhere; on Linux this one would count the parent's memory too
        try:
            import resource
        except ModuleNotFoundError:
            return 0  # Windows does not tell

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# The README


def readme_section(found: dict) -> str:
    """What was measured, as Markdown.

    Args:
        found: the JSON of a run with all parts.
    """
    versions = found["versions"]
    about = (
        f"Measured on {hardware.hardware_label(found['hardware'])}, with TensorFlow "
        f"{versions['tensorflow']}, Keras {versions['keras']} and PyTorch {versions['torch']}: "
        f"medians of {found['rounds']} rounds in which the variants alternate. Every variant trains "
        "the same network with Adam on the same ready-made batches, stock Keras with "
        "`jit_compile=False` and once as Keras would have it with XLA, once with images and labels "
        "passed to `fit` as arrays; PyTorch in channels-last layout. What is not marked as bfloat16 "
        "computes in float32. *Ours / stock* is the median of the rounds' ratios, with their range, "
        "and need not be the ratio of the two medians beside it."
    )
    return f"\n{about}\n\n{_training_table(found['training'])}\n\n{_other_figures(found)}\n"


def _training_table(training: dict) -> str:
    """Speed of every variant, of ours in both formats, and how many times stock Keras' that is."""
    ours = _ours_by_precision(training[next(iter(BATCHES))])
    names = {name: f"ours, {precision}" for precision, name in ours.items()}
    names |= {
        "stock Keras": "stock Keras",
        "stock Keras with XLA": "with XLA",
        "stock Keras on arrays": "fed by Keras",
        "PyTorch float32": "PyTorch float32",
        "PyTorch bfloat16": "PyTorch bfloat16",
    }
    ratios = [f"ours / stock, {precision}" for precision in ours]
    heads = ["training, images a second", *names.values(), *ratios, "share of peak"]
    lines = [heads, ["---"] * len(heads)]
    for model, batch in BATCHES.items():
        rows = training[model]
        speeds = [f"{rows[name]['images_per_second']:,.0f}" for name in names]
        times = [_ratio_and_range(rows["stock Keras"], rows[name]) for name in ours.values()]
        share = f"{rows['ours']['share_of_peak']:.0%} ({rows['ours']['precision']})"
        lines.append([f"{models.model_label(model)}, batch {batch}", *speeds, *times, share])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ours_by_precision(rows: dict) -> dict[str, str]:
    """The names of our two variants by number format, the one that the study trains in first."""
    return {row["precision"]: name for name, row in rows.items() if name.startswith("ours")}


def _ratio_and_range(slow: dict, fast: dict) -> str:
    ratios = [one / other for one, other in zip(slow["seconds"], fast["seconds"], strict=True)]
    return f"**{statistics.median(ratios):.1f}** ({min(ratios):.1f} – {max(ratios):.1f})"


def _times_pytorch(training: dict, precision: str) -> str:
    """How many times as fast as PyTorch ours is, one figure a model."""
    ratios = []
    for model in BATCHES:
        rows = training[model]
        ours = rows[_ours_by_precision(rows)[precision]]
        ratios.append(f"{_ratio(rows[f'PyTorch {precision}']['seconds'], ours['seconds']):.1f}")
    return f"{', '.join(ratios[:-1])} and {ratios[-1]}"


def _other_figures(found: dict) -> str:
    training, transfer, growth = found["training"], found["transfer"], found["growth"]["trainings"]
    peaks = training["peak_flops"]
    pytorch = [
        f"{_times_pytorch(training, precision)} times as fast as PyTorch in {precision}"
        for precision in _ours_by_precision(training[next(iter(BATCHES))])
    ]
    shares = [row["share"] for row in found["feeding"].values()]
    input_ratio = found["input"]["reference"]["times_as_fast_as_the_classic"]
    seconds = {name: statistics.median(taken) for name, taken in transfer["seconds"].items()}
    small, large = growth[0], next(row for row in growth if row["images"] == 40_000)
    single, *_, several = [row for row in growth if row["images"] == 10_000]
    return "\n".join(
        [
            f"- With both in the same number format, ours is {' and '.join(pytorch)} "
            f"({', '.join(models.model_label(model) for model in BATCHES)}). The share of peak is that of "
            f"this machine's matrix product: {peaks['float32'] / 1e9:.0f} GFLOP/s in float32, "
            f"{peaks['bfloat16'] / 1e9:.0f} in bfloat16.",
            f"- Input: rotation, shift, zoom and flip of an epoch run {input_ratio:.0f} times as "
            "fast as in Keras' classic per-image generator. Augmenting and feeding take "
            f"{100 * min(shares):.1f} to {100 * max(shares):.1f} % of an epoch, beside the same "
            "epoch on ready-made batches.",
            "- Transfer learning, ten epochs of the head on 5,000 images at 96 pixels "
            f"(EfficientNet-Lite0): {seconds['plain']:.0f} s when every epoch runs the whole "
            f"network, {seconds['first time']:.1f} s when it runs once "
            f"({transfer['plain_to_first_time']:.1f} times as fast), "
            f"{seconds['from the cache']:.1f} s when an earlier run has left its features on disk "
            f"({transfer['plain_to_cache']:.0f} times).",
            f"- Growth: an epoch of the baseline on {large['images']:,} images, start-up included, "
            f"takes {large['seconds'] / small['seconds']:.1f} times as long as on {small['images']:,}, "
            f"and {large['peak_memory'] / 1e9:.1f} GB of memory in place of "
            f"{small['peak_memory'] / 1e9:.1f}; {several['epochs']} epochs take "
            f"{several['peak_memory'] / single['peak_memory']:.2f} times the memory of one.",
        ]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one-training"]:
        one_training(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
