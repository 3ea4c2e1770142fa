"""What PruneTrain saves by the clock, beside the training FLOPs that it removes.

    python -m benchmarks.speed_up                                   # the digits, ResNet-20
    python -m benchmarks.speed_up --dataset=cifar10 --data_dir=…    # a shortened CIFAR-10
    python -m benchmarks.speed_up --dataset=cifar10 --data_dir=… --model=vgg11

Each round runs `python -m ptkeras.train` dense, with PruneTrain, and with PruneTrain in the forms
that suit hardware (channel counts in multiples of 8 or 16; a batch that grows into the memory that
is freed), in turns. Seconds are those of all epochs, validation, reconfigurations and compiling
included. The figure is the share of seconds that went over the share of training FLOPs that went;
the paper realised 39 % of 40 %, 0.97. Runs stay in --runs, so that the command, started again, goes
on. The figures are printed, and written to benchmarks/results/speed_up_DATASET_MODEL.json.
"""

import argparse
import pathlib
import statistics
import sys

from benchmarks import measuring
from benchmarks.methods import FLAGS

FORMS = {
    "exact": ["--channel_multiple=1"],
    "multiples of 8": ["--channel_multiple=8"],
    "multiples of 16": ["--channel_multiple=16"],
    "growing batch": ["--channel_multiple=8", "--dynamic_batch"],
}


# Where the flags of benchmarks.methods teach a network nothing in a few epochs, or leave all of its
# channels: more for both runs, and more for PruneTrain's.
SCHEDULES = {
    ("cifar10", "vgg11"): (
        ["--learning_rate=0.02", "--learning_rate_drops=3"],
        ["--ratio=0.85", "--threshold=0.03"],
    ),
}


def run(options, method, form, number):
    """One run of the command, unless it is there already; returns its figures."""
    name = "_".join([options.dataset, options.model, method, *form.split(), str(number)])
    folder = pathlib.Path(options.runs) / name
    flags = flags_of(options, method, form)
    if options.data_dir:
        flags.append(f"--data_dir={options.data_dir}")
    return measuring.train(flags, folder)


def flags_of(options, method, form):
    """The flags of a job's runs, but for those that name a folder."""
    both, ours = SCHEDULES.get((options.dataset, options.model), ([], []))
    flags = [*FLAGS[options.dataset][method], f"--model={options.model}", *both]
    flags += [*ours, *FORMS[form]] if method == "prunetrain" else []
    if options.epochs:
        flags += [f"--epochs={options.epochs}", "--learning_rate_drops="]
    return flags


def figures(form, dense, pruned):
    """How the runs of a form compare with the dense ones, round by round."""
    seconds = [[run["seconds"] for run in runs] for runs in (pruned, dense)]
    saved = [1 - now / before for now, before in zip(*seconds, strict=True)]
    removed = [1 - run["training_flops"][1] / run["training_flops"][0] for run in pruned]
    if min(removed) <= 0:
        epochs = pruned[0]["epochs"]
        sys.exit(f"PruneTrain removed nothing in {epochs} epochs; give it more by --epochs.")
    return {
        "form": form,
        "seconds": statistics.median(seconds[0]),
        "seconds_dense": statistics.median(seconds[1]),
        "seconds_saved": statistics.median(saved),
        "training_flops_removed": statistics.median(removed),
        "accuracy": [statistics.mean(r["accuracy"] for r in runs) for runs in (dense, pruned)],
        "made": [[run["made"] for run in runs] for runs in (dense, pruned)],
    }, (saved, removed)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=FLAGS, default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--rounds", type=measuring.count, default=3)
    parser.add_argument(
        "--epochs", type=measuring.count, help="left out, those of benchmarks.methods"
    )
    parser.add_argument("--runs", default=measuring.RUNS / "speed_up")
    options = parser.parse_args(arguments)
    forms = options.forms.split(",")
    for form in forms:
        if form not in FORMS:
            parser.error(f"argument --forms: {form!r} is none of {', '.join(FORMS)}")
    jobs = [("dense", "exact"), *(("prunetrain", form) for form in forms)]
    found = {job: [] for job in jobs}
    for number in range(options.rounds):
        start = number % len(jobs)
        for job in jobs[start:] + jobs[:start]:
            found[job].append(run(options, *job, number))
    ratios, rows = [], []
    dense = found["dense", "exact"]
    for (_, form), pruned in list(found.items())[1:]:
        row, (saved, removed) = figures(form, dense, pruned)
        rows.append(row)
        what = f"time saved over training FLOPs removed, {options.dataset}, {options.model}, {form}"
        ratios.append(measuring.ratio(what, saved, removed, "≥ 0.97"))
        measuring.say(ratios[-1])
        print(
            f"  {row['seconds']:.1f} s instead of {row['seconds_dense']:.1f} s: "
            f"{row['seconds_saved']:.1%} saved for {row['training_flops_removed']:.1%} of the "
            f"training FLOPs; accuracy {row['accuracy'][0]:.2%} → {row['accuracy'][1]:.2%}"
        )
    measuring.tell_commits([run["made"] for runs in found.values() for run in runs])
    told = {", ".join(job): measuring.spelled_out(flags_of(options, *job)) for job in jobs}
    settings = vars(options) | {"data_dir": None, "runs": None, "flags": told}
    packages = ("keras", "tensorflow")
    name = f"speed_up_{options.dataset}_{options.model}"
    measuring.write(name, settings, packages, ratios=ratios, runs=rows)


if __name__ == "__main__":
    main()
