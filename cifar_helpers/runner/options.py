"""What a user may ask of the runner, said once: flags, help, defaults and checks."""

import argparse
import ast
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cifar_helpers import data, models, recipes
from cifar_helpers.errors import UserError, user_path
from cifar_helpers.hardware import cores
from cifar_helpers.recipes import QUICK_EPOCHS
from cifar_helpers.runner.notebooks import Notebook
from cifar_helpers.text import closest, listed

# Headings of `--help`, each with the first of its options.
GROUPS = {
    "epochs": "what to run",
    "dataset": "data and weights",
    "out": "the run's folder",
    "workers": "execution",
}
LOCK = "run.lock"  # in a run's folder
PATHS = ("data_dir", "weights_file", "picture")  # options that name what must be there
_REFERENCE_SIZES = [
    recipe.image_size
    for recipe in recipes.RECIPES
    if recipe.reference and models.MODELS[recipe.model].has_backbone
]
_QUICK_TRAIN_SIZES = ", ".join(
    f"{each.quick_train_size} of {each.subject}" for each in data.DATASETS.values()
)


@dataclass(frozen=True)
class Option:
    """All there is to know of an option but its type.

    Attributes:
        help: its text in `--help`.
        metavar: stands for a value there.
        choices: the words it takes, of which the first is the default; () for any.
        least: the smallest whole number.
        default: what leaving it out means; None where that is not one value.
        quick_default: the same in a quick pass, if that is something else.
        use: words among "parameter" (of notebooks too, by the same name), "name" (part of the name
            of the run's folder) and "settings" (all results in a folder have it in common).
        left_out: what a notebook is given where the option is left out, so that no flags are the
            full study whatever the notebook's own default is; None leaves that as it is.
        flag: as it is typed, where that is not its name.
        may_be_empty: whether a list may hold nothing.
    """

    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    default: Any = None
    quick_default: Any = ...
    use: str = ""
    left_out: Any = None
    flag: str = ""
    may_be_empty: bool = False


def _option(text: str, unset: Any = None, **details: Any) -> Any:
    return field(default=unset, metadata={"option": Option(text, **details)})


