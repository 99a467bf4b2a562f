"""The benchmark compares like with like, and gives up what is hopeless."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest

from cifar_helpers import models, training

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TASKS = ["baseline_cnn", "vgg10", "resnet20", "lite0_96", "lite0_96_last_30"]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.mark.parametrize("name", TASKS)
def test_pytorchs_networks_have_the_studys_parameters(benchmark, name):
    pytest.importorskip("torch")
    task = benchmark("works").TASKS[name]
    network = benchmark("torch_models").build(task)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    statistics = sum(b.numel() for n, b in network.named_buffers() if "running" in n)
    total = sum(p.numel() for p in network.parameters()) + statistics
    ours = benchmark("variants").build(task, "float32")
    assert {"total": total, "trainable": trainable} == models.parameter_counts(ours)


def test_pytorchs_lite0_computes_what_ours_does(benchmark):
    torch = pytest.importorskip("torch")
    works, torch_models = benchmark("works"), benchmark("torch_models")
    task = works.TASKS["lite0_96_forward"]
    ours, network = benchmark("variants").build(task, "float32"), torch_models.build(task)
    torch_models.copy_weights(ours, network)
    images = works.random_images(4)[0]
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    expected = training.predict(ours, images)
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), expected, atol=1e-5)


def test_a_slow_variant_is_given_up_early(benchmark):
    steps = {"fast": [], "slow": []}

    def work(name, seconds, count):
        steps[name].append(count)
        return count * seconds

    works = {
        "fast": lambda count: work("fast", 1.0, count),
        "slow": lambda count: work("slow", 9.0, count),
    }
    taken = benchmark("timing").alternate(works, steps=10, rounds=2, rivals={"slow": "fast"})
    assert taken == {"fast": [10.0, 10.0], "slow": []}
    assert max(steps["slow"]) < 1


def test_ratios_are_taken_within_a_round(benchmark):
    assert math.isclose(benchmark("timing").ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]), 3.0)
