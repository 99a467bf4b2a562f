"""What a recipe is: frozen dataclasses, variants of them, and the hash that names a training."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from cifar_helpers import files
from cifar_helpers.errors import UserError
from cifar_helpers.text import closest, listed

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
# What may be asked for, and Keras' policy for it, by which it is hashed and recorded.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


_SHARE = ("in [0, 1)", lambda value: 0 <= value < 1)
_COUNT = ("a whole number of at least 0", lambda value: isinstance(value, int) and value >= 0)
_POSITIVE = ("a whole number of at least 1", lambda value: isinstance(value, int) and value >= 1)


@dataclass(frozen=True)
class Phase:
    """One `fit`: an optimizer, a schedule and when to stop.

    Attributes:
        epochs: passes over the training images, at the most.
        batch_size: images a step.
        optimizer: "adam", "adamw" or "sgd" (Nesterov momentum 0.9).
        learning_rate: the constant or the peak learning rate.
        schedule: "constant", or "cosine" or "linear" decay to zero, after the warm-up.
        warmup: share of the steps over which the learning rate rises from zero, in [0, 1).
        weight_decay: decoupled, as Keras applies it: each step takes `learning_rate *
            weight_decay` of each kernel away. With momentum 0.9, PyTorch's coupled 5e-4 is about
            5e-3 here. Biases and batch-norm weights do not decay.
        ema: momentum of the average of the weights that is evaluated and kept; 0 for none.
        early_stopping: epochs without a lower validation loss before training stops and goes back
            to the best weights; 0 for never.
        reduce_on_plateau: epochs without a lower validation loss before the learning rate halves;
            0 for never.
        unfrozen: for transfer learning, how many of the backbone's last layers train: 0 none
            (the head trains on cached features), None all.
        image_size: for transfer learning, the input height and width in this phase, in pixels; 0
            for the recipe's, which the trained network has.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    ema: float = 0.0
    early_stopping: int = 0
    reduce_on_plateau: int = 0
    unfrozen: int | None = 0
    image_size: int = 0

    def __post_init__(self):
        """Refuse what is not known, and what does not go together."""
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {listed(known)}; received {getattr(self, name)!r}."
                )
        _check_numbers(self)
        if self.ema and self.early_stopping:
            raise ValueError(
                "weights are either averaged or the best ones; received "
                f"ema={self.ema} and early_stopping={self.early_stopping}. Set one of them to 0."
            )
        if self.reduce_on_plateau and (self.warmup or self.schedule != "constant"):
            raise ValueError(
                "reduce_on_plateau halves a constant learning rate; received "
                f"schedule={self.schedule!r} and warmup={self.warmup}. Set it to 0, or leave those out."
            )


@dataclass(frozen=True)
class Reference:
    """Figures of the original study, on the CIFAR-10 test set.

    Attributes:
        test_accuracy: a fraction.
        overfitting_gap: last training minus last validation accuracy, in percentage points.
        epochs: run / planned, in the study.
        backbone: the backbone where there is one.
    """

    test_accuracy: float
    overfitting_gap: float
    epochs: str
    backbone: str = ""


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run but the data, the seed and the hardware.

    Attributes:
        model: one of `models.MODELS`.
        name: unique within the model.
        changes: what differs from the row above, in a few words.
        phases: one, or for transfer learning several: feature extraction, then fine-tuning.
        augmentation: a policy of `data.augment`.
        dropout: rate of the model's dropout layers; None where it has none.
        centred: whether pixels reach the first layer with about zero mean and unit variance, not
            in [0, 1]; an EfficientNet has its own range.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        validation_fraction: share of the training images held out.
        image_size: for transfer learning, the backbone's input height and width in pixels.
        reference: the published figures, where the row rebuilds one.
        group: the word of `GROUPS` that asks for it, or "" if only its name does.
        backbone: for transfer learning, a backbone of its own; "" for the run's.
        pretrained: whether a backbone has its ImageNet weights; False leaves them random, and the
            batch norms of unfrozen layers follow the batches, as in any training from scratch.
        train_images: training images kept at the most, and as large a part of the validation
            images; 0 for all that there are.
        network: what the model's builder is given besides, as pairs of name and value: another
            network than the study's. `variant` takes a mapping.
        variant_of: the recipe of the same model that this one was made from by `variant`.
        teacher: the transfer-learning recipe whose network, seed 0, teaches; "" for none. A taught
            recipe has the augmentation "grid_crop_flip".
        teacher_share: weight of the teacher's part of the loss, in [0, 1].
        temperature: that soft targets are compared at, at least 1.
        explained: for transfer learning, whether heat maps and nearest images are kept beside the
            record, since the network is not published (`training.explained`).
    """

    model: str
    name: str
    changes: str
    phases: tuple[Phase, ...]
    augmentation: str = "none"
    dropout: float | None = None
    centred: bool = False
    label_smoothing: float = 0.0
    validation_fraction: float = 0.2
    image_size: int = 32
    reference: Reference | None = None
    group: str = ""
    backbone: str = ""
    pretrained: bool = True
    train_images: int = 0
    network: tuple[tuple[str, Any], ...] = ()
    variant_of: str = ""
    teacher: str = ""
    teacher_share: float = 0.0
    temperature: float = 1.0
    explained: bool = False

    def __post_init__(self):
        """Refuse what cannot be."""
        _check_numbers(self)
        if not self.teacher and (self.teacher_share or self.temperature != 1):
            raise ValueError(
                f"without a teacher, teacher_share must be 0 and temperature 1; received "
                f"{self.teacher_share} and {self.temperature}."
            )

    @property
    def epochs(self) -> int:
        """Epochs of all phases, at the most."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def may_stop(self) -> bool:
        """Whether early stopping may end it before that."""
        return any(phase.early_stopping for phase in self.phases)

    def capped(self, epochs: int) -> "Recipe":
        """The recipe with at most `epochs` epochs a phase; 0 leaves it as it is.

        Schedules are sized to the capped length, so that they still end at zero. What is shorter is
        not worth a closer look.
        """
        if epochs == 0:
            return self
        phases = tuple(replace(phase, epochs=min(phase.epochs, epochs)) for phase in self.phases)
        return replace(self, phases=phases, explained=self.explained and phases == self.phases)

    def in_batches(self, most: int) -> "Recipe":
        """The recipe with at most as many images a batch.

        The learning rate of SGD shrinks as the batch does (Goyal et al. 2017, arXiv:1706.02677);
        Adam's steps depend less on it.
        """
        return replace(self, phases=tuple(_in_batches(phase, most) for phase in self.phases))


