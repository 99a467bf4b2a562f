"""The same code on another backend of Keras, where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ONE_EPOCH = """
import json
from dataclasses import replace
from cifar_helpers import data, models, recipes, training

splits = data.load("toy", train_size=64)
found = {}
for model in models.MODELS:
    recipe = replace(recipes.select(model, ["improved"], epochs=1)[0], image_size=32)
    run = training.train(recipe, splits, seed=0, weights="efficientnet-lite0", verbose=False)
    record = training.evaluate(run).record
    found[model] = [record["hardware"]["backend"], record["train"]["loss"], record["test"]["loss"]]
print(json.dumps(found))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_model_trains_an_epoch_on_another_backend(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", ONE_EPOCH],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert {row[0] for row in found.values()} == {backend}
    # From untrained to the first steps: about the loss of guessing, and finite.
    assert all(0 < loss < 10 for row in found.values() for loss in row[1:])
