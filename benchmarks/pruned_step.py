"""Seconds of a training step after a reconfiguration, over those of the same network built so.

    python -m benchmarks.pruned_step [--size=32] [--batch_size=128] [MODEL ...]

Half of the channels of each network are removed in place, with the optimiser's slots. Beside it the
same small network is built from its config and compiled. Both train on the same batch, in rounds
that take turns, since the speed of a machine drifts; the figure is the median of the ratios of the
rounds. It is printed, and written to benchmarks/results/pruned_step.json. The goal: 1.00 ± 0.03.
"""

import argparse
import statistics

import keras
import numpy as np

import ptkeras
from benchmarks import _training, measuring


def pruned_and_built(name, size, batch):
    """A network that was pruned in the middle of its training, and its twin built directly."""
    pruned = _training.compiled(_training.network(name, size), jit_compile="auto")
    pruned.train_on_batch(*batch)
    channel_map = ptkeras.channels.trace(pruned)
    keep = channel_map.frozen | (np.random.default_rng(0).random(len(channel_map)) < 0.5)
    ptkeras.reconfigure(pruned, keep)
    return pruned, _training.compiled(keras.models.clone_model(pruned), jit_compile="auto")


def measure(name, options):
    """The ratio of a step of both, and the seconds that it is of."""
    batch = _training.batch(options.size, options.batch_size)
    models = pruned_and_built(name, options.size, batch)
    names = ("pruned", "built")
    jobs = {n: _training.steps(m, batch, options.steps) for n, m in zip(names, models, strict=True)}
    for job in jobs.values():
        job()  # compiles
    times = measuring.turns(jobs, options.rounds)
    what = f"a training step of a network pruned in place over the same built so, {name}"
    ratio = measuring.ratio(what, times["pruned"].wall, times["built"].wall, "1.00 ± 0.03")
    seconds = {n: statistics.median(t.wall) / options.steps for n, t in times.items()}
    return ratio, {"model": name, "seconds_a_step": seconds}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "resnet50", "MobileNetV2"])
    parser.add_argument("--size", type=measuring.count, default=32)
    parser.add_argument("--batch_size", type=measuring.count, default=128)
    parser.add_argument("--rounds", type=measuring.count, default=15)
    parser.add_argument("--steps", type=measuring.count, default=5)
    options = parser.parse_args(arguments)
    ratios, rows = [], []
    for name in options.models:
        ratio, row = measure(name, options)
        measuring.say(ratio)
        ratios.append(ratio)
        rows.append(row)
    measuring.write("pruned_step", vars(options), _training.PACKAGES, ratios=ratios, models=rows)


if __name__ == "__main__":
    main()
