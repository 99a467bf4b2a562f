"""The four networks of the study, from a small CNN to transfer learning."""

from cifar_helpers.models import backbones, layers
from cifar_helpers.models.networks import (
    CLASSES,
    IMAGE_SHAPE,
    backbone_layers,
    baseline_cnn,
    fine_tune,
    multiply_adds,
    parameter_counts,
    resnet20,
    split,
    stages,
    transfer,
    vgg10,
)

__all__ = [
    "CLASSES",
    "IMAGE_SHAPE",
    "backbone_layers",
    "backbones",
    "baseline_cnn",
    "fine_tune",
    "layers",
    "multiply_adds",
    "parameter_counts",
    "resnet20",
    "split",
    "stages",
    "transfer",
    "vgg10",
]
