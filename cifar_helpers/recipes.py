"""How each row of the study is trained: frozen dataclasses, found by model and name.

`reference` recipes follow the study that is rebuilt here with its bugs left out; the `improved`
recipe of each model is the best known for that architecture within a like budget.
"""

from dataclasses import dataclass, replace

from cifar_helpers.errors import UserError

MODELS = ("baseline_cnn", "vgg10", "resnet20", "transfer")
# Backbones by the names their authors gave them.
BACKBONE_LABELS = {
    "efficientnetv2b0": "EfficientNetV2B0",
    "efficientnet-lite0": "EfficientNet-Lite0",
}


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
        parameters: weights in all.
        backbone: the backbone where there is one.
    """

    test_accuracy: float
    test_loss: float
    overfitting_gap: float
    epochs: str
    parameters: int
    backbone: str = ""


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run but the data, the seed and the hardware.

    Attributes:
        model: one of `MODELS`.
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


_ADAM = Phase(epochs=50, batch_size=32, optimizer="adam", learning_rate=1e-3)
_VGG_LONG = replace(_ADAM, early_stopping=10, reduce_on_plateau=5)
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


_FINE_TUNING = Phase(
    epochs=10,
    batch_size=64,
    optimizer="adamw",
    learning_rate=4e-4,
    schedule="cosine",
    warmup=0.1,
    weight_decay=1e-2,
)


def _transfer(name: str, image_size: int, unfrozen: int, epochs: int, reference: Reference):
    head = Phase(
        epochs=epochs,
        batch_size=64,
        optimizer="adam",
        learning_rate=1e-3,
        early_stopping=10,
        reduce_on_plateau=5,
    )
    return Recipe(
        model="transfer",
        name=name,
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
        changes="Adam, constant learning rate",
        phases=(replace(_ADAM, epochs=10),),
        reference=Reference(0.6747, 1.104, 17.8, "10/10", 315_722),
    ),
    Recipe(
        model="baseline_cnn",
        name="improved",
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
        changes="dropout 0.2",
        phases=(replace(_ADAM, epochs=20),),
        dropout=0.2,
        reference=Reference(0.786, 0.6, 2.8, "20/20", 402_986),
    ),
    Recipe(
        model="vgg10",
        name="callbacks",
        changes="+ early stopping, lower learning rate on a plateau",
        phases=(replace(_ADAM, early_stopping=5, reduce_on_plateau=2),),
        dropout=0.2,
        reference=Reference(0.805, 0.6, 7.4, "25/50", 402_986),
    ),
    Recipe(
        model="vgg10",
        name="optimized",
        changes="+ rotation, shift, zoom and flip; more patience",
        phases=(_VGG_LONG,),
        augmentation="reference",
        dropout=0.2,
        reference=Reference(0.8208, 0.543, -1.8, "50/50", 402_986),
    ),
    Recipe(
        model="vgg10",
        name="improved",
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
        changes="rotation, shift, zoom and flip; early stopping; plateau schedule",
        phases=(
            replace(_ADAM, epochs=60, batch_size=128, early_stopping=20, reduce_on_plateau=10),
        ),
        augmentation="reference",
        reference=Reference(0.8770, 0.389, 3.1, "114/200", 274_826),
    ),
    Recipe(
        model="resnet20",
        name="improved",
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
        "96px",
        image_size=96,
        unfrozen=30,
        epochs=30,
        reference=Reference(0.9042, 0.275, -4.5, "30+30", 6_255_962, "efficientnetv2b0"),
    ),
    _transfer(
        "224px",
        image_size=224,
        unfrozen=50,
        epochs=40,
        reference=Reference(0.9397, 0.174, 0.0, "40+40", 6_255_962, "efficientnetv2b0"),
    ),
    Recipe(
        model="transfer",
        name="improved",
        changes="every layer fine-tuned, AdamW to zero, crop and flip, label smoothing",
        phases=(
            Phase(
                epochs=10,
                batch_size=64,
                optimizer="adamw",
                learning_rate=1e-3,
                schedule="linear",
                weight_decay=1e-2,
            ),
            replace(_FINE_TUNING, unfrozen=None),
        ),
        augmentation="crop_flip",
        dropout=0.2,
        label_smoothing=0.1,
        validation_fraction=0.1,
        image_size=128,
    ),
)


def for_backbone(recipe: Recipe, backbone: str) -> Recipe:
    """The recipe as a backbone is trained by it.

    The study fine-tuned EfficientNetV2B0. With the smaller EfficientNet-Lite0 the reference rows
    keep their image size, number of opened layers, dropout and first phase, and fine-tune by the
    improved recipe's schedule, which did better on validation (`docs/recipes.md`).

    Args:
        recipe: any.
        backbone: one of `backbones.NAMES`; with any but EfficientNet-Lite0, or with "", and for
            recipes that are no reference rows of transfer learning, the recipe stays as it is.

    Returns:
        The recipe, whole: cap its epochs afterwards.
    """
    if backbone != "efficientnet-lite0" or recipe.model != "transfer" or not recipe.reference:
        return recipe
    head, opened = recipe.phases
    return replace(
        recipe,
        phases=(head, replace(_FINE_TUNING, unfrozen=opened.unfrozen)),
        changes=f"{recipe.changes} with AdamW to zero, 4-pixel crop, label smoothing",
        augmentation="crop_flip",
        label_smoothing=0.1,
    )


def of_model(model: str) -> tuple[Recipe, ...]:
    """All recipes of a model, in the order of the results table."""
    return tuple(recipe for recipe in RECIPES if recipe.model == model)


def names() -> tuple[str, ...]:
    """Every word that `--recipes` takes: "reference", "improved" and the single recipes."""
    return tuple(dict.fromkeys(("reference", "improved", *(recipe.name for recipe in RECIPES))))


def select(model: str, wanted: list[str], *, epochs: int = 0) -> list[Recipe]:
    """The recipes of a model that were asked for, in the order of the results table.

    Args:
        model: one of `MODELS`.
        wanted: recipe names; "reference" means all of the model's reference rows. A name that
            another model has and this one has not is passed over.
        epochs: cap on the epochs of every phase; 0 for the recipe's own.

    Returns:
        The capped recipes; empty if none of the model's is wanted.

    Raises:
        UserError: for a word that no model knows.
    """
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        raise UserError(
            f"recipes must be among {', '.join(names())}; received {', '.join(unknown)}."
        )
    return [
        recipe.capped(epochs)
        for recipe in of_model(model)
        if recipe.name in wanted or ("reference" in wanted and recipe.reference)
    ]
