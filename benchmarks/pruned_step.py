"""Seconds of a training step after a reconfiguration, over those of the same network built so.

    python -m benchmarks.pruned_step [--size=32] [--batch_size=128] [MODEL ...]

Half of the channels of each network are removed in place, with the optimiser's slots. Beside it the
same small network is built from its config and compiled. Both train on the same batch, in rounds
that take turns, since the speed of a machine drifts; the figure is the median of the ratios of the
rounds. It is printed, and written to benchmarks/results/pruned_step.json. The goal: 1.00 ± 0.03.
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import time

import keras
import numpy as np

import ptkeras
from ptkeras.models import build

RESULT = pathlib.Path(__file__).parent / "results" / "pruned_step.json"


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    return model


def pruned_and_built(name, size, batch):
    """A network that was pruned in the middle of its training, and its twin built directly."""
    pruned = compiled(build(name, (size, size, 3), 10))
    pruned.train_on_batch(*batch)
    channel_map = ptkeras.channels.trace(pruned)
    keep = channel_map.frozen | (np.random.default_rng(0).random(len(channel_map)) < 0.5)
    ptkeras.reconfigure(pruned, keep)
    return pruned, compiled(keras.models.clone_model(pruned))


def seconds_a_step(model, batch, steps):
    started = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(*batch)
    return (time.perf_counter() - started) / steps


def measure(name, options):
    """The seconds of a step of both, and the ratios of the rounds."""
    random = np.random.default_rng(0)
    images = random.normal(size=(options.batch_size, options.size, options.size, 3))
    batch = images.astype("float32"), random.integers(0, 10, options.batch_size)
    models = pruned_and_built(name, options.size, batch)
    for model in models:
        seconds_a_step(model, batch, options.steps)  # compiles
    ratios, pruned, built = [], [], []
    for turn in range(options.rounds):
        order = (0, 1) if turn % 2 else (1, 0)
        times = {which: seconds_a_step(models[which], batch, options.steps) for which in order}
        pruned.append(times[0])
        built.append(times[1])
        ratios.append(times[0] / times[1])
    return {
        "model": name,
        "seconds_pruned": statistics.median(pruned),
        "seconds_built": statistics.median(built),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "resnet50", "MobileNetV2"])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    results = []
    for name in options.models:
        results.append(measure(name, options))
        row = results[-1]
        print(
            f"{name}: a step takes {1e3 * row['seconds_pruned']:.1f} ms pruned in place, "
            f"{1e3 * row['seconds_built']:.1f} ms built directly; ratio {row['ratio']:.3f} "
            f"({row['ratio_quartiles'][0]:.3f} to {row['ratio_quartiles'][1]:.3f})",
            flush=True,
        )
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "versions": {"keras": keras.__version__, "backend": keras.config.backend()},
        "settings": vars(options),
        "models": results,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
