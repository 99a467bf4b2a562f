"""The three small networks in PyTorch, layer for layer, for the comparison of speed."""

import torch
from torch import nn
from torch.nn import functional


class _Block(nn.Module):
    """A residual block as in `cifar_helpers.models.resnet20`."""

    def __init__(self, inputs: int, filters: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(filters)
        changes = stride != 1 or inputs != filters
        projection = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride), nn.BatchNorm2d(filters))
        self.shortcut = projection if changes else nn.Identity()

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _resnet20() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for filters, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            layers.append(_Block(inputs, filters, stride))
            inputs = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _baseline_cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2304, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def _vgg10(dropout: float = 0.2) -> nn.Module:
    layers, inputs = [], 3
    for filters, convolutions in ((32, 2), (64, 2), (128, 1)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, filters, 3, 1, 1), nn.ReLU()]
            inputs = filters
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    layers += [nn.Flatten(), nn.Linear(2048, 128), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(128, 10))


BUILDERS = {"baseline_cnn": _baseline_cnn, "vgg10": _vgg10, "resnet20": _resnet20}


def step(network, optimizer, images, labels, bfloat16: bool) -> None:
    """One training step on uint8 images, channels last."""
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        outputs = network(images.float() / 255)
        loss = functional.cross_entropy(outputs.float(), labels)
    loss.backward()
    optimizer.step()
