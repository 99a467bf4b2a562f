"""One record a training run: made, written, found again, and put side by side."""

from cifar_helpers.results.records import (
    Result,
    about_reference,
    best_by_validation,
    best_of_each_model,
    by_recipe,
    checkpoint_path,
    find_result,
    load_results,
    make_result,
    missing_rows,
    of_data,
    parameters_hash,
    results_table,
    save_model,
    save_result,
    weights_digest,
)

__all__ = [
    "Result",
    "about_reference",
    "best_by_validation",
    "best_of_each_model",
    "by_recipe",
    "checkpoint_path",
    "find_result",
    "load_results",
    "make_result",
    "missing_rows",
    "of_data",
    "parameters_hash",
    "results_table",
    "save_model",
    "save_result",
    "weights_digest",
]
