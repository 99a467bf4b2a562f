"""How each row of the study is trained: frozen dataclasses, found by model and name.

`reference` recipes follow the study that is rebuilt here with its bugs left out; the `improved`
recipe of each model is the best known for that architecture within a like budget.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from cifar_helpers import files
from cifar_helpers.errors import UserError
from cifar_helpers.text import closest, listed

# Words of `--recipes` that stand for more than one recipe, and those that a plain run trains.
GROUPS = ("reference", "improved", "best", "ablations")
DEFAULT = ("reference", "improved")
QUICK_EPOCHS = 10


@dataclass(frozen=True)
class Phase:
    """One `fit`: an optimizer, a schedule and when to stop.

    Attributes:
        epochs: passes over the training images, at the most.
        batch_size: images a step.
        optimizer: "adam", "adamw" or "sgd" (Nesterov momentum 0.9).
        learning_rate: the constant or the peak learning rate.
        schedule: "constant", or "cosine" or "linear" decay to zero after the warm-up.
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

    def __post_init__(self):
        """Refuse what does not go together."""
        if self.ema and self.early_stopping:
            raise ValueError("weights are either averaged (ema) or the best (early_stopping).")
        if self.reduce_on_plateau and self.schedule != "constant":
            raise ValueError("reduce_on_plateau needs a constant schedule to halve.")


@dataclass(frozen=True)
class Reference:
    """Figures of the study that is rebuilt, on the CIFAR-10 test set.

    Attributes:
        test_accuracy: a fraction.
        test_loss: mean cross-entropy.
        overfitting_gap: last training minus last validation accuracy, in percentage points.
        epochs: run / planned, as published.
        backbone: the backbone where there is one.
    """

    test_accuracy: float
    test_loss: float
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
        phases: one, or for transfer learning two: feature extraction, then fine-tuning.
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

    @property
    def epochs(self) -> int:
        """Epochs of all phases, at the most."""
        return sum(phase.epochs for phase in self.phases)

    def capped(self, epochs: int) -> "Recipe":
        """The recipe with at most `epochs` epochs a phase; 0 leaves it as it is.

        Schedules are sized to the capped length, so that they still end at zero.
        """
        if epochs == 0:
            return self
        phases = tuple(replace(phase, epochs=min(phase.epochs, epochs)) for phase in self.phases)
        return replace(self, phases=phases)

    def in_batches(self, most: int) -> "Recipe":
        """The recipe with at most as many images a batch.

        The learning rate of SGD shrinks as the batch does (Goyal et al. 2017, arXiv:1706.02677);
        Adam's steps depend less on it.
        """
        return replace(self, phases=tuple(_in_batches(phase, most) for phase in self.phases))


def _in_batches(phase: Phase, most: int) -> Phase:
    size, rate = min(phase.batch_size, most), phase.learning_rate
    if phase.optimizer == "sgd":
        rate *= size / phase.batch_size
    return replace(phase, batch_size=size, learning_rate=rate)


_ADAM = Phase(epochs=50, batch_size=32, optimizer="adam", learning_rate=1e-3)
_PATIENT = replace(_ADAM, early_stopping=10, reduce_on_plateau=5)
_ADAMW = Phase(
    epochs=10,
    batch_size=64,
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="linear",
    warmup=0.2,
    weight_decay=1e-2,
    ema=0.99,
)
_FINE_TUNING = replace(_ADAMW, learning_rate=4e-4, schedule="cosine", warmup=0.1, ema=0.0)


def _transfer(image_size: int, unfrozen: int, epochs: int, reference: Reference) -> Recipe:
    head = replace(_PATIENT, epochs=epochs, batch_size=64)
    return Recipe(
        model="transfer",
        name=f"{image_size}px",
        group="reference",
        changes=f"{image_size} px, last {unfrozen} layers fine-tuned",
        phases=(head, replace(head, learning_rate=1e-5, unfrozen=unfrozen)),
        augmentation="flip",
        dropout=0.3 if image_size == 96 else 0.2,
        image_size=image_size,
        reference=reference,
    )


