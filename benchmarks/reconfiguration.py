"""The pause of a reconfiguration, by part, beside the making of the same small network.

    python -m benchmarks.reconfiguration [--rounds=7] [MODEL ...]

Half of the channels of a network that trains go to zero, and PruneTrain reconfigures it: it decides
what goes, makes the layers anew, carries weights and slots over, and looks at what came out; the
first step after that traces and compiles, and so does the first evaluation. In turns with it the
same small network is built from its config, given the group lasso, compiled, trained for one step
and evaluated on one batch: what a training that began anew with it would have to do. The figures
are medians; they are printed, and written to benchmarks/results/reconfiguration.json. The goals:
no longer than that, and under 5 % of the training steps of an epoch of CIFAR-10, whose length is
told in each round from the median of some steps of the dense network.
"""

import argparse
import contextlib
import copy
import statistics
import time
from unittest import mock

import keras
import numpy as np

import ptkeras
from benchmarks import _training, measuring
from ptkeras import lasso
from ptkeras.channels import trace
from ptkeras.importance import kernel_slices
from ptkeras.prunetrain import channels
from ptkeras.prunetrain.group_lasso import LassoSparsifier

CIFAR_IMAGES = 50_000
DENSE_STEPS = 5  # whose median tells how long an epoch is
STRENGTH = 1e-5  # of the lasso
# What is timed inside `PruneTrain.reconfigure`: (where the name is looked up, the name).
PARTS = {
    "decide": (LassoSparsifier, "keep"),
    "resize": (channels, "remove"),
    "look at the result": (ptkeras.PruneTrain, "_refresh"),
}


@contextlib.contextmanager
def stopwatches(seconds):
    """Adds up the seconds in each part."""
    with contextlib.ExitStack() as stack:
        for part, (home, name) in PARTS.items():
            function = getattr(home, name)

            def timed(*args, _function=function, _part=part, **kwargs):
                started = time.perf_counter()
                try:
                    return _function(*args, **kwargs)
                finally:
                    seconds[_part] = seconds.get(_part, 0) + time.perf_counter() - started

            stack.enter_context(mock.patch.object(home, name, timed))
        yield


def silence(model, share):
    """Sets the kernels' slices of some channels to zero."""
    channel_map = trace(model)
    going = ~channel_map.frozen & (np.random.default_rng(0).random(len(channel_map)) < share)
    for row in kernel_slices(channel_map):
        values = keras.ops.convert_to_numpy(row.variable).copy()
        np.moveaxis(values, row.axis, 0)[going[row.channels]] = 0
        row.variable.assign(values)


def reconfigured(model, data):
    """Seconds of each part of a reconfiguration and of what comes first after it; and of a step."""
    callback = ptkeras.PruneTrain(strength=STRENGTH, verbose=0)
    callback.set_model(model)
    callback.set_params({"epochs": 100})
    callback.on_train_begin()
    callback._epoch_examples = 0
    step, evaluation = _training.steps(model, data, 1), _training.evaluation(model, data)
    for job in (step, step, evaluation):
        job()
    dense = statistics.median(timed(step) for _ in range(DENSE_STEPS))
    silence(model, 0.5)
    parts = {}
    with stopwatches(parts):
        whole = timed(lambda: callback.reconfigure(1))
    parts["the rest"] = whole - sum(parts.values())
    for name, job in (("step", step), ("evaluation", evaluation)):
        first = timed(job)
        later = statistics.median(timed(job) for _ in range(3))
        parts |= {f"retrace the {name}": first - later, f"first {name}": later}
    return parts, dense


def built_anew(config, data):
    """Seconds to make a network for PruneTrain from its config, train it a step and evaluate it."""

    config = copy.deepcopy(config)  # Keras takes parts out of what it is given

    def make():
        model = keras.Model.from_config(config)
        _training.compiled(model)
        lasso.attach(trace(model), keras.Variable(STRENGTH, trainable=False))
        for job in (_training.steps(model, data, 1), _training.evaluation(model, data)):
            job()

    return timed(make)


def timed(job):
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def measure(name, options):
    data = _training.batch(options.size, options.batch_size)
    pauses, built, dense, config = [], [], [], None
    for number in range(options.rounds + 1):
        keras.utils.clear_session()
        if number % 2:  # the same channels go in every round, so that the config is known by now
            built.append(built_anew(config, data))
        model = _training.compiled(_training.network(name, options.size))
        parts, step = reconfigured(model, data)
        pauses.append(parts)
        dense.append(step)
        config = model.get_config()
        if not number % 2:
            built.append(built_anew(config, data))
    pauses, built, dense = pauses[1:], built[1:], dense[1:]  # the first loads code
    whole = [sum(parts.values()) for parts in pauses]
    epochs = [CIFAR_IMAGES / options.batch_size * step for step in dense]
    ratios = [
        measuring.ratio(
            f"a reconfiguration over making the same network anew, {name}", whole, built, "≤ 1"
        ),
        measuring.ratio(f"… over an epoch of CIFAR-10, {name}", whole, epochs, "< 0.05"),
    ]
    parts = {part: statistics.median(p.get(part, 0.0) for p in pauses) for part in pauses[0]}
    return ratios, {
        "model": name,
        "seconds_by_part": parts,
        "seconds_built_anew": statistics.median(built),
        "seconds_of_an_epoch": statistics.median(epochs),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "resnet50"])
    parser.add_argument("--size", type=measuring.count, default=32)
    parser.add_argument("--batch_size", type=measuring.count, default=128)
    parser.add_argument("--rounds", type=measuring.count, default=7)
    options = parser.parse_args(arguments)
    ratios, rows = [], []
    for name in options.models:
        lines, row = measure(name, options)
        ratios += lines
        rows.append(row)
        parts = ", ".join(f"{part} {s:.3f}" for part, s in row["seconds_by_part"].items())
        print(f"{name}, seconds: {parts}; built anew {row['seconds_built_anew']:.3f}")
        for line in lines:
            measuring.say(line)
    measuring.write(
        "reconfiguration", vars(options), _training.PACKAGES, ratios=ratios, models=rows
    )


if __name__ == "__main__":
    main()
