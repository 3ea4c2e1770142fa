"""What TensorFlow's fused batch norm saves of a training step, and what counts of channels suit it.

    python -m benchmarks.batch_norm_step [--batch_size=128] [--rounds=9] [MODEL ...]

Each network trains as Keras computes it and within `ptkeras.fused_batch_norm()`, and so does one
that random pruning has left half of its FLOPs, with the counts of its layers' channels multiples of
1, 4, 8 and 16. All take turns. Two ratios are medians over the rounds: the fused step over Keras's
own, and the share of time that pruning saves of the fused step over the share of FLOPs that it
removes, of which the paper realised 0.97. They are printed, and written to
benchmarks/results/batch_norm_step.json.
"""

import argparse
import statistics

import keras

import ptkeras
from benchmarks import _training, measuring
from ptkeras import cost

MULTIPLES = (1, 4, 8, 16)


def networks(name, size):
    """The dense network and the pruned ones, by what to call them."""
    found = {}
    for multiple in (None, *MULTIPLES):
        model = _training.network(name, size)
        if multiple is not None:
            ptkeras.prune(model, 0.5, of="flops", criterion="random", channel_multiple=multiple)
        found["dense" if multiple is None else f"multiples of {multiple}"] = model
    return found


def measure(name, options):
    """The ratios of a network, and the medians that they are of."""
    data = _training.batch(options.size, options.batch_size)
    jobs, flops = {}, {}
    for form, model in networks(name, options.size).items():
        flops[form] = cost.inference_flops(model)
        for fused in (False, True):
            twin = _training.compiled(keras.models.clone_model(model))
            jobs[form, fused] = _training.steps(twin, data, options.steps, fused=fused)
            jobs[form, fused]()  # compiles
    times = measuring.turns(jobs, options.rounds)
    ratios, rows = [], []
    for form in flops:
        plain, fused = (times[form, each] for each in (False, True))
        what = f"a training step with fused batch norm over Keras's own, {name}, {form}"
        ratios.append(measuring.ratio(what, fused.wall, plain.wall, "< 1"))
        row = {
            "model": name,
            "channels": form,
            "flops": flops[form] / flops["dense"],
            "milliseconds": [_milliseconds(t, options.steps) for t in (plain, fused)],
        }
        if row["flops"] < 1:
            row["saved_over_removed"] = _saved(
                f"{name}, {form}", row["flops"], fused, times["dense", True]
            )
        rows.append(row)
    return ratios, rows


def _saved(what, flops, small, dense):
    """The share of time that went over the share of FLOPs that went."""
    shares = [1 - now / before for now, before in zip(small.wall, dense.wall, strict=True)]
    return measuring.ratio(
        f"time saved over FLOPs removed, {what}", shares, [1 - flops] * len(shares)
    )


def _milliseconds(times, steps):
    return 1e3 * statistics.median(times.wall) / steps


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet20", "vgg11"])
    parser.add_argument("--size", type=measuring.count, default=32)
    parser.add_argument("--batch_size", type=measuring.count, default=128)
    parser.add_argument("--rounds", type=measuring.count, default=9)
    parser.add_argument("--steps", type=measuring.count, default=2)
    options = parser.parse_args(arguments)
    ratios, rows = [], []
    for name in options.models:
        lines, found = measure(name, options)
        for line, row in zip(lines, found, strict=True):
            measuring.say(line)
            before, after = row["milliseconds"]
            print(f"  {before:.0f} → {after:.0f} ms with {row['flops']:.0%} of the FLOPs")
            if "saved_over_removed" in row:
                measuring.say(row["saved_over_removed"])
        ratios += lines
        rows += found
    measuring.write(
        "batch_norm_step", vars(options), _training.PACKAGES, ratios=ratios, networks=rows
    )


if __name__ == "__main__":
    main()