RECIPES = (
    Recipe(
        model="baseline_cnn",
        name="reference",
        group="reference",
        changes="Adam, constant learning rate",
        phases=(replace(_ADAM, epochs=10),),
        reference=Reference(0.6747, 1.104, 17.8, "10/10"),
    ),
    Recipe(
        model="baseline_cnn",
        name="improved",
        group="improved",
        changes="centred pixels, 2-pixel crop and flip, AdamW to zero, weight averaging, label smoothing",
        phases=(_ADAMW,),
        augmentation="crop2_flip",
        centred=True,
        label_smoothing=0.05,
        validation_fraction=0.1,
    ),
    Recipe(
        model="vgg10",
        name="base",
        group="reference",
        changes="dropout 0.2",
        phases=(replace(_ADAM, epochs=20),),
        dropout=0.2,
        reference=Reference(0.786, 0.6, 2.8, "20/20"),
    ),
    Recipe(
        model="vgg10",
        name="callbacks",
        group="reference",
        changes="+ early stopping, lower learning rate on a plateau",
        phases=(replace(_ADAM, early_stopping=5, reduce_on_plateau=2),),
        dropout=0.2,
        reference=Reference(0.805, 0.6, 7.4, "25/50"),
    ),
    Recipe(
        model="vgg10",
        name="optimized",
        group="reference",
        changes="+ rotation, shift, zoom and flip; more patience",
        phases=(_PATIENT,),
        augmentation="reference",
        dropout=0.2,
        reference=Reference(0.8208, 0.543, -1.8, "50/50"),
    ),
    Recipe(
        model="vgg10",
        name="improved",
        group="improved",
        changes=(
            "centred pixels, 4-pixel crop and flip, AdamW to zero, weight averaging, "
            "label smoothing, dropout 0.1"
        ),
        phases=(replace(_ADAMW, epochs=50, batch_size=128),),
        augmentation="crop_flip",
        dropout=0.1,
        centred=True,
        label_smoothing=0.05,
        validation_fraction=0.1,
    ),
    Recipe(
        model="resnet20",
        name="reference",
        group="reference",
        changes="rotation, shift, zoom and flip; early stopping; plateau schedule",
        phases=(
            replace(_ADAM, epochs=60, batch_size=128, early_stopping=20, reduce_on_plateau=10),
        ),
        augmentation="reference",
        reference=Reference(0.8770, 0.389, 3.1, "114/200"),
    ),
    Recipe(
        model="resnet20",
        name="improved",
        group="improved",
        changes="4-pixel crop and flip, Nesterov SGD to zero, weight decay, label smoothing",
        phases=(
            Phase(
                epochs=50,
                batch_size=128,
                optimizer="sgd",
                learning_rate=0.15,
                schedule="linear",
                warmup=0.2,
                weight_decay=5e-3,
            ),
        ),
        augmentation="crop_flip",
        label_smoothing=0.05,
        validation_fraction=0.1,
    ),
    _transfer(
        image_size=96,
        unfrozen=30,
        epochs=30,
        reference=Reference(0.9042, 0.275, -4.5, "30+30", "efficientnetv2b0"),
    ),
    _transfer(
        image_size=224,
        unfrozen=50,
        epochs=40,
        reference=Reference(0.9397, 0.174, 0.0, "40+40", "efficientnetv2b0"),
    ),
    Recipe(
        model="transfer",
        name="improved",
        group="improved",
        changes="every layer fine-tuned, AdamW to zero, crop and flip, label smoothing",
        phases=(
            replace(_ADAMW, learning_rate=1e-3, warmup=0.0, ema=0.0),
            replace(_FINE_TUNING, unfrozen=None),
        ),
        augmentation="crop_flip",
        dropout=0.2,
        label_smoothing=0.1,
        validation_fraction=0.1,
        image_size=128,
    ),
)


def of_model(model: str) -> tuple[Recipe, ...]:
    """All recipes of a model, in the order of the results table."""
    return tuple(recipe for recipe in RECIPES if recipe.model == model)


def names() -> tuple[str, ...]:
    """Every word that `--recipes` takes: the groups, then the single recipes."""
    return tuple(dict.fromkeys((*GROUPS, *(recipe.name for recipe in RECIPES))))


