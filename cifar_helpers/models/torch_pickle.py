"""Reads the files that PyTorch wrote before version 1.6, without PyTorch."""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cifar_helpers.errors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def _view(storage, offset, shape, strides, requires_grad=False, hooks=None) -> np.ndarray:
    """A tensor: a view of its storage, all counts in elements; NumPy refuses one that leaves it."""
    size = storage.itemsize
    steps = [step * size for step in strides]
    return np.ndarray(shape, storage.dtype, storage, offset * size, steps)


class _Unpickler(pickle.Unpickler):
    """Admits state dictionaries of float32 and int64 tensors, and no code whatever."""

    ADMITTED: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _view,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, np.ndarray] = {}  # filled once the tensors are known

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted")
        return self.ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        _kind, dtype, key, _device, length, _view_of = pid
        return self.storages.setdefault(key, np.zeros(length, dtype))


def read_torch_pickle(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dictionary: arrays by name, contiguous, float32 or int64.

    The file is a pickle, which could run any code; here it can name ordered dictionaries, float32
    and int64 storages and views of them, and anything else is refused.

    Raises:
        WeightsError: if the file cannot be read, asks for anything else, is truncated or is not
            such a file.
    """
    try:
        file = io.BytesIO(path.read_bytes())
        if [_Unpickler(file).load() for _ in range(3)][:2] != [_MAGIC, _PROTOCOL]:
            raise ValueError("it does not start as such a file does")
        unpickler = _Unpickler(file)
        state = unpickler.load()
        for key in _Unpickler(file).load():
            storage = unpickler.storages[key]
            if int.from_bytes(file.read(8), "little") != len(storage):
                raise ValueError("a storage has another length than its tensors say")
            storage[:] = np.frombuffer(file.read(storage.nbytes), storage.dtype)
        return {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}
    except Exception as error:  # Unpickling bad bytes can raise nearly anything.
        raise WeightsError(
            f"{path.name} must be a legacy PyTorch file of float32 and int64 tensors; it cannot be "
            f"read: {error or type(error).__name__}"
        ) from error
