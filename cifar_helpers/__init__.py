"""Data, models, training, metrics and plots of a CIFAR-10 study that runs as five notebooks."""

import warnings

__version__ = "0.2.0"

# tqdm asks notebooks for a widget package that nothing here needs.
warnings.filterwarnings("ignore", message="IProgress not found")