def select(model: str, wanted: list[str], *, epochs: int = 0) -> list[Recipe]:
    """The recipes of a model that were asked for, in the order of the results table.

    Args:
        model: one of `models.MODELS`.
        wanted: names of recipes and words of `GROUPS`. A name that another model has and this one
            has not is passed over.
        epochs: as of `Recipe.capped`.

    Raises:
        UserError: for a word that is neither a group nor any model's recipe.
    """
    for word in wanted:
        if word not in names():
            raise UserError(
                f"recipes must be among {listed(names())}; received {word}.{closest(word, names())}"
            )
    return [
        recipe.capped(epochs)
        for recipe in of_model(model)
        if recipe.name in wanted or recipe.group in wanted
    ]


def default_rows() -> list[tuple[str, str]]:
    """The (model, recipe name) pairs that a plain run trains, in the order of the results table."""
    return [(recipe.model, recipe.name) for recipe in RECIPES if recipe.group in DEFAULT]


def is_quick(epochs: int) -> bool:
    """Whether a cap on the epochs (0 for none) makes a run a quick pass."""
    return 0 < epochs <= QUICK_EPOCHS


def for_backbone(recipe: Recipe, backbone: str) -> Recipe:
    """The recipe as a backbone is trained by it.

    The study fine-tuned EfficientNetV2B0. With a smaller backbone the reference rows keep their
    image size, number of unfrozen layers, dropout and first phase, and fine-tune by the improved
    recipe's schedule, which did better on validation (`docs/recipes.md`). All other recipes stay as
    they are. Cap the epochs afterwards.

    Args:
        recipe: any, with the epochs as written.
        backbone: the run's, one of `models.BACKBONES`; "" for the one that was published.
    """
    backbone = recipe.backbone or backbone
    published = recipe.reference.backbone if recipe.reference else ""
    if not published or not backbone or backbone == published:
        return recipe
    head, tuned = recipe.phases
    return replace(
        recipe,
        phases=(head, replace(_FINE_TUNING, unfrozen=tuned.unfrozen)),
        changes=f"{recipe.changes} with AdamW to zero, 4-pixel crop, label smoothing",
        augmentation="crop_flip",
        label_smoothing=0.1,
    )


# What names a training. Words and published figures decide nothing; of a backbone of its own the
# weights' checksum is what counts.
_NEVER_HASHED = {"changes", "reference", "group", "backbone"}
# Fields added since then stay out while at their defaults, so that they change no earlier hash.
_FIRST_EDITION = frozenset(
    "model name phases augmentation dropout centred label_smoothing validation_fraction image_size "
    "epochs batch_size optimizer learning_rate schedule warmup weight_decay ema early_stopping "
    "reduce_on_plateau unfrozen".split()
)


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
    earlier_rule: bool = False,
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
        earlier_rule: name it as records of the first edition do. There early stopping and plateaus
            watched the loss with label smoothing.
    """
    decides = _deciding_fields(recipe) | {
        "seed": seed,
        "data": data_sha256,
        "split_seed": split_seed,
        "train_images": train_images,
        "validation_images": validation_images,
        "weights": weights,
        "precision": "mixed_bfloat16" if precision == "bfloat16" else precision,
    }
    if seed is None:
        del decides["seed"]
    if deterministic:
        decides["deterministic"] = True
    if differs_from_earlier_rule(recipe) and not earlier_rule:
        decides["watched"] = "val_cross_entropy"
    return files.json_hash(decides)


def differs_from_earlier_rule(recipe: Recipe) -> bool:
    """Whether a callback watches a loss that label smoothing made another one in the first edition."""
    return recipe.label_smoothing > 0 and any(
        phase.early_stopping or phase.reduce_on_plateau for phase in recipe.phases
    )


def _deciding_fields(entry: Recipe | Phase) -> dict[str, Any]:
    kept = {}
    for field in fields(entry):
        name, value = field.name, getattr(entry, field.name)
        if name in _FIRST_EDITION or (name not in _NEVER_HASHED and value != field.default):
            kept[name] = value
    if isinstance(entry, Recipe):
        kept["phases"] = [_deciding_fields(phase) for phase in entry.phases]
    return kept
