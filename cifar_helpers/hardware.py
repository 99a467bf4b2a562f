"""What computes: processor, cores, accelerators, number formats, versions."""

import os
import platform
import subprocess
from functools import cache, partial
from importlib import metadata
from pathlib import Path

PACKAGES = ("tensorflow", "keras", "numpy", "jax", "torch", "papermill", "cifar-helpers")


def describe_hardware() -> dict:
    """What a training runs on, as records keep it: processor, cores, accelerators, backend.

    `generation` tells apart processors of one name; records made before it was kept lack it.
    """
    from cifar_helpers.backend import keras

    backend = keras.backend.backend()
    return {
        "processor": _cpuinfo().get("model name") or platform.processor() or platform.machine(),
        "generation": _generation(),
        "cores": cores(),
        "accelerators": _accelerators(backend),
        "backend": backend,
        "onednn": _onednn() if backend == "tensorflow" else None,
        "system": platform.system(),
    }


def hardware_label(hardware: dict) -> str:
    """A record's hardware in a few words."""
    if hardware["accelerators"]:
        return ", ".join(hardware["accelerators"])
    told = hardware.get("generation", "generation not recorded")
    generation = f" ({told})" if told else ""
    return (
        f"{hardware['processor'].replace(' Processor', '')}, {hardware['cores']} cores{generation}"
    )


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Threads that TensorFlow computes an operation with."""
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(told) if told.isdigit() and int(told) else cores()


def thread_variables(count: int) -> dict[str, str]:
    """The environment in which a process computes with so many threads, if set before TensorFlow starts."""
    return dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(max(1, count)))


def processor_details() -> dict[str, str]:
    """What tells a processor from others that bear its name, as far as Linux tells."""
    fields = ("model name", "cpu family", "model", "flags")
    told = _cpuinfo()
    return {name: told.get(name, "") for name in fields} | {
        "machine": platform.machine(),
        "processor": platform.processor(),
    }


def _generation() -> str:
    """The processor's family and widest instructions: "AMD EPYC" alone tells neither."""
    fields = processor_details()
    kinds = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    widest = next((kind for kind in kinds if kind in fields["flags"].split()), "")
    family = fields["cpu family"] and f"family {fields['cpu family']}, model {fields['model']}"
    return ", ".join(filter(None, (family, widest)))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit(folder: Path = Path(__file__).parent) -> str:
    """The last commit of the package's sources, hexadecimal, with "+changes" where they differ from it.

    "" where the package is in no checkout, or Git is not there.
    """
    # Variables, as of a hook, would name another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ask = partial(
        subprocess.run, env=variables, capture_output=True, text=True, check=True, timeout=30
    )
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    try:
        # Of these files: a package that is installed in somebody's checkout is not that checkout's.
        last, changes = (
            ask([*git, *words, "--", "."]).stdout.strip()
            for words in (["log", "-1", "--format=%H"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{last}+changes" if last and changes else last


def _onednn() -> bool | None:
    """Whether TensorFlow was told to compute by oneDNN; None where it chose for itself."""
    told = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    return {"1": True, "true": True, "0": False, "false": False}.get(told)


def _cpuinfo() -> dict[str, str]:
    """What Linux tells of the first processor, by field."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _accelerators(backend: str) -> list[str]:
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if backend == "tensorflow":
        import tensorflow as tf

        details = tf.config.experimental.get_device_details
        return [
            details(device).get("device_name", device.name)
            for device in tf.config.list_physical_devices("GPU")
        ]
    return []
