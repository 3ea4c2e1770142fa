"""A training on several devices or in several processes, for the tests to start and to look into.

    python -m tests.helpers.distributed_run FOLDER --strategy=mirrored --devices=CPU:0,CPU:1

It takes the flags of `ptkeras.train`, but has a small network and a PruneTrain that always finds
something to prune. FOLDER gets weights.npz, every replica's, and facts.json.
"""

import json
import pathlib
import sys

import keras
import numpy as np

from ptkeras import data
from ptkeras.cli import distribution
from ptkeras.methods import settings
from ptkeras.survival import Survival
from tests.helpers.forced import Forced


def network(input_shape):
    layers = keras.layers
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8, name="stem_bn")(x))
    y = layers.Conv2D(12, 3, padding="same", activation="relu", name="inner")(x)
    y = layers.Conv2D(12, 3, padding="same", name="outer")(y)
    y = layers.BatchNormalization(momentum=0.8, name="outer_bn")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="last")(x)
    return keras.Model(inputs, layers.Dense(10, name="head")(layers.Flatten()(x)))


def replicas(variable):
    """The numbers that each device of this process has of a variable."""
    value = variable.value
    if keras.backend.backend() == "jax":
        return [np.asarray(shard.data) for shard in value.addressable_shards]
    return [part.numpy() for part in getattr(value, "values", [value])]


def train(flags):
    """Returns the model, its PruneTrain and its history."""
    devices = distribution.start(flags)
    keras.utils.set_random_seed(flags.seed)
    dataset = data.load(
        flags.dataset, batch_size=flags.batch_size, seed=flags.seed, shard=devices.shard
    )
    with devices.scope():
        model = network(dataset.input_shape)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(flags.learning_rate, momentum=flags.momentum)
        model.compile(optimizer, loss, metrics=["accuracy"])
    devices.prepare(model, dataset)
    pruning = Forced(share=0.1, ratio=flags.ratio, interval=flags.interval)
    history = model.fit(
        devices.batches(dataset.train),
        validation_data=devices.batches(dataset.test),
        epochs=flags.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            data.EpochSeed(dataset),
            pruning,
            Survival(f"{flags.output_dir}/last.keras", [pruning], dataset),
        ],
    )
    return model, pruning, history.history


def main(folder, arguments):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flags = settings.parse([*arguments, f"--output_dir={folder}"])
    model, pruning, history = train(flags)
    variables = [*model.variables, *model.optimizer.variables]
    copies = [replicas(v) for v in variables]
    np.savez(folder / "weights.npz", **{f"{i:03}": each[0] for i, each in enumerate(copies)})
    facts = {
        "devices": sorted({len(each) for each in copies}),
        "replicas_differ_in": [
            v.path
            for v, each in zip(variables, copies, strict=True)
            if any(not np.array_equal(each[0], other) for other in each[1:])
        ],
        "channels": [one["channels"] for one in pruning.reconfigurations],
        "layers": pruning.reconfigurations[-1]["layers"],
        "examples": int(history["training_flops"][0] / pruning_flops(model, pruning)),
        "strength": pruning.strength,
        "loss": history["loss"],
        "val_accuracy": history["val_accuracy"],
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def pruning_flops(model, pruning):
    """Training FLOPs of an example in the first network."""
    return 3 * pruning.reconfigurations[0]["inference_flops"][0]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
