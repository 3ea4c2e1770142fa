"""The methods beside each other: dense, PruneTrain, Pruning from Scratch and magnitude pruning.

    python -m benchmarks.methods [--seeds=3]                            # the digits, ResNet-20
    python -m benchmarks.methods --dataset=cifar10 --data_dir=… --seeds=1

Each is a run of `python -m ptkeras.train`. PruneTrain decides how small its network gets; Pruning
from Scratch is then given its inference FLOPs as the budget, and magnitude pruning its number of
parameters as those that are not zero. Runs are kept in --runs, so that the command, started again,
goes on where it was stopped. The figures are printed, and written to
benchmarks/results/methods_DATASET.json. Either takes some 20 to 30 minutes on two cores; CIFAR-10
on a schedule of 4 epochs, far too short for the papers' accuracies.
"""

import argparse
import pathlib

from benchmarks import measuring, tables
from ptkeras.report import summary

FLAGS = {
    "digits": {
        "dense": ["--flagfile=flags/digits_resnet20.flags", "--method=dense"],
        "prunetrain": ["--flagfile=flags/digits_resnet20.flags"],
        "pruning_from_scratch": ["--flagfile=flags/digits_resnet20_pruning_from_scratch.flags"],
        "magnitude": ["--flagfile=flags/digits_resnet20_magnitude.flags"],
    },
    "cifar10": {
        method: [
            "--dataset=cifar10",
            "--model=resnet20",
            f"--method={method}",
            "--epochs=4",
            "--batch_size=128",
            "--learning_rate=0.1",
            "--learning_rate_drops=2,3",
            "--weight_decay=1e-4",
            *more,
        ]
        for method, more in {
            "dense": [],
            "prunetrain": [
                "--interval=1",
                "--ratio=0.5",
                "--threshold=0.03",
                "--channel_multiple=4",
            ],
            "pruning_from_scratch": ["--gate_epochs=1"],
            "magnitude": ["--pruning_begin=2", "--pruning_end=3"],
        }.items()
    },
}


def run(options, method, seed, *flags):
    """One run of the command, unless it is there already; returns its figures."""
    folder = pathlib.Path(options.runs) / f"{options.dataset}_{method}_seed{seed}"
    flags = [*FLAGS[options.dataset][method], *flags, f"--seed={seed}"]
    if options.data_dir:
        flags.append(f"--data_dir={options.data_dir}")
    return measuring.train(flags, folder)


def as_small(pruned, kernels):
    """The flags that make the others as small as PruneTrain's network.

    Args:
        pruned: the figures of PruneTrain's run.
        kernels: the number of weights in the kernels of the dense network.
    """
    dense_flops, flops = pruned["inference_flops"]
    dense_params, params = pruned["params"]
    return {
        "pruning_from_scratch": [f"--flops_budget={flops / dense_flops:.5f}"],
        "magnitude": [f"--sparsity={(dense_params - params) / kernels:.5f}"],
    }


def kernel_weights(options):
    """The number of weights in the kernels of the dense network."""
    from keras.models import load_model

    from ptkeras import magnitude

    model = load_model(
        pathlib.Path(options.runs) / f"{options.dataset}_dense_seed0" / "model.keras"
    )
    return sum(row.size for row in magnitude.report(model).kernels)


def figures(result, flags=()):
    """One row: the figures of a run's network, without the dense one's; its own flags and code."""
    found = summary.figures(result)
    return {
        "method": result["method"],
        "seed": result["seed"],
        "flags": list(flags),
        "made": result["made"],
        "accuracy": found["accuracy"],
        "training_flops": found["training_flops"][1],
        "inference_flops": found["inference_flops"][1],
        "params": found["params"][1],
        "gzip_bytes": result.get("gzip_bytes", [None, None])[1],
        "seconds": found["seconds"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=FLAGS, default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--seeds", type=measuring.count, default=3)
    parser.add_argument("--runs", default=measuring.RUNS / "methods")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        dense = run(options, "dense", seed)
        pruned = run(options, "prunetrain", seed)
        small = as_small(pruned, kernel_weights(options))
        rows += [figures(dense), figures(pruned)]
        rows += [figures(run(options, m, seed, *flags), flags) for m, flags in small.items()]
        told = {name: measuring.spelled_out(f) for name, f in FLAGS[options.dataset].items()}
        settings = vars(options) | {"data_dir": None, "runs": None, "flags": told}
        measuring.write(f"methods_{options.dataset}", settings, ("keras", "tensorflow"), runs=rows)
    print(tables.methods({"runs": rows}))
    measuring.tell_commits([row["made"] for row in rows])


if __name__ == "__main__":
    main()
