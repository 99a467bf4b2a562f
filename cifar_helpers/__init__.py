"""Data, models, training, metrics and plots of a CIFAR-10 study that runs as five notebooks."""

__version__ = "0.1.0"
