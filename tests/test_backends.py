"""What a machine without TensorFlow sees: everything but what TensorFlow is the point of."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ptkeras

ROOT = Path(ptkeras.__file__).parents[1]
PROGRAM = """
import sys


class WithoutTensorFlow:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args):
        hidden = name.partition(".")[0] in ("tensorflow", "tensorflow_datasets", "tf_keras")
        return None if hidden else self.finder.find_spec(name, *args)


sys.meta_path = [WithoutTensorFlow(finder) for finder in sys.meta_path]

import keras
import numpy as np
from keras import layers

import ptkeras
import ptkeras.latency
import ptkeras.methods
import ptkeras.models

inputs = keras.Input((6,))
hidden = layers.BatchNormalization()(layers.Dense(8, name="hidden")(inputs))
model = keras.Model(inputs, layers.Dense(3)(hidden))
x, y = np.random.default_rng(0).normal(size=(4, 6)), np.ones((4, 3))
model.compile("sgd", "mse", run_eagerly=True)
model.fit(x, y, verbose=0, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=1, verbose=0)])
print(ptkeras.prune(model, 0.5, of="flops", criterion=ptkeras.importance.taylor(x, y)))
ptkeras.remove_channels(model, {"hidden": [0]})
print(ptkeras.eigendamage.prune(model, x, 0.5))
assert ptkeras.cost.summarise(model).params == model.count_params()
model.save("model.keras")
assert keras.models.load_model("model.keras").get_layer("hidden").units < 8
assert not {"tensorflow", "tensorflow_datasets"} & set(sys.modules)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_everything_works_where_tensorflow_is_not_installed(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
