"""A finished run folder, small, and made by the same parts as those of `ptkeras.train`."""

import json
import types

import keras
import numpy as np
import pytest

from ptkeras import PruneTrain
from ptkeras.methods import settings
from ptkeras.methods.callbacks.accounts import Accounts
from ptkeras.methods.callbacks.skipnet import Gates
from ptkeras.runs.norms import ChannelNorms
from ptkeras.runs.record import Record, architecture, gradient_traffic
from ptkeras.runs.run_folder import RunFolder
from tests.helpers.skipnet_networks import images, small, undecided

EPOCHS = 6


def network():
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(8, 3, name="first")(inputs)
    x = keras.layers.DepthwiseConv2D(3, name="spatial")(x)
    x = keras.layers.Conv2D(12, 1, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    return model


def finish(path, method="prunetrain", seed=0, flags=()):
    """Trains for a few steps, and leaves the folder as a run does."""
    random = np.random.default_rng(seed)
    folder, model = RunFolder(path), network()
    for variable in model.trainable_variables:  # the same on every backend
        if len(variable.shape) > 1:  # some channels go early, and some late
            sizes = np.linspace(0.1, 0.8, variable.shape[-1])
            variable.assign(random.uniform(-sizes, sizes, variable.shape))
    flags = [f"--method={method}", f"--seed={seed}", "--threshold=0.4", *flags]
    folder.open(settings.parse(flags))
    first = architecture(model, 8)
    pruning = PruneTrain(ratio=0.5, interval=2, threshold=0.4, verbose=0)
    own = pruning if method == "prunetrain" else Accounts(24)
    record = Record(folder, first, 10, 8, pruning if own is pruning else None)
    x, y = random.normal(size=(24, 6, 6, 1)).astype("float32"), np.arange(24) % 3
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
        callbacks=[ChannelNorms(folder, "max"), own, record],
    )
    last = architecture(model, 8)
    record.finish(last)
    names = ("inference_flops", "params", "channels", "training_memory", "gradient_bytes")
    result = {"dataset": "digits", "model": "small", "method": method, "seed": seed}
    result |= {
        "epochs": EPOCHS,
        "dense_epochs": EPOCHS,
        "accuracy": record.rows[-1]["val_accuracy"],
        "loss": 1.0,
    }
    spent = 24 * EPOCHS * first["training_flops"]
    result |= {"training_flops": [spent, record.rows[-1]["training_flops"]]}
    sent = 3 * EPOCHS * first["gradient_bytes"]  # 24 examples are three batches
    result |= {"gradient_traffic": [sent, gradient_traffic(record.rows, 24)]}
    result |= {name: [first[name], last[name]] for name in names} | {"seconds": 1.5}
    folder.write_json(folder.result, result)
    return path


@pytest.fixture(scope="session")
def pruned(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("runs") / "pruned <b>&")


@pytest.fixture(scope="session")
def dense(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("runs") / "dense", method="dense")


class Timed(Gates):
    """Does not take the time, which is another one each time."""

    def times(self, dense, settled):
        return {"milliseconds_keras": [2.0, 1.5], "milliseconds_onnxruntime": [0.5, 0.6]}


def decided():
    """What SkipNet says of its gates at the end of a run; the first is open for every image."""
    network = undecided(small())
    network.get_layer("block0_add_gate_logit").bias.assign([99.0])
    x = images(64)
    batches = [(x, np.digitize(np.abs(x).mean((1, 2, 3)), (0.5, 1.0, 1.5)))]  # by their strength
    told = types.SimpleNamespace(
        num_train=64,
        train=batches,
        test=batches,
        labels=("faint", "weak", "strong", "<b> $x_1$"),
        epoch=keras.Variable(0, dtype="int32"),
        first_step=keras.Variable(0, dtype="int32"),
    )
    gates = Timed(settings.parse(["--method=skipnet"]), told)
    gates.finish(network)
    return gates.result()


@pytest.fixture(scope="session")
def gated(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "gated"
    finish(path, "skipnet", flags=("--epochs=4", "--rl_epochs=2"))
    lines = (path / "history.csv").read_text().splitlines()
    shares = ["blocks_run", *(str(1 - 0.1 * i) for i in range(EPOCHS))]
    pairs = zip(lines, shares, strict=True)
    (path / "history.csv").write_text("".join(f"{a},{b}\n" for a, b in pairs))
    result = json.loads((path / "result.json").read_text())
    folder = RunFolder(path)
    folder.write_json(folder.result, result | decided())
    return path
