"""The study's figures: arrays and records in, a matplotlib Figure out.

A figure is closed in pyplot as soon as it is made: as the last line of a notebook cell it is shown
once, and none stays in memory. Accuracies, probabilities and shares are fractions in [0, 1].
"""

from cifar_helpers.plotting.architecture import architecture
from cifar_helpers.plotting.comparison import cost_accuracy, model_comparison
from cifar_helpers.plotting.curves import learning_curves
from cifar_helpers.plotting.effects import effects
from cifar_helpers.plotting.evaluation import dashboard
from cifar_helpers.plotting.gallery import beside, gallery, overlay
from cifar_helpers.plotting.heat_maps import agreement, heat_map
from cifar_helpers.plotting.images import answer, augmentation_grid, sample_grid
from cifar_helpers.plotting.mechanisms import (
    embeddings,
    filters,
    gradient_norms,
    receptive_fields,
)
from cifar_helpers.plotting.style import color, use_style

__all__ = [
    "agreement",
    "answer",
    "architecture",
    "augmentation_grid",
    "beside",
    "color",
    "cost_accuracy",
    "dashboard",
    "effects",
    "embeddings",
    "filters",
    "gallery",
    "gradient_norms",
    "heat_map",
    "learning_curves",
    "model_comparison",
    "overlay",
    "receptive_fields",
    "sample_grid",
    "use_style",
]
