"""What magnitude pruning costs a training step, ours in Keras 3 and TF-MOT's in Keras 2.

    python -m benchmarks.magnitude_step [--size=32] [--batch_size=128]

The same network, ResNet-20 with the same weights, in four forms: Keras 3 as it is and with
`ptkeras.MagnitudePruning`, Keras 2 as it is and under TF-MOT's `prune_low_magnitude`, with one
schedule. All train in `fit` on the same batches, in rounds that take turns; the figures are medians
of the rounds' ratios, of seconds by the clock and of seconds of all processors, which are the
steadier where others work on the machine too. They are printed, and written to
benchmarks/results/magnitude_step.json. The goal: our step costs no more than TF-MOT's. Both have
fused batch norm, Keras 3 by `ptkeras.fused_batch_norm`. In the second ratio each is measured
against its own Keras.
"""

import argparse
import functools
import statistics

import keras
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

import ptkeras
from benchmarks import measuring
from ptkeras.models import build

NAMES = ("keras3", "ptkeras", "keras2", "tfmot")


def in_keras_2(model):
    """The same network with the same weights; both Keras's name layers and their options alike."""
    layers, tensors = tf_keras.layers, {}
    for layer in model.layers:
        config = layer.get_config()
        if isinstance(layer, keras.layers.InputLayer):
            tensors[layer.output.name] = made = layers.Input(layer.output.shape[1:])
            continue
        given = [tensors[x.name] for x in layer._inbound_nodes[0].input_tensors]
        kind = getattr(layers, type(layer).__name__)
        options = ("filters", "units", "kernel_size", "strides", "padding", "use_bias")
        options += ("momentum", "epsilon", "name")
        kept = {name: config[name] for name in options if name in config}
        made = kind(**kept)(given if len(given) > 1 else given[0])
        tensors[layer.output.name] = made
    twin = tf_keras.Model(tensors[model.input.name], made)
    twin.set_weights(model.get_weights())
    return twin


def trainers(size, schedule):
    """By name, a function that trains for an epoch on a dataset."""
    dense, pruned = (build("resnet20", (size, size, 3), 10) for _ in range(2))
    pruned.set_weights(dense.get_weights())
    old = in_keras_2(dense)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(in_keras_2(dense), schedule)
    models = dict(zip(NAMES, (dense, pruned, old, wrapped), strict=True))
    for name, model in models.items():
        api = keras if name in NAMES[:2] else tf_keras
        loss = api.losses.SparseCategoricalCrossentropy(from_logits=True)
        # Keras 2 has no XLA unless it is told; neither has.
        model.compile(api.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    callbacks = {
        "ptkeras": [ptkeras.MagnitudePruning(schedule)],
        "tfmot": [tfmot.sparsity.keras.UpdatePruningStep()],
    }
    return {
        name: lambda data, name=name: models[name].fit(
            data, verbose=0, callbacks=callbacks.get(name, [])
        )
        for name in NAMES
    }


def compared(seconds):
    """Our step over TF-MOT's, as they are and each as a multiple of a step of its own Keras.

    Args:
        seconds: by name, those of each round.
    """
    what = "a step of magnitude pruning, ResNet-20, over TF-MOT's in Keras 2"
    own = "the same, each as a multiple of a step of its Keras without pruning"
    ours, theirs = (
        [pruned / plain for pruned, plain in zip(seconds[a], seconds[b], strict=True)]
        for a, b in (("ptkeras", "keras3"), ("tfmot", "keras2"))
    )
    return [
        measuring.ratio(what, seconds["ptkeras"], seconds["tfmot"], "≤ 1"),
        measuring.ratio(own, ours, theirs, "≤ 1"),
    ]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=measuring.count, default=32)
    parser.add_argument("--batch_size", type=measuring.count, default=128)
    parser.add_argument("--rounds", type=measuring.count, default=15)
    parser.add_argument("--steps", type=measuring.count, default=10)
    parser.add_argument("--frequency", type=measuring.count, default=10)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(0)
    images = random.normal(size=(options.batch_size, options.size, options.size, 3))
    batch = images.astype("float32"), random.integers(0, 10, options.batch_size)
    data = tf.data.Dataset.from_tensors(batch).cache().repeat(options.steps)
    total = (options.rounds + 1) * options.steps
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.8, 0, total, 3, options.frequency)
    trained = trainers(options.size, schedule)
    jobs = {name: functools.partial(train, data) for name, train in trained.items()}
    with ptkeras.fused_batch_norm():
        for job in jobs.values():
            job()  # compiles
    times = measuring.turns(jobs, options.rounds)
    ratios, of_processors = measuring.by_both_clocks(compared, times)
    medians, processors = (
        {
            name: statistics.median(getattr(taken, kind)) / options.steps
            for name, taken in times.items()
        }
        for kind in ("wall", "processor")
    )
    overhead = {
        "ptkeras": medians["ptkeras"] / medians["keras3"] - 1,
        "tfmot": medians["tfmot"] / medians["keras2"] - 1,
    }
    measuring.write(
        "magnitude_step",
        vars(options),
        ("keras", "tensorflow", "tf_keras", "tensorflow-model-optimization"),
        ratios=ratios,
        of_processors=of_processors,
        seconds_a_step=medians,
        cpu_seconds_a_step=processors,
        overhead=overhead,
    )
    for name, time_ in medians.items():
        busy = processors[name]
        print(f"{name:8} {1e3 * time_:7.1f} ms a step, of processors {1e3 * busy:7.1f} ms")
    measuring.say_both(ratios, of_processors)
    print(
        f"over the network as it is: ptkeras {overhead['ptkeras']:+.1%}, "
        f"TF-MOT {overhead['tfmot']:+.1%}"
    )


if __name__ == "__main__":
    main()
