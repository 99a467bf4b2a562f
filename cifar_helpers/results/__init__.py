"""One record a training: written, found again, and put side by side."""

from cifar_helpers.results.effects import effects, late_spread
from cifar_helpers.results.formatted import (
    format_table,
    index_rows,
    print_table,
    to_markdown,
)
from cifar_helpers.results.store import (
    Result,
    checkpoint_path,
    find_result,
    load_results,
    model_path,
    published,
    save_result,
)
from cifar_helpers.results.tables import (
    best_by_validation,
    best_of_each_model,
    by_experiment,
    experiment_hash,
    for_comparison,
    is_of_earlier_rule,
    kept_gap,
    machines,
    missing_rows,
    results_table,
    row_label,
    training_seconds,
    without_variants,
)

__all__ = [
    "Result",
    "best_by_validation",
    "best_of_each_model",
    "by_experiment",
    "checkpoint_path",
    "effects",
    "experiment_hash",
    "find_result",
    "for_comparison",
    "format_table",
    "index_rows",
    "is_of_earlier_rule",
    "kept_gap",
    "late_spread",
    "load_results",
    "machines",
    "missing_rows",
    "model_path",
    "print_table",
    "published",
    "results_table",
    "row_label",
    "save_result",
    "to_markdown",
    "training_seconds",
    "without_variants",
]
