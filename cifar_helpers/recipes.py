"""How each row of the study is trained, and its variants, found by model and name.

`reference` recipes follow the original study with its bugs left out; the `improved`
recipe of each model is the best known for that architecture within a like budget. `ablations`
change one thing of such a recipe each, to tell what that is worth.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from cifar_helpers.errors import UserError
from cifar_helpers.recipe import (
    PRECISIONS,
    Phase,
    Recipe,
    Reference,
    parameters_hash,
    precision_name,
    variant,
)
from cifar_helpers.text import closest, listed

__all__ = [
    "ABLATIONS",
    "ABLATION_SEEDS",
    "DEFAULT",
    "GROUPS",
    "PRECISIONS",
    "QUICK_EPOCHS",
    "RECIPES",
    "Phase",
    "Recipe",
    "Reference",
    "check_image_size",
    "check_model",
    "check_names",
    "check_seeds",
    "default_rows",
    "for_backbone",
    "is_quick",
    "is_whole",
    "names",
    "of_model",
    "parameters_hash",
    "precision_name",
    "select",
    "variant",
]

# Words of `--recipes` that stand for more than one recipe, and those that a plain run trains.
GROUPS = ("reference", "improved", "best", "ablations")
DEFAULT = ("reference", "improved")
QUICK_EPOCHS = 10
ABLATION_SEEDS = (0, 1, 2)  # unless others are asked for


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
_SGD = Phase(
    epochs=50,
    batch_size=128,
    optimizer="sgd",
    learning_rate=0.15,
    schedule="linear",
    warmup=0.2,
    weight_decay=5e-3,
)
# A teacher's answers take the labels' place, so that there is nothing to smooth.
_TAUGHT: dict[str, Any] = {
    "augmentation": "grid_crop_flip",
    "validation_fraction": 0.1,
    "teacher": "improved",
    "teacher_share": 1.0,
    "temperature": 4.0,
}
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
        explained=True,
    )


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        model="baseline_cnn",
        name="reference",
        group="reference",
        changes="Adam, constant learning rate",
        phases=(replace(_ADAM, epochs=10),),
        reference=Reference(0.6747, 17.8, "10/10"),
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
        model="baseline_cnn",
        name="best",
        group="best",
        changes="the improved recipe with a 4-pixel crop, for 60 epochs",
        phases=(replace(_ADAMW, epochs=60),),
        augmentation="crop_flip",
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
        reference=Reference(0.786, 2.8, "20/20"),
    ),
    Recipe(
        model="vgg10",
        name="callbacks",
        group="reference",
        changes="+ early stopping, lower learning rate on a plateau",
        phases=(replace(_ADAM, early_stopping=5, reduce_on_plateau=2),),
        dropout=0.2,
        reference=Reference(0.805, 7.4, "25/50"),
    ),
    Recipe(
        model="vgg10",
        name="optimized",
        group="reference",
        changes="+ rotation, shift, zoom and flip; more patience",
        phases=(_PATIENT,),
        augmentation="reference",
        dropout=0.2,
        reference=Reference(0.8208, -1.8, "50/50"),
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
        model="vgg10",
        name="best",
        group="best",
        changes="the improved recipe for 150 epochs, taught by the transfer network",
        phases=(replace(_ADAMW, epochs=150, batch_size=128),),
        dropout=0.1,
        centred=True,
        **_TAUGHT,
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
        reference=Reference(0.8770, 3.1, "114/200"),
    ),
    Recipe(
        model="resnet20",
        name="improved",
        group="improved",
        changes="4-pixel crop and flip, Nesterov SGD to zero, weight decay, label smoothing",
        phases=(_SGD,),
        augmentation="crop_flip",
        label_smoothing=0.05,
        validation_fraction=0.1,
    ),
    Recipe(
        model="resnet20",
        name="best",
        group="best",
        changes="the improved recipe for 200 epochs, taught by the transfer network",
        phases=(replace(_SGD, epochs=200),),
        **_TAUGHT,
    ),
    _transfer(
        image_size=96,
        unfrozen=30,
        epochs=30,
        reference=Reference(0.9042, -4.5, "30+30", "efficientnetv2b0"),
    ),
    _transfer(
        image_size=224,
        unfrozen=50,
        epochs=40,
        reference=Reference(0.9397, 0.0, "40+40", "efficientnetv2b0"),
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
        explained=True,
    ),
    Recipe(
        model="transfer",
        name="best",
        group="best",
        changes="EfficientNet-Lite2, every layer for 6 epochs at 128 px and one at 224",
        backbone="efficientnet-lite2",
        phases=(
            replace(_ADAMW, learning_rate=1e-3, warmup=0.0, ema=0.0, image_size=128),
            replace(_FINE_TUNING, epochs=6, unfrozen=None, image_size=128),
            replace(_FINE_TUNING, epochs=1, learning_rate=1e-4, warmup=0.0, unfrozen=None),
        ),
        augmentation="crop_flip",
        dropout=0.2,
        label_smoothing=0.1,
        validation_fraction=0.1,
        image_size=224,
        explained=True,
    ),
)


def _row(model: str, name: str) -> Recipe:
    return next(row for row in RECIPES if (row.model, row.name) == (model, name))


def _at(row: Recipe, name: str, epochs: int, images: int, **changes: Any) -> Recipe:
    """The base of a question: a row of the study at epochs and images that the answer allows."""
    size = f" at {changes['image_size']} px" if "image_size" in changes else ""
    about = f"{row.name}{size}, {epochs} epochs a phase, {images:,} images"
    phases = [{"epochs": epochs}] * len(row.phases)
    return variant(row, name, phase=phases, train_images=images, changes=about, **changes)


_BASELINE = _row("baseline_cnn", "improved")
_VGG = _at(_row("vgg10", "base"), "short-base", 10, 20_000)
_CALLBACKS: dict[str, Any] = {
    "phase": {"early_stopping": 5, "reduce_on_plateau": 2},
    "changes": "+ early stopping, lower learning rate on a plateau",
}
_VGG_CALLBACKS = variant(_VGG, "with-callbacks", **_CALLBACKS)
# In ten epochs no callback acts: fewer images and more epochs overfit, so that they do.
_VGG_LONG = _at(_row("vgg10", "base"), "long-base", 40, 10_000)
_VGG_LONG_CALLBACKS = variant(_VGG_LONG, "long-callbacks", **_CALLBACKS)
_VGG_IMPROVED = _at(_row("vgg10", "improved"), "short-improved", 10, 20_000)
_RESNET = _at(_row("resnet20", "improved"), "short-improved", 10, 20_000)
_TRANSFER = _at(_row("transfer", "improved"), "short-improved", 5, 10_000, image_size=96)
_FROZEN = variant(_TRANSFER, "unfrozen-0", phase=({}, {"unfrozen": 0}), changes="head alone")

# What `--recipes ablations` trains: bases, and variants of a row or a base in one thing each.
ABLATIONS: tuple[Recipe, ...] = (
    variant(_BASELINE, "no-centring", centred=False, changes="pixels in [0, 1]"),
    variant(_BASELINE, "no-augmentation", augmentation="none", changes="no crop and flip"),
    variant(_BASELINE, "no-decay", phase={"schedule": "constant"}, changes="no decay to zero"),
    variant(_BASELINE, "no-averaging", phase={"ema": 0.0}, changes="no weight averaging"),
    variant(_BASELINE, "no-smoothing", label_smoothing=0.0, changes="no label smoothing"),
    variant(_BASELINE, "no-weight-decay", phase={"weight_decay": 0.0}, changes="no weight decay"),
    variant(
        _row("baseline_cnn", "reference"),
        "reference-centred",
        centred=True,
        changes="centred pixels",
    ),
    _VGG,
    variant(_VGG, "no-dropout", dropout=0.0, changes="no dropout"),
    _VGG_CALLBACKS,
    variant(
        _VGG_CALLBACKS,
        "with-augmentation",
        augmentation="reference",
        changes="+ rotation, shift, zoom, flip",
    ),
    _VGG_LONG,
    _VGG_LONG_CALLBACKS,
    variant(
        _VGG,
        "one-convolution",
        network={"convolutions": (1, 1, 1)},
        changes="one convolution a block",
    ),
    variant(
        _VGG,
        "two-convolutions",
        network={"convolutions": (2, 2, 2)},
        changes="two convolutions in every block",
    ),
    _VGG_IMPROVED,
    variant(_VGG_IMPROVED, "no-augmentation", augmentation="none", changes="no augmentation"),
    variant(_VGG_IMPROVED, "flip", augmentation="flip", changes="flip alone"),
    variant(
        _VGG_IMPROVED,
        "affine",
        augmentation="reference",
        changes="rotation, shift, zoom, flip",
    ),
    variant(
        _VGG_IMPROVED,
        "cutout",
        augmentation="crop_flip_cutout",
        changes="+ 8-pixel cutout",
    ),
    _RESNET,
    variant(_RESNET, "plain-20", network={"shortcuts": False}, changes="no skip connections"),
    variant(
        _RESNET, "no-batch-norm", network={"batch_norm": False}, changes="no batch normalisation"
    ),
    variant(_RESNET, "no-decay", phase={"schedule": "constant"}, changes="no decay to zero"),
    variant(_RESNET, "no-weight-decay", phase={"weight_decay": 0.0}, changes="no weight decay"),
    variant(_RESNET, "no-warmup", phase={"warmup": 0.0}, changes="no warm-up"),
    _TRANSFER,
    _FROZEN,
    *(
        variant(
            _TRANSFER,
            f"unfrozen-{layers}",
            phase=({}, {"unfrozen": layers}),
            changes=f"last {layers} layers fine-tuned",
        )
        for layers in (10, 30, 50, 100)
    ),
    variant(
        _TRANSFER,
        "random-weights",
        pretrained=False,
        changes="no ImageNet weights, so batch norms follow the batches",
    ),
    *(
        variant(_FROZEN, f"frozen-{size}px", image_size=size, changes=f"head alone, {size} px")
        for size in (64, 128, 160, 224)
    ),
)
ABLATIONS = tuple(replace(each, group="ablations") for each in ABLATIONS)
RECIPES += ABLATIONS


# Finding them


def of_model(model: str) -> tuple[Recipe, ...]:
    """All recipes of a model, in the order of the results table."""
    return tuple(recipe for recipe in RECIPES if recipe.model == model)


def names(*, ablations: bool = True) -> tuple[str, ...]:
    """Every word that `--recipes` takes: the groups, then the single recipes."""
    single = (row.name for row in RECIPES if ablations or row.group != "ablations")
    return tuple(dict.fromkeys((*GROUPS, *single)))


def check_names(wanted: Iterable[str], *, option: str = "recipes") -> None:
    """Refuse a word that is neither a group nor any model's recipe; `option` is what it was given as.

    Raises:
        UserError: for such a word, of which it names what was probably meant, or a string in place
            of a list.
    """
    if isinstance(wanted, str):
        raise UserError(f"{option} must be a list of names; received {wanted!r}.")
    for word in wanted:
        if word not in names():
            meant = closest(str(word), names(ablations=False)) or closest(str(word), names())
            raise UserError(
                f"{option} must be among {listed(names(ablations=False))}, or one of the ablations; "
                f"received {word!r}.{meant}"
            )


def check_model(model: str) -> None:
    """Refuse a network that is not in the table.

    Raises:
        UserError: it names what was probably meant.
    """
    known = list(dict.fromkeys(row.model for row in RECIPES))
    if model not in known:
        raise UserError(
            f"model must be one of {listed(known)}; received {model!r}.{closest(str(model), known)}"
        )


def check_seeds(seeds: Sequence[int], *, option: str = "seeds") -> None:
    """Refuse seeds that NumPy and Keras, which take 32 bits, or one record a seed would not.

    Raises:
        UserError: for any but different whole numbers; `option` is what they were given as.
    """
    fine = seeds and all(is_whole(seed, 0) and seed < 2**32 for seed in seeds)
    if not fine or len(set(seeds)) < len(seeds):
        raise UserError(
            f"{option} must be different whole numbers from 0 to 2**32 - 1; received {listed(seeds)}."
        )


def check_image_size(sizes: Sequence[int], *, option: str = "image_size") -> None:
    """Refuse sizes in pixels that the two reference recipes of transfer learning cannot have.

    Raises:
        UserError: for any but one multiple of 32, or two in order; `option` as of `check_seeds`.
    """
    fine = all(is_whole(size, 32) and size <= 512 and size % 32 == 0 for size in sizes)
    if not fine or len(sizes) not in (1, 2) or list(sizes) != sorted(set(sizes)):
        raise UserError(
            f"{option} must be one size, or two with the smaller first, each a multiple of 32 from 32 "
            f"to 512; received {listed(sizes)}."
        )


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of at least so much; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def select(model: str, wanted: list[str], *, epochs: int = 0) -> list[Recipe]:
    """The recipes of a model that were asked for, in the order of the results table.

    Args:
        model: one of `models.MODELS`.
        wanted: names of recipes and words of `GROUPS`. A name that another model has and this one
            has not is passed over.
        epochs: as of `Recipe.capped`.

    Raises:
        UserError: for an unknown model, or a word that is neither a group nor any model's recipe.
    """
    check_model(model)
    check_names(wanted)
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