@dataclass(frozen=True)
class Options:
    """What was asked for, and the table of all options; None and () stand for "not given"."""

    epochs: int | None = _option(
        "cap on the epochs of every training phase (default: as each recipe says); up to "
        f"{QUICK_EPOCHS}, each recipe has one seed and fewer training images, and notebook 04 "
        "works on smaller ones",
        metavar="N",
        least=1,
        use="parameter settings",
        left_out=0,
    )
    notebooks: tuple[str, ...] = _option(
        "numbers or names of the notebooks to run (default: all)", (), metavar="NN"
    )
    recipes: tuple[str, ...] | None = _option(
        f"{', '.join(recipes.GROUPS)}, or names of single recipes (default: "
        f"{' '.join(recipes.DEFAULT)})",
        metavar="NAME",
        default=recipes.DEFAULT,
        use="parameter name",
        left_out=list(recipes.DEFAULT),
    )
    seeds: tuple[int, ...] | None = _option(
        "train each recipe once with each seed (default: as the notebook says, 0 1 2 for the "
        f"baseline and ablations, 0 for the others; 0 in all with up to {QUICK_EPOCHS} epochs)",
        metavar="K",
        quick_default=(0,),
        use="parameter name",
        left_out=[],
    )
    precision: str | None = _option(
        "number format that training runs compute in (default: float32, in a quick pass auto); auto: "
        "that of a record in the run's folder, else the one measured to be faster on such processors",
        choices=("auto", "float32", "bfloat16"),
        use="parameter name settings",
    )
    full_size: bool = _option(
        f"all training images, at the recipes' sizes, also with up to {QUICK_EPOCHS} epochs", False
    )
    image_size: tuple[int, ...] | None = _option(
        "input sizes of the two transfer-learning reference recipes (default: "
        f"{_REFERENCE_SIZES[0]} {_REFERENCE_SIZES[-1]})",
        metavar="PX",
        default=(_REFERENCE_SIZES[0], _REFERENCE_SIZES[-1]),
        quick_default=None,
        use="parameter name settings",
        left_out=[],
    )
    check_published: tuple[str, ...] | None = _option(
        "instead, train the cheapest published row, or those named, once more with a new seed, and "
        "say whether it agrees with their records (exit status 0 if so, else 1)",
        metavar="MODEL/RECIPE",
        may_be_empty=True,
    )
    parameters: tuple[str, ...] = _option(
        "any other parameter of the notebooks that are to run; may be repeated",
        (),
        metavar="NAME=VALUE",
        flag="-p",
    )
    dataset: str | None = _option(
        "auto (default): CIFAR-10, or where no copy can be had a small drawn toy set; "
        "cifar10: fail instead; toy: the toy set outright",
        choices=("auto", *data.DATASETS),
        use="parameter",
    )
    data_dir: str | None = _option(
        "folder with the official python batches, or the official archive (default: the "
        "environment variable CIFAR10_DIR, else the cache, else a download)",
        metavar="DIR",
        use="parameter",
    )
    train_size: int | None = _option(
        "training images kept at the most, as many of each class (default: all; with up to "
        f"{QUICK_EPOCHS} epochs {_QUICK_TRAIN_SIZES}, fewer in notebooks 03 and 04)",
        metavar="N",
        least=10,
        use="parameter name settings",
        left_out=0,
    )
    backbone: str | None = _option(
        "auto (default): EfficientNetV2B0 where its weights can be had, else EfficientNet-Lite0",
        choices=("auto", *models.BACKBONES),
        use="parameter name settings",
    )
    weights_file: str | None = _option(
        "ImageNet weights of EfficientNetV2B0 without top, as Keras publishes them",
        metavar="FILE",
        use="parameter name settings",
    )
    picture: str | None = _option(
        "a picture of your own, which notebook 05 classifies", metavar="FILE", use="parameter"
    )
    out: str | None = _option(
        "the run's folder (default: runs/NAME, the name made from the options)", metavar="DIR"
    )
    fresh: bool = _option("begin anew; the folder of an earlier run is renamed, not deleted", False)
    html: bool = _option("write no HTML pages", True, flag="--no-html")
    workers: int | None = _option(
        "training runs at the same time on this machine, ahead of the notebooks (default: 1, in the "
        f"notebooks; with up to {QUICK_EPOCHS} epochs 2)",
        metavar="N",
        least=1,
    )
    scheduler: str | None = _option(
        "do the training runs on the workers of a Dask cluster, such as tcp://host:8786; they need "
        "no folder in common (needs the [cluster] extra)",
        metavar="ADDRESS",
    )
    cell_timeout: int | None = _option(
        "seconds after which a cell that still runs fails (default: none)", metavar="S", least=1
    )
    # The `-p` parameters that are no options, once `check` has read them.
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def is_quick(self) -> bool:
        """Whether the cap on the epochs makes it a quick pass."""
        return recipes.is_quick(self.epochs or 0)

    @property
    def processes(self) -> int:
        """What `workers` stands for: how many processes of this machine train."""
        if self.workers:
            return self.workers
        # Short trainings are little more than their start, which takes one core.
        return min(2, cores()) if self.is_quick else 1

    def at_full_size(self, images: int) -> "Options":
        """With what `full_size` stands for: how many training images there are, and how large."""
        if not self.full_size or not self.is_quick:
            return self
        sizes = self.image_size or TABLE["image_size"].default
        return replace(self, train_size=self.train_size or images, image_size=sizes)

    def flags(self, *, but: Iterable[str]) -> list[str]:
        """The options that say something, without the named ones, as they are typed."""
        said = [name for name in TABLE if getattr(self, name) != getattr(Options, name)]
        return [_flag(name) for name in said if name not in but]

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of `names` that were given, as plain values."""
        values = {name: getattr(self, name) for name in names}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value not in (None, ())
        }

    def changed(self, use: str) -> dict[str, Any]:
        """Those given, of the ones with a use, that say something else than the default."""
        found = self.given(with_use(use))
        return {name: value for name, value in found.items() if value != self._default(name)}

    def _default(self, name: str) -> Any:
        option = TABLE[name]
        default = option.choices[0] if option.choices else option.default
        if self.is_quick and option.quick_default is not ...:
            default = option.quick_default
        elif name == "precision" and not self.is_quick:
            default = None  # left out it is float32, which as an option has a name of its own
        return list(default) if isinstance(default, tuple) else default

    def for_notebooks(self) -> dict[str, Any]:
        """The notebook parameters that say what was asked for, and what was left out."""
        names = with_use("parameter")
        left_out = {name: TABLE[name].left_out for name in names}
        known = {name: value for name, value in left_out.items() if value is not None}
        return known | self.given(names) | self.others


TABLE: dict[str, Option] = {
    each.name: each.metadata["option"] for each in fields(Options) if each.metadata
}


def with_use(use: str) -> list[str]:
    """The names of the options whose `use` has a word."""
    return [name for name, option in TABLE.items() if use in option.use]


# The command line


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line."""

    def error(self, message: str):
        """Print what is wrong and where help is, and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def parse(words: list[str] | None, **about: Any) -> Options:
    """The options of a command line, not checked yet beyond its form.

    Args:
        words: without the program's name; None for `sys.argv`.
        about: texts for `argparse.ArgumentParser`.

    Raises:
        SystemExit: with status 2, after a line that says what is wrong.
    """
    parser = _Parser(
        prog="run_all.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **about,
    )
    for name, option in TABLE.items():
        if name in GROUPS:
            group = parser.add_argument_group(GROUPS[name])
        group.add_argument(_flag(name), dest=name, **_details(name, option))
    found = vars(parser.parse_args(words))
    return Options(**{name: _frozen(value) for name, value in found.items()})


def _details(name: str, option: Option) -> dict[str, Any]:
    """What `argparse` is to know of an option."""
    unset, kind = getattr(Options, name), str(Options.__annotations__[name])
    details: dict[str, Any] = {"default": unset, "help": option.help}
    if isinstance(unset, bool):
        return details | {"action": "store_false" if unset else "store_true"}
    details["metavar"] = option.metavar
    if "int" in kind:
        details["type"] = _whole_number
    if option.choices:
        details["choices"] = option.choices
    if "tuple" in kind:
        details["nargs"] = "*" if option.may_be_empty else "+"
    if name == "parameters":
        details |= {"action": "extend", "default": []}
    return details


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        message = f"must be a whole number; received {text!r}"
        raise argparse.ArgumentTypeError(message) from None


# Checks


def check(options: Options, notebooks: list[Notebook]) -> Options:
    """The options with those of `-p` in their places, checked without loading data or Keras.

    Args:
        options: as given.
        notebooks: those that are to run; they say which parameters there are.

    Raises:
        UserError: for the first value that will not do.
    """
    options = _place_parameters(options, notebooks)
    for name, option in TABLE.items():
        value = getattr(options, name)
        if (
            option.least is not None
            and value is not None
            and not recipes.is_whole(value, option.least)
        ):
            advice = " Leave it out for no limit." if getattr(Options, name) is None else ""
            raise UserError(
                f"{_flag(name)} must be a whole number of at least {option.least}; "
                f"received {value!r}.{advice}"
            )
        if option.choices and value is not None and value not in option.choices:
            raise UserError(
                f"{_flag(name)} must be one of {listed(option.choices)}; received {value!r}."
            )
    if options.recipes is not None:
        recipes.check_names(options.recipes or ("",), option="--recipes")
    if options.seeds is not None:
        recipes.check_seeds(options.seeds, option="--seeds")
    if options.image_size is not None:
        recipes.check_image_size(options.image_size, option="--image-size")
    _check_paths(options)
    return options


def _check_paths(options: Options) -> None:
    """Files that must be there, and a folder that can be written."""
    for name, path in options.given((*PATHS, "out")).items():
        if not path:
            raise UserError(f"{_flag(name)} must name a file or folder; received no name at all.")
    for name, path in options.given(PATHS).items():
        if not user_path(path).exists():
            raise UserError(
                f"{_flag(name)} must exist; there is no {path}. Correct the path, or leave the "
                "option out."
            )
    for name, path in options.given(("weights_file", "picture")).items():
        if not user_path(path).is_file():
            raise UserError(f"{_flag(name)} must be a file; {path} is a folder.")
    dataset = data.DATASETS.get(options.dataset or "")
    if options.data_dir and dataset and not dataset.takes_copy:
        raise UserError(f"--dataset {dataset.name} reads no copy; leave --data-dir out.")
    if options.out is not None:
        _check_out(options.out)


def holds_files(folder: Path) -> bool:
    """Whether a folder is there and has more in it than a runner's lock."""
    return folder.is_dir() and any(each.name != LOCK for each in folder.iterdir())


