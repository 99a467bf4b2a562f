"""The same networks in PyTorch, layer for layer, for the comparison of speed."""

import math
import time
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from works import Task, images_of

from cifar_helpers import hardware

# Lite0's stages: kernel, stride, expansion, filters, repeats.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class _Rescale(nn.Module):
    def __init__(self, scale: float, offset: float = 0.0):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset


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


def resnet20() -> nn.Module:
    """As `models.resnet20`."""
    layers = [_Rescale(1 / 255), nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
    inputs = 16
    for filters, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            layers.append(_Block(inputs, filters, stride))
            inputs = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def baseline_cnn() -> nn.Module:
    """As `models.baseline_cnn`."""
    return nn.Sequential(
        _Rescale(1 / 255),
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2304, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def vgg10(dropout: float = 0.2) -> nn.Module:
    """As `models.vgg10`."""
    layers, inputs = [_Rescale(1 / 255)], 3
    for filters, convolutions in ((32, 2), (64, 2), (128, 1)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, filters, 3, 1, 1), nn.ReLU()]
            inputs = filters
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    layers += [nn.Flatten(), nn.Linear(2048, 128), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(128, 10))


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: an odd pixel goes to the right and bottom."""

    def forward(self, x):
        size, kernel, stride = x.shape[-1], self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding = total // 2
        if total % 2:
            x, padding = functional.pad(x, [padding, padding + 1] * 2), 0
        return functional.conv2d(x, self.weight, None, stride, padding, groups=self.groups)


def _convolution(inputs: int, filters: int, kernel: int, stride=1, groups=1, linear=False):
    convolution = _SameConv2d(inputs, filters, kernel, stride, groups=groups, bias=False)
    layers = [convolution, nn.BatchNorm2d(filters, eps=1e-3)]
    return nn.Sequential(*layers) if linear else nn.Sequential(*layers, nn.ReLU6())


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, filters: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        expand = [_convolution(inputs, wide, 1)] if expansion != 1 else []
        depthwise = _convolution(wide, wide, kernel, stride, groups=wide)
        self.layers = nn.Sequential(*expand, depthwise, _convolution(wide, filters, 1, linear=True))
        self.adds = stride == 1 and inputs == filters

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


class Lite0(nn.Module):
    """As `models.transfer` on EfficientNet-Lite0.

    Args:
        image_size: that the images are resized to, in pixels.
        trained: how many of the backbone's last convolutions and batch norms train; None for all.
        dropout: before each of the head's dense layers.
    """

    def __init__(self, image_size: int, trained: int | None = None, dropout: float = 0.2):
        super().__init__()
        self.image_size = image_size
        blocks, inputs = [_Rescale(1 / 128, -127 / 128), _convolution(3, 32, 3, 2)], 32
        for kernel, stride, expansion, filters, repeats in STAGES:
            for repeat in range(repeats):
                first = 1 if repeat else stride
                blocks.append(_InvertedResidual(inputs, filters, kernel, first, expansion))
                inputs = filters
        self.backbone = nn.Sequential(*blocks, _convolution(inputs, 1280, 1))
        self.head = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(1280, eps=1e-3)),
            *(nn.Dropout(dropout), nn.Linear(1280, 256), nn.ReLU()),
            *(nn.BatchNorm1d(256, eps=1e-3), nn.Dropout(dropout), nn.Linear(256, 10)),
        )
        convolutions_and_norms = []
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):  # its default lets values shrink until they underflow
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
                convolutions_and_norms.append(module)
        frozen = 0 if trained is None else len(convolutions_and_norms) - trained
        for module in convolutions_and_norms[:frozen]:
            module.requires_grad_(False)

    def train(self, mode: bool = True):
        """The backbone's batch norms stay in inference mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        """Logits of images in [0, 255]."""
        size = (self.image_size, self.image_size)
        return self.head(self.backbone(functional.interpolate(x, size, mode="bilinear")))


def copy_weights(model, network: Lite0) -> None:
    """Give the network the weights of ours, from Keras' layout."""
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)
    modules = [module for module in network.modules() if isinstance(module, kinds)]
    layers = [layer for layer in model.layers if layer.weights]
    for layer, module in zip(layers, modules, strict=True):
        arrays = [torch.from_numpy(array) for array in layer.get_weights()]
        if isinstance(module, nn.Conv2d):  # from (height, width, in, out), or (..., channels, 1)
            arrays[0] = arrays[0].permute(*((2, 3) if module.groups > 1 else (3, 2)), 0, 1)
        elif isinstance(module, nn.Linear):
            arrays[0] = arrays[0].T
        names = ("weight", "bias", "running_mean", "running_var")
        for name, array in zip(names, arrays, strict=False):
            with torch.no_grad():
                getattr(module, name).copy_(array)


def build(task: Task) -> nn.Module:
    """The task's network, channels last."""
    if task.model == "transfer":
        network = Lite0(task.image_size, task.with_weights)
    else:
        network = {"baseline_cnn": baseline_cnn, "vgg10": vgg10, "resnet20": resnet20}[task.model]()
    return network.to(memory_format=torch.channels_last).train(task.trains)


def work(task: Task, precision: str, *, compiled: bool):
    """Steps in PyTorch, its optimizer fused; `compiled` by `torch.compile`."""
    torch.set_num_threads(hardware.cores())
    network = build(task)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], fused=True)
    call = torch.compile(network, dynamic=False) if compiled else network
    autocast = partial(
        torch.autocast, "cpu", dtype=torch.bfloat16, enabled=precision == "mixed_bfloat16"
    )

    def train(images, labels) -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            outputs = call(images)
            loss = functional.cross_entropy(outputs.float(), labels)
        loss.backward()
        optimizer.step()

    def forward(images, labels) -> None:
        with torch.inference_mode(), autocast():
            call(images)

    step = train if task.trains else forward

    def work(steps: float) -> float:
        whole = math.ceil(steps) if compiled else steps  # each batch size would be compiled anew
        images, labels = images_of(task, whole)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last without a copy
        targets = torch.from_numpy(labels)
        started = time.perf_counter()
        for start in range(0, len(pixels), task.batch):
            chosen = slice(start, start + task.batch)
            step(pixels[chosen].float(), targets[chosen])
        return (time.perf_counter() - started) * steps / whole

    return work
