import os
import subprocess
import sys

import numpy as np
import pytest
from tiny_study import ROOT

from cifar_helpers import models, predict, results, training
from cifar_helpers.errors import UserError
from cifar_helpers.training.records import save_model

PROGRAM = """
import sys
from cifar_helpers import predict

model = predict.load_model(sys.argv[1], "resnet20", "improved", seed=2)
print(model.count_params())
"""


@pytest.fixture
def run_with_network(tmp_path):
    path = results.model_path(tmp_path, "resnet20", "improved", 2)
    path.parent.mkdir(parents=True)
    model = models.resnet20()
    save_model(model, path)
    return tmp_path, model


def test_a_runs_network_predicts_as_it_did(run_with_network, images):
    out, model = run_with_network
    loaded = predict.load_model(out, "resnet20", "improved", seed=2)
    one, other = (training.predict(network, images) for network in (model, loaded))
    np.testing.assert_array_equal(one, other)


def test_a_network_loads_without_any_other_import(run_with_network):
    out, _ = run_with_network
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "274826", ran.stderr


def test_a_network_that_the_run_does_not_hold_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="it has no vgg10-base-seed1.keras. Train it: python"):
        predict.load_model(tmp_path, "vgg10", "base", seed=1)


def test_a_damaged_network_is_refused(run_with_network):
    out, _ = run_with_network
    path = results.model_path(out, "resnet20", "improved", 2)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="could not be read"):
        predict.load_model(out, "resnet20", "improved", seed=2)
