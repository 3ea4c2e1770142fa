"""What the group lasso costs a training step.

    python -m benchmarks.lasso_step [--batch_size=128] [--rounds=15] [MODEL ...]

Each network trains with GroupLasso on all of its kernels, as `PruneTrain` puts it there, and
without, in rounds that take turns. The figures are the medians of the rounds' ratios, of seconds by
the clock and of seconds of all processors: where others work on the machine too, the latter are the
steadier. They are printed, and written to benchmarks/results/lasso_step.json. The goal: at most
1.02.
"""

import argparse
import statistics

import keras

from benchmarks import _training, measuring
from ptkeras import lasso
from ptkeras.channels import trace

TITLES = {"resnet20": "CIFAR ResNet-20", "resnet50": "CIFAR ResNet-50", "vgg11": "VGG-11"}


def measure(name, options):
    """The two ratios of a network, and the medians that they are of."""
    data = _training.batch(options.size, options.batch_size)
    jobs = {}
    for job in ("without", "with"):
        model = _training.compiled(_training.network(name, options.size), options.jit_compile)
        if job == "with":
            lasso.attach(trace(model), keras.Variable(1e-4, trainable=False))
        jobs[job] = _training.steps(model, data, options.steps)
        jobs[job]()  # compiles
    times = measuring.turns(jobs, options.rounds)
    what = f"a training step with the group lasso over one without, {TITLES.get(name, name)}"
    ratios = [
        measuring.ratio(what, times["with"].wall, times["without"].wall, "≤ 1.02"),
        measuring.ratio(
            f"… of processors, {name}", times["with"].processor, times["without"].processor
        ),
    ]
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
        (wall, processor), row = measure(name, options)
        for line in (wall, processor):
            measuring.say(line)
        ratios.append(wall)
        rows.append(row | {"of_processors": processor})
    measuring.write("lasso_step", vars(options), _training.PACKAGES, ratios=ratios, models=rows)


if __name__ == "__main__":
    main()
