"""The runner behind `run_all.py`: the notebooks in order, into a run folder with an HTML report."""

from cifar_helpers.runner import options
from cifar_helpers.runner.steps import run

__all__ = ["options", "run"]
