"""Trained networks on pictures of one's own.

    python -m cifar_helpers.predict photo.jpg another.png --run runs/full

Without `--run` the best of the published networks that come with the checkout answers.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cifar_helpers import metrics, models, recipes, results
from cifar_helpers.errors import UserError, user_path
from cifar_helpers.text import listed, percent

if TYPE_CHECKING:
    from cifar_helpers.backend import keras

SIDE = 32  # pixels
TOP = 3  # classes that are named


class Answer(NamedTuple):
    """What a network makes of a picture.

    Attributes:
        path: of the picture.
        seen: the picture as the network sees it, uint8 `(32, 32, 3)`.
        classes: names, the most probable first.
        confidences: of these, calibrated, in [0, 1].
    """

    path: Path
    seen: np.ndarray
    classes: list[str]
    confidences: list[float]


def load_model(out: str | os.PathLike, model: str, recipe: str, seed: int = 0) -> "keras.Model":
    """A trained network of a run.

    Args:
        out: the run's folder, as `runs/full`.
        model: one of `models.MODELS`.
        recipe: its name.
        seed: of the training.

    Returns:
        An uncompiled model: images `(batch, 32, 32, 3)` in [0, 255] -> probabilities
        `(batch, classes)`, float32.

    Raises:
        UserError: for an unknown model, if the run holds no such network, or its file cannot be read.
    """
    recipes.check_model(model)
    path = results.model_path(out, model, recipe, seed)
    if not path.exists():
        folder = user_path(out)
        record = results.record_path(out, model, recipe, seed)
        first = f"Remove its record, {record}, and train" if record.exists() else "Train"
        where = f" --out {shlex.quote(str(out))}" if (folder / "run.json").exists() else ""
        raise UserError(
            f"the network of {model}, recipe {recipe}, seed {seed} must be in {path.parent}; it has "
            f"no {path.name}. {first} it: python run_all.py --notebooks {models.MODELS[model].number} "
            f"--recipes {recipe} --seeds {seed}{where}."
        )
    from cifar_helpers.training import read_network

    return read_network(path)


# Pictures


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """A picture as the networks see it: its middle square, 32 pixels a side.

    Any format that Pillow reads, size and colour mode; turned upright as its camera noted, and what
    is transparent laid on white.

    Returns:
        uint8 `(32, 32, 3)`, RGB.

    Raises:
        UserError: if there is no such file, or it holds no picture.
    """
    file = user_path(path)
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
                picture = _with_8_bits(picture)
            picture = picture.convert("RGBA")
    except FileNotFoundError:
        raise UserError(f"a picture must exist; there is no {file}. Correct the path.") from None
    except (Image.DecompressionBombError, OSError, RuntimeError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{file.name} must be a picture, such as a JPEG or PNG file; it could not be read "
            f"({error})."
        ) from error
    on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(ImageOps.fit(on_white.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX))


def _with_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits a pixel, its darkest pixel black and its brightest white."""
    values = np.asarray(picture, dtype=np.float64)
    low, high = values.min(), values.max()
    return Image.fromarray(np.uint8(255 * (values - low) / max(high - low, 1e-9)))


# Answers


def best_network(run: str | os.PathLike = "") -> tuple[results.Result, Path]:
    """The network that did best on validation images, of a run or of the published ones.

    Args:
        run: the run's folder; "" for the networks that come with the checkout.

    Returns:
        Its record and its file.

    Raises:
        UserError: if there is none.
    """
    found = results.load_results(run) if run else results.published()
    networks = {}
    for result in found:
        path = (
            results.model_path(run, *result.place)
            if run
            else results.published_network(*result.place)
        )
        if path.exists():
            networks[path] = result
    if not networks:
        where = f"the run {run}" if run else "this checkout"
        raise UserError(
            f"{where} must hold a trained network; it has none. Train some: python run_all.py "
            "--epochs 5, and name the run's folder with --run."
        )
    path = max(networks, key=lambda each: networks[each].record["validation"]["accuracy"])
    return networks[path], path


def classify(paths: Sequence[str | os.PathLike], run: str | os.PathLike = "") -> list[Answer]:
    """What the best network makes of pictures; arguments and errors as of the other functions.

    Confidences are calibrated by the temperature that was fitted on validation images.
    """
    pictures = np.stack([read_picture(path) for path in paths])
    result, path = best_network(run)
    from cifar_helpers.training import predict, read_network

    temperature = result.record["temperature_scaling"]["temperature"]
    probabilities = predict(read_network(path), pictures)
    probabilities = metrics.temperature_scale(probabilities, temperature)
    names = [row["class"] for row in result.record["per_class"]]
    answers = []
    for file, picture, row in zip(paths, pictures, probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:TOP]
        classes, confidences = [names[place] for place in order], row[order].tolist()
        answers.append(Answer(Path(file), picture, classes, confidences))
    return answers


def describe_network(run: str | os.PathLike = "") -> str:
    """Which network answers, how good it is, and what it cannot know, in two sentences."""
    result, _ = best_network(run)
    names = [row["class"] for row in result.record["per_class"]]
    accuracy = percent(result.record["test"]["accuracy"])
    return (
        f"The answer comes from {results.row_label(result)}, which classifies {accuracy} of the test "
        f"images of {result.record['dataset']['name']} correctly. It knows {len(names)} classes and takes every "
        f"picture for one of them: {listed(names)}."
    )


# The command line


def main(words: list[str] | None = None) -> int:
    """Say what is in pictures; gives the exit status, 2 for what is no picture."""
    parser = argparse.ArgumentParser(
        prog="python -m cifar_helpers.predict",
        description="Says which of the ten classes a picture shows, by a trained network.",
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files of any common format")
    parser.add_argument(
        "--run", default="", metavar="DIR", help="a run's folder (default: the published networks)"
    )
    asked = parser.parse_args(words)
    try:
        answers = classify(asked.pictures, asked.run)
        print(describe_network(asked.run))
    except UserError as error:
        print(f"predict: error: {error}", file=sys.stderr)
        return 2
    for answer in answers:
        print(f"\n{answer.path}")
        _draw(answer.seen)
        for name, confidence in zip(answer.classes, answer.confidences, strict=True):
            print(f"  {name:12s} {percent(confidence):>7s}")
    return 0


def _draw(picture: np.ndarray) -> None:
    """The picture as the network sees it, where the terminal has colours."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal or console.color_system != "truecolor":
        return
    for upper, lower in zip(picture[::2], picture[1::2], strict=True):
        line = Text("  ")
        for above, below in zip(upper, lower, strict=True):
            style = "rgb({},{},{}) on rgb({},{},{})".format(*above, *below)
            line.append("\N{UPPER HALF BLOCK}", style)
        console.print(line)


if __name__ == "__main__":
    sys.exit(main())