def _check_out(out: str) -> None:
    path = user_path(out).absolute()
    if path.exists() and not path.is_dir():
        raise UserError(f"--out must be a folder; {out} is a file.")
    # Anything else in it could be overwritten, or moved away by --fresh.
    if holds_files(path) and not (path / "run.json").is_file():
        raise UserError(
            f"--out must be a new or empty folder, or that of an earlier run; {out} holds other files."
        )
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--out must be a folder that can be written; {out} cannot.")


# -p NAME=VALUE


def _place_parameters(options: Options, notebooks: list[Notebook]) -> Options:
    """Read `-p`; what is also a flag becomes that flag, so that the same checks hold for it."""
    parsed: dict[str, Any] = {}
    texts = {}
    for text in options.parameters:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"-p takes NAME=VALUE; received {text!r}.")
        if name in parsed:
            raise UserError(f"-p {name} was given twice.")
        if name == "out":
            raise UserError("-p out is set by the runner; name the run's folder with --out.")
        if name == "train_anew":
            raise UserError("-p train_anew is set by the runner, which always trains.")
        parsed[name], texts[name] = _read_parameter(name, value, notebooks), text
    flags = {name: _frozen(parsed.pop(name)) for name in with_use("parameter") if name in parsed}
    for name in flags:
        if getattr(options, name) is not None:
            raise UserError(f"{_flag(name)} and -p {name} say the same thing; give one.")
    rest = tuple(texts[name] for name in parsed)
    return replace(options, **flags, parameters=rest, others=parsed)