_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "epochs": _POSITIVE,
    "batch_size": _POSITIVE,
    "learning_rate": ("above 0", lambda value: value > 0),
    "warmup": _SHARE,
    "weight_decay": ("at least 0", lambda value: value >= 0),
    "ema": _SHARE,
    "early_stopping": _COUNT,
    "reduce_on_plateau": _COUNT,
    "unfrozen": ("None or a whole number", lambda value: value is None or _COUNT[1](value)),
    "dropout": ("None or in [0, 1)", lambda value: value is None or 0 <= value < 1),
    "label_smoothing": _SHARE,
    "validation_fraction": ("in (0, 1)", lambda value: 0 < value < 1),
    "train_images": _COUNT,
    "image_size": (
        "0 or a whole number from 32 to 512",
        lambda value: isinstance(value, int) and (value == 0 or 32 <= value <= 512),
    ),
    "teacher_share": ("in [0, 1]", lambda value: 0 <= value <= 1),
    "temperature": ("at least 1", lambda value: value >= 1),
}


def _check_numbers(made: Phase | Recipe) -> None:
    """Refuse numbers that a field cannot have, and write 1 as 1.0 where a field may hold either.

    Equal recipes then have one hash.
    """
    for name in _RANGES.keys() & {each.name for each in fields(made)}:
        words, holds = _RANGES[name]
        value = getattr(made, name)
        if not holds(value):
            raise ValueError(f"{name} must be {words}; received {value!r}.")
    for field in fields(made):
        value = getattr(made, field.name)
        if field.type in (float, float | None) and isinstance(value, int):
            object.__setattr__(made, field.name, float(value))


def _in_batches(phase: Phase, most: int) -> Phase:
    size, rate = min(phase.batch_size, most), phase.learning_rate
    if phase.optimizer == "sgd":
        rate *= size / phase.batch_size
    return replace(phase, batch_size=size, learning_rate=rate)


# Variants


