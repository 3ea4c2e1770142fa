"""What Keras's own options do to a training step: XLA, and several steps in one execution.

    python -m benchmarks.step_options [--rounds=5]

ResNet-20 with images and batches as of the digits and of CIFAR-10 (8x8 at batch 32, 32x32 at batch
128), by `fit` on arrays, plain and with `jit_compile=True` or `steps_per_execution` in `compile`;
all take turns. Compiling is told apart: a reconfiguration compiles anew. The figures are
medians of the rounds' ratios; they are printed, and written to
benchmarks/results/step_options.json.
"""

import argparse
import time

import numpy as np

import ptkeras
from benchmarks import _training, measuring

NETWORKS = {"the digits": (8, 32), "CIFAR-10": (32, 128)}  # pixels, and images in a batch
OPTIONS = {
    "jit_compile": {"jit_compile": True},
    "steps_per_execution": {"steps_per_execution": 8},
}


def fitting(size, batch_size, steps, options):
    """A job: so many steps of `fit`."""
    images, labels = _training.batch(size, batch_size)
    images, labels = np.tile(images, (steps, 1, 1, 1)), np.tile(labels, steps)
    model = _training.compiled(_training.network("resnet20", size), **options)

    def run():
        with ptkeras.fused_batch_norm():
            model.fit(images, labels, batch_size=batch_size, verbose=0, shuffle=False)

    return run


def measure(name, options):
    """The ratios of a network, and the seconds that the first `fit` of each job took."""
    jobs = {
        job: fitting(*NETWORKS[name], options.steps, more)
        for job, more in ({"plain": {}} | OPTIONS).items()
    }
    first = {}
    for job, run in jobs.items():
        started = time.perf_counter()
        run()
        first[job] = time.perf_counter() - started
    times = measuring.turns(jobs, options.rounds)
    what = "a step of fit with {} over one without, ResNet-20 on images as of {}"
    ratios = [
        measuring.ratio(what.format(job, name), times[job].wall, times["plain"].wall)
        for job in OPTIONS
    ]
    return ratios, {"network": name, "seconds_of_first_fit": first}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=measuring.count, default=5)
    parser.add_argument("--steps", type=measuring.count, default=24)
    options = parser.parse_args(arguments)
    ratios, rows = [], []
    for name in NETWORKS:
        lines, row = measure(name, options)
        for line in lines:
            measuring.say(line)
        first = ", ".join(f"{job} {s:.1f} s" for job, s in row["seconds_of_first_fit"].items())
        print(f"  the first fit: {first}")
        ratios += lines
        rows.append(row)
    settings = vars(options)
    measuring.write("step_options", settings, _training.PACKAGES, ratios=ratios, networks=rows)


if __name__ == "__main__":
    main()