def _read_parameter(name: str, text: str, notebooks: list[Notebook]) -> Any:
    """The value of a parameter, as the type that the notebooks annotate it with."""
    types = {notebook.types[name] for notebook in notebooks if name in notebook.types}
    if not types:
        known = list(dict.fromkeys(key for notebook in notebooks for key in notebook.types))
        raise UserError(
            f"-p {name}: no notebook that is to run has this parameter."
            f"{closest(name, known)} Known: {listed(known)}."
        )
    for kind in types:
        try:
            value = _literal(text, kind)
        except (ValueError, SyntaxError, TypeError):
            example = {"str": "text", "list": '"[0, 1]"', "bool": "True", "float": "0.5"}
            raise UserError(
                f"-p {name} must be of type {kind}, such as {name}={example.get(kind, '5')}; "
                f"received {text!r}."
            ) from None
    return value


def _literal(text: str, kind: str) -> Any:
    """`text` read as a Python literal of the type; ValueError and the like if it is none."""
    if kind == "str" and text[:1] not in ("'", '"'):
        return text
    value = ast.literal_eval(text.capitalize() if kind == "bool" else text)
    if kind == "float" and type(value) is int:
        return float(value)
    kinds: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool}
    wanted = (kinds | {"list": (list, tuple)}).get(kind.partition("[")[0])
    # bool is a subclass of int, but True is no number of epochs.
    if wanted and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        raise ValueError(text)
    return list(value) if isinstance(value, tuple) else value


# Words


def _flag(name: str) -> str:
    return TABLE[name].flag or "--" + name.replace("_", "-")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
