"""What feeds the trainings, and whole trainings: the parts of the benchmark without competitors."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from timing import alternate, ratio, seconds
from variants import BACKBONE, ReadyMade
from works import TASKS, random_images

from cifar_helpers import data, recipes, training
from cifar_helpers.models import backbones
from cifar_helpers.runner.plan import kernel_environment
from cifar_helpers.runner.schedule import train_all
from cifar_helpers.runner.trainings import Training
from cifar_helpers.runner.workers import open_workers

UNIT_IMAGES = 2_000
FED_IMAGES = 10_000  # so many that what happens once weighs little


# Input


def input_speed(arguments):
    """Seconds to augment 5,000 images: ours, and the classic per-image generator."""
    images, labels = random_images(5_000)
    generator = _classic_generator()

    def classic(steps: float) -> None:
        batches = generator.flow(images, labels, batch_size=128)
        for _ in range(len(batches)):
            next(batches)

    def ours(policy: str, steps: float) -> None:
        data.augment(images, policy, seed=0, epoch=1)

    policies = ("reference", "crop_flip", "crop2_flip", "flip")
    works = {policy: partial(ours, policy) for policy in policies} | {"classic generator": classic}
    taken = alternate(works, rounds=arguments.rounds)
    for name, rounds in taken.items():
        print(
            f"  {name:20s} {len(images) / statistics.median(rounds):10,.0f} images/s  "
            f"{ratio(taken['classic generator'], rounds):6.1f} times the classic generator",
            flush=True,
        )
    return taken.items()


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


def feeding_share(arguments):
    """What augmentation and feeding add to an epoch, for each model's own recipes."""
    for task in list(TASKS.values())[:3]:
        for recipe in recipes.select(task.model, list(recipes.DEFAULT))[-2:]:
            batch = recipe.phases[0].batch_size
            images, labels = random_images(FED_IMAGES)
            precision = training.fastest_precision(task.model)
            network = training.build(recipe, precision=precision)
            steps = len(labels) // batch
            training.compile_for(network, recipe.phases[0], steps, recipe.label_smoothing)
            fed = data.Batches(images, labels, batch, policy=recipe.augmentation)

            def fit(network, batches, steps: float) -> None:
                network.fit(training.feed(batches), shuffle=False, verbose=0)

            works = {
                "fed": partial(fit, network, fed),
                "ready": partial(fit, network, ReadyMade(images, labels, batch)),
            }
            taken = alternate(works, rounds=3 * arguments.rounds)  # a few percent are hard to see
            share = 1 - 1 / ratio(taken["fed"], taken["ready"])
            alone = _feeding_alone(fed) / statistics.median(taken["fed"])
            print(
                f"  {task.model:13s} {recipe.name:10s} {100 * share:5.1f} % of an epoch; done alone "
                f"it would take {100 * alone:.1f} %",
                flush=True,
            )
            yield f"{task.model} {recipe.name}", {"share": share, "alone": alone, **taken}


def _feeding_alone(batches: data.Batches) -> float:
    """Seconds that it takes to augment and cut up the next epoch, the median of five."""

    def one_epoch() -> None:
        batches.on_epoch_begin()
        for index in range(len(batches)):
            batches[index]
        batches.on_epoch_end()

    return statistics.median(seconds(one_epoch) for _ in range(5))


# Transfer learning


def transfer_speed(arguments):
    """Seconds of ten epochs of the head: 5,000 images at 96 pixels, mirrored every other epoch."""
    weights = backbones.resolve(BACKBONE)
    recipe = recipes.select("transfer", ["96px"])[0]
    recipe = replace(recipe, phases=(replace(recipe.phases[0], epochs=10),))
    splits = data.load("toy", train_size=5_000)
    train = partial(training.train, recipe, splits, seed=0, weights=weights, verbose=False)
    taken: dict[str, list[float]] = {"plain": [], "first time": [], "from the cache": []}
    for _ in range(min(arguments.rounds, 3)):
        taken["plain"].append(seconds(lambda: _train_plainly(recipe, splits, weights)))
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CIFAR_HELPERS_CACHE"] = folder
            for name in ("first time", "from the cache"):
                taken[name].append(seconds(train))
    for name, rounds in taken.items():
        print(
            f"  {name:15s} {statistics.median(rounds):6.1f} s  plain takes "
            f"{ratio(taken['plain'], rounds):.1f} times as long",
            flush=True,
        )
    return taken.items()


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


# Trainings as units of work


def unit_speed(arguments):
    """Seconds of six short trainings: bare, by one worker process, and by two that share the cores."""
    splits = data.load("toy", train_size=UNIT_IMAGES)
    pairs = [
        (recipe, seed)
        for model in ("baseline_cnn", "resnet20")
        for recipe in recipes.select(model, ["improved"], epochs=2)
        for seed in range(3)
    ]
    units = [
        Training(recipe, seed, "toy", train_size=UNIT_IMAGES, precision="float32")
        for recipe, seed in pairs
    ]

    def bare(folder: str) -> None:
        for recipe, seed in pairs:
            options = {"out": folder, "precision": "float32", "verbose": False}
            training.train(recipe, splits, seed=seed, **options)

    def by(workers: int, folder: str) -> None:
        environment = kernel_environment(workers, shared=True)
        with open_workers(None, workers, Path(folder), units, environment) as opened:
            failed = train_all(units, opened, lambda running: None)
        assert not failed, failed

    works = {"bare": bare, "one worker": partial(by, 1), "two workers": partial(by, 2)}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(min(arguments.rounds, 3)):
        for name, work in works.items():
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(seconds(partial(work, folder)))
    for name, rounds in taken.items():
        print(
            f"  {name:15s} {statistics.median(rounds):6.1f} s  "
            f"{3600 * len(units) / statistics.median(rounds):5.0f} training runs an hour  "
            f"{ratio(taken['one worker'], rounds):.2f} times as fast as one worker",
            flush=True,
        )
    return taken.items()


# Growth


def growth(arguments):
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
        command = [sys.executable, __file__, str(images), str(epochs)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(ran.stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"  {images:6,} images x {epochs} epochs  {row['seconds']:6.1f} s  "
            f"{row['peak_memory'] / 1e9:.2f} GB",
            flush=True,
        )
    return [("trainings", rows)]


def one_training(count: int, epochs: int) -> None:
    """Train the baseline once; print its seconds and this process's peak memory in bytes."""
    images, labels = random_images(count)
    (recipe,) = recipes.select("baseline_cnn", ["improved"])
    network = training.build(recipe, precision=training.fastest_precision(recipe.model))
    training.compile_for(network, recipe.phases[0], count // 64)
    batches = training.feed(data.Batches(images, labels, 64, policy=recipe.augmentation))
    fit = partial(network.fit, batches, epochs=epochs, shuffle=False, verbose=0)
    row = {"images": count, "epochs": epochs, "seconds": seconds(fit)}
    row["peak_memory"] = _peak_memory()
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


if __name__ == "__main__":
    one_training(int(sys.argv[1]), int(sys.argv[2]))
