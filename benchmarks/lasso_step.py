"""What PruneTrain costs a training step: the group lasso, and the shrinking for a budget.

    python -m benchmarks.lasso_step [--batch_size=128] [--rounds=15] [MODEL ...]

Each network trains with GroupLasso on all of its kernels, as `PruneTrain` puts it there, with half
of its channels shrinking, and without either, in rounds that take turns. The figures are the
medians of the rounds' ratios, of seconds by the clock and of seconds of all processors: where
others work on the machine too, the latter are the steadier. They are printed, and written to
benchmarks/results/lasso_step.json. The goal: at most 1.02.
"""

import argparse
import itertools
import statistics

import keras
import numpy as np

from benchmarks import _training, measuring
from ptkeras import lasso
from ptkeras.channels import trace
from ptkeras.prunetrain import shrinking
from ptkeras.prunetrain.zeroing import zeroing_groups

TITLES = {"resnet20": "CIFAR ResNet-20", "resnet50": "CIFAR ResNet-50", "vgg11": "VGG-11"}


JOBS = {
    "lasso": "a training step with the group lasso over one without",
    "budget": "a training step that shrinks half of the channels over one that does not",
}


def prepare(job, model):
    """Puts on a model what PruneTrain does."""
    if job == "lasso":
        lasso.attach(trace(model), keras.Variable(1e-4, trainable=False))
    elif job == "budget":
        groups = zeroing_groups(trace(model))
        [shrinkage] = shrinking.attach(groups, model, model)
        shrinkage.chosen.assign(np.arange(len(groups.free)) % 2 * groups.free)
        shrinkage.left.assign(1e6)


def measure(name, options):
    """The ratios of a network, by job, and the medians that they are of."""
    data = _training.batch(options.size, options.batch_size)
    jobs = {}
    for job in ("without", *JOBS):
        model = _training.compiled(_training.network(name, options.size), options.jit_compile)
        prepare(job, model)
        jobs[job] = _training.steps(model, data, options.steps)
        jobs[job]()  # compiles
    times = measuring.turns(jobs, options.rounds)
    without = times["without"]
    ratios = []
    for job, what in JOBS.items():
        title = f"{what}, {TITLES.get(name, name)}"
        wall = measuring.ratio(title, times[job].wall, without.wall, "≤ 1.02")
        own = times[job].processor
        ratios.append((wall, measuring.ratio(f"… of processors, {name}", own, without.processor)))
    seconds = {job: statistics.median(t.wall) / options.steps for job, t in times.items()}
    return ratios, {"model": name, "seconds_a_step": seconds}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(TITLES))
    parser.add_argument("--size", type=measuring.count, default=32)
    parser.add_argument("--batch_size", type=measuring.count, default=128)
    parser.add_argument("--rounds", type=measuring.count, default=15)
    parser.add_argument("--steps", type=measuring.count, default=2)
    parser.add_argument("--jit_compile", action="store_true", help="with XLA, as on a GPU")
    options = parser.parse_args(arguments)
    ratios, rows = [], []
    for name in options.models:
        found, row = measure(name, options)
        for line in itertools.chain(*found):
            measuring.say(line)
        ratios += [wall for wall, _ in found]
        rows.append(row | {"of_processors": [processor for _, processor in found]})
    measuring.write("lasso_step", vars(options), _training.PACKAGES, ratios=ratios, models=rows)


if __name__ == "__main__":
    main()
