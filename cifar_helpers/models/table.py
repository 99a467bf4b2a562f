"""The networks and the backbones, one entry each: all that the rest of the package asks of them.

Plain data, without Keras: what an entry names as "module:function" is imported when it is called.
"""

from dataclasses import dataclass
from typing import Any

# Names a run's backbone to the processes that train, of which some have no parameter for it.
BACKBONE_VARIABLE = "CIFAR_HELPERS_BACKBONE"


@dataclass(frozen=True)
class Model:
    """A network of the study.

    Attributes:
        name: what recipes and records call it; the name of its builder among `models`.
        label: what readers see.
        color: hexadecimal RGB, the same in every figure; from the palette of Okabe and Ito, "Color
            Universal Design", 2008, which colour-blind readers can tell apart too.
        builder: takes `classes` and those of `dropout`, `centred`, and for a network on a backbone
            `weights` and `image_size`, that its recipes set.
        notebook: the notebook that trains it, without ending.
        seeds: one training of each recipe per seed in the full study.
        has_backbone: whether it stands on one of `BACKBONES`, and is fine-tuned in phases.
        may_use_bfloat16: whether precision "auto" tries bfloat16.
        quick_share: of the data set's training images of a quick pass, in (0, 1].
        quick_batch_size: images a batch in a quick pass, at the most, where the recipes' own would
            make too few steps; 0 for the recipes' own.
        quick_image_size: image sizes in pixels of the first and the last reference recipe in a
            quick pass; () for the recipes' own.
    """

    name: str
    label: str
    color: str
    builder: str
    notebook: str
    seeds: tuple[int, ...] = (0,)
    has_backbone: bool = False
    may_use_bfloat16: bool = True
    quick_share: float = 1.0
    quick_batch_size: int = 0
    quick_image_size: tuple[int, ...] = ()

    @property
    def number(self) -> str:
        """What `--notebooks` calls its notebook."""
        return self.notebook.partition("_")[0]

    def quick_images(self, enough: int) -> int:
        """Training images of a quick pass, of those that a data set has `enough` of."""
        return round(self.quick_share * enough)


@dataclass(frozen=True)
class Backbone:
    """A network with ImageNet weights that transfer learning stands on.

    Attributes:
        name: what recipes, options and records call it.
        label: what its authors call it.
        builder: `(image_shape) -> keras.Model`: images in [0, 255] to a feature map, random
            weights. `backbones.build` rebuilds it for fine-tuning.
        loader: `(model, path) -> None`: sets its weights from their file.
        finder: `(weights_file) -> backbones.Weights`: finds the file, or raises
            `WeightsError` with the reason as half a sentence.
        in_auto: whether "auto" tries it, in the table's order.
        weights_file: what its authors call the file of its weights, if a user may give a copy of it
            (`--weights-file`); "" if not.
    """

    name: str
    label: str
    builder: str
    loader: str
    finder: str
    in_auto: bool = False
    weights_file: str = ""


def by_name(*entries: Any) -> dict[str, Any]:
    """A table: entries by their names, in order."""
    return {entry.name: entry for entry in entries}


MODELS: dict[str, Model] = by_name(
    Model(
        name="baseline_cnn",
        label="Baseline CNN",
        color="#E69F00",
        builder="cifar_helpers.models.baseline_cnn:baseline_cnn",
        notebook="01_baseline_cnn",
        seeds=(0, 1, 2),
    ),
    Model(
        name="vgg10",
        label="VGG-10",
        color="#CC79A7",
        builder="cifar_helpers.models.vgg10:vgg10",
        notebook="02_vgg10",
    ),
    Model(
        name="resnet20",
        label="ResNet-20",
        color="#009E73",
        builder="cifar_helpers.models.resnet20:resnet20",
        notebook="03_resnet20",
        quick_share=0.5,
        quick_batch_size=32,
    ),
    Model(
        name="transfer",
        label="EfficientNet transfer",
        color="#0072B2",
        builder="cifar_helpers.models.transfer:transfer",
        notebook="04_transfer_learning",
        has_backbone=True,
        # The forward pass of an EfficientNet was slower in bfloat16 even where processors have it.
        may_use_bfloat16=False,
        quick_share=0.25,
        quick_batch_size=32,
        quick_image_size=(96,),
    ),
)

# The weights of the last one that "auto" tries come with a dependency, so it always can be had.
BACKBONES: dict[str, Backbone] = by_name(
    Backbone(
        name="efficientnetv2b0",
        label="EfficientNetV2B0",
        builder="cifar_helpers.models.efficientnet_v2:build",
        loader="cifar_helpers.models.efficientnet_v2:load",
        finder="cifar_helpers.models.efficientnet_v2:find",
        in_auto=True,
        weights_file="efficientnetv2-b0_notop.h5",
    ),
    Backbone(
        name="efficientnet-lite0",
        label="EfficientNet-Lite0",
        builder="cifar_helpers.models.efficientnet_lite:LITE0.build",
        loader="cifar_helpers.models.efficientnet_lite:LITE0.load",
        finder="cifar_helpers.models.efficientnet_lite:LITE0.find",
        in_auto=True,
    ),
    Backbone(
        name="efficientnet-lite2",
        label="EfficientNet-Lite2",
        builder="cifar_helpers.models.efficientnet_lite:LITE2.build",
        loader="cifar_helpers.models.efficientnet_lite:LITE2.load",
        finder="cifar_helpers.models.efficientnet_lite:LITE2.find",
    ),
)


def model_label(name: str) -> str:
    """What readers see for a model; its name where the table no longer has it."""
    return MODELS[name].label if name in MODELS else name


def network_label(model: str, backbone: str) -> str:
    """What readers see for a network: its backbone where it has one, else the model."""
    return backbone_label(backbone) or model_label(model)


def backbone_label(name: str) -> str:
    """What a backbone's authors call it; its name where the table no longer has it."""
    return BACKBONES[name].label if name in BACKBONES else name