# What a variant is told by arguments of their own.
_SAID_OTHERWISE = {"model", "name", "phases", "network", "reference", "variant_of"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def variant(
    recipe: Recipe,
    name: str,
    *,
    phase: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    network: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Recipe:
    """A recipe with something changed: a row and a record of its own.

        variant(improved, "no-averaging", phase={"ema": 0})
        variant(improved, "half-frozen", phase=({}, {"unfrozen": 50}))
        variant(improved, "plain", network={"shortcuts": False})

    To tell what a change is worth, change one thing.

    Args:
        recipe: the base of the comparison.
        name: of the variant; a recipe is known by model and name.
        phase: new values of fields of `Phase`; for a recipe of several phases a sequence, one
            mapping each.
        network: arguments of the model's builder besides those that other fields stand for.
        changes: new values of the other fields of `Recipe`. What it calls itself in tables,
            `changes`, says the base and the change if it is left out.

    Raises:
        UserError: for a name that is the base's or no file name, an unknown field, values that do
            not go together, or where nothing changes.
    """
    if name == recipe.name or not _NAME.fullmatch(name):
        raise UserError(
            "a variant must have a name of its own of letters, digits, dots, dashes and "
            f"underscores; received {name!r}, made from {recipe.name!r}."
        )
    every = [phase] if isinstance(phase, Mapping) else list(phase or [{}] * len(recipe.phases))
    if len(every) != len(recipe.phases):
        raise UserError(
            f"phase must hold one mapping for each of the {len(recipe.phases)} phases of "
            f"{recipe.name}, in their order, such as ({{}}, {{'epochs': 3}}); received {phase!r}."
        )
    _check_fields(Recipe, changes)
    for each in every:
        _check_fields(Phase, each)
    told = [
        f"{key} {value}" for each in (*every, network or {}, changes) for key, value in each.items()
    ]
    plain = {"group": "", "explained": False}
    changes = {"changes": f"{recipe.name}, {', '.join(told)}", **plain, **changes}
    if network:
        merged = {**dict(recipe.network), **network}
        changes["network"] = tuple(
            (key, tuple(value) if isinstance(value, list) else value)
            for key, value in sorted(merged.items())
        )
    try:
        phases = tuple(replace(old, **new) for old, new in zip(recipe.phases, every, strict=True))
        made = replace(
            recipe, name=name, phases=phases, reference=None, variant_of=recipe.name, **changes
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"the variant {name} cannot be: {error}") from error
    if _deciding_fields(replace(made, name=recipe.name)) == _deciding_fields(recipe) and all(
        getattr(made, each) == getattr(recipe, each) for each in _DECIDE_ELSEWHERE
    ):
        raise UserError(
            f"the variant {name} must change something of {recipe.name}; nothing differs."
        )
    return made


def _check_fields(kind: type[Recipe] | type[Phase], given: Iterable[str]) -> None:
    known = [each.name for each in fields(kind) if each.name not in _SAID_OTHERWISE]
    for name in given:
        if name not in known:
            raise UserError(
                f"a variant changes fields of a {kind.__name__.lower()}: {listed(known)}; received "
                f"{name}.{closest(name, known)}"
            )


# Hashes

# What names a training. Words and published figures decide nothing. Of the others, the weights'
# checksum or name and the number of images that there are count.
_DECIDE_ELSEWHERE = {"backbone", "pretrained", "train_images"}
_WORDS = {"changes", "reference", "group", "variant_of"}
_NEVER_HASHED = {*_WORDS, "explained", *_DECIDE_ELSEWHERE}
# Fields added since then stay out while at their defaults, so that they change no earlier hash.
_FIRST_EDITION = {
    Recipe: "model name phases augmentation dropout centred label_smoothing validation_fraction "
    "image_size".split(),
    Phase: "epochs batch_size optimizer learning_rate schedule warmup weight_decay ema "
    "early_stopping reduce_on_plateau unfrozen".split(),
}


def precision_name(policy: str) -> str:
    """What readers see for one of Keras' policies."""
    return policy.removeprefix("mixed_")


def parameters_hash(
    recipe: Recipe,
    *,
    seed: int | None,
    data_sha256: str,
    split_seed: int,
    train_images: int,
    validation_images: int,
    weights: str | None,
    precision: str,
    deterministic: bool = False,
    teacher: str | None = None,
) -> str:
    """A name for all that decides a training's outcome, and for nothing else: a SHA-256 in hex.

    Args:
        recipe: as capped and resized.
        seed: of the training; None names the experiment, whose trainings differ in their seed alone.
        data_sha256: of the images and labels, as of `data.Source`.
        split_seed: of the division into training and validation images.
        train_images: how many there are.
        validation_images: how many there are.
        weights: the SHA-256 of the backbone's, or the name of a backbone with random weights; None
            where there is no backbone.
        precision: "float32", or "mixed_bfloat16", which "bfloat16" stands for.
        deterministic: whether only deterministic kernels are used.
        teacher: the SHA-256 of a teacher's weights; None where there is none.
    """
    decides = _deciding_fields(recipe) | {
        "seed": seed,
        "data": data_sha256,
        "split_seed": split_seed,
        "train_images": train_images,
        "validation_images": validation_images,
        "weights": weights,
        "precision": PRECISIONS.get(precision, precision),
    }
    if seed is None:
        del decides["seed"]
    if deterministic:
        decides["deterministic"] = True
    if teacher:
        decides["teacher_weights"] = teacher
    watches = any(phase.early_stopping or phase.reduce_on_plateau for phase in recipe.phases)
    if watches and recipe.label_smoothing:  # the first edition watched the smoothed loss
        decides["watched"] = "val_cross_entropy"
    return files.json_hash(decides)


def _deciding_fields(entry: Recipe | Phase) -> dict[str, Any]:
    kept = {}
    kind: type = Recipe if isinstance(entry, Recipe) else Phase
    for field in fields(entry):
        name, value = field.name, getattr(entry, field.name)
        if name in _FIRST_EDITION[kind] or (name not in _NEVER_HASHED and value != field.default):
            kept[name] = value
    if isinstance(entry, Recipe):
        kept["phases"] = [_deciding_fields(phase) for phase in entry.phases]
    return kept
