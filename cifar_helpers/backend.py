"""Keras, imported with oneDNN and without TensorFlow's start-up lines.

TensorFlow's C++ code writes them to the process's error stream before any logging setting is
heard (tensorflow#100442); in a notebook they would stand above the first figure.
"""

import contextlib
import logging
import os
import platform
import sys


@contextlib.contextmanager
def _error_stream_closed():
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow leaves oneDNN off on x86 processors without AVX512-VNNI, and on Windows: trainings take
# up to three times as long there. It reads the variable once, while it is imported.
if platform.machine().lower() in ("x86_64", "amd64") and "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "keras" in sys.modules:
    import keras
else:
    with _error_stream_closed():
        import keras

# Each network's prediction is traced once; TensorFlow takes several networks for a loop.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


def on_tensorflow_cpu() -> bool:
    """Whether Keras computes with TensorFlow on a processor."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


__all__ = ["keras", "on_tensorflow_cpu"]
