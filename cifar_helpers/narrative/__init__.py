"""Tables and sentences of the notebooks, computed from records, so that they stay true when rerun.

What a notebook calls returns something that it displays as the last value of a cell.
"""

from cifar_helpers.narrative.ablations import describe_effects, plot_effects
from cifar_helpers.narrative.answers import describe_answer
from cifar_helpers.narrative.closer import (
    calibration_table,
    describe_calibration,
    plot_examples,
    plot_heat_maps,
)
from cifar_helpers.narrative.comparison import (
    agreement_table,
    class_table,
    comparison_table,
    cost_rows,
    cost_table,
    describe_missing,
    disagreement_table,
    plot_agreement,
)
from cifar_helpers.narrative.conclusions import conclusions_table
from cifar_helpers.narrative.findings import (
    classification_report,
    describe_findings,
    describe_limits,
    describe_results,
    results_table,
)
from cifar_helpers.narrative.pictures import describe_picture_network, plot_own_picture
from cifar_helpers.narrative.readme import commands_section, results_section
from cifar_helpers.narrative.setup import (
    as_code,
    describe_gradients,
    fine_tuning_table,
    notice,
    plot_curves,
    plot_filters,
    recipe_table,
    split_table,
    stage_table,
)
from cifar_helpers.narrative.together import (
    describe_doubtful_labels,
    describe_ensemble,
    describe_near_duplicates,
    ensemble_table,
    near_duplicates_table,
    plot_doubtful_labels,
    plot_near_duplicates,
    prediction_times_table,
)
from cifar_helpers.narrative.trials import describe_trials

__all__ = [
    "agreement_table",
    "as_code",
    "calibration_table",
    "class_table",
    "classification_report",
    "commands_section",
    "comparison_table",
    "conclusions_table",
    "cost_rows",
    "cost_table",
    "describe_answer",
    "describe_calibration",
    "describe_doubtful_labels",
    "describe_effects",
    "describe_ensemble",
    "describe_findings",
    "describe_gradients",
    "describe_limits",
    "describe_missing",
    "describe_near_duplicates",
    "describe_picture_network",
    "describe_results",
    "describe_trials",
    "disagreement_table",
    "ensemble_table",
    "fine_tuning_table",
    "near_duplicates_table",
    "notice",
    "plot_agreement",
    "plot_curves",
    "plot_doubtful_labels",
    "plot_effects",
    "plot_examples",
    "plot_filters",
    "plot_heat_maps",
    "plot_near_duplicates",
    "plot_own_picture",
    "prediction_times_table",
    "recipe_table",
    "results_section",
    "results_table",
    "split_table",
    "stage_table",
]
