"""Accuracy against FLOPs: PruneTrain by a budget, the paper's group lasso, and dense training.

    python -m benchmarks.budgets [--model=vgg8] [--seeds=5]       # the digits, 60 epochs
    python -m benchmarks.budgets --dataset=cifar10 --data_dir=… --epochs=10 --seeds=1

Each is a run of `python -m ptkeras.train` with the same epochs, rates and batches. Runs are kept in
--runs, so that the command, started again, goes on where it was stopped. The figures are printed,
and written to benchmarks/results/budgets_DATASET_MODEL.json after each seed; --plot draws them. A
run on the digits takes some 90 seconds on two cores, and 45 of them are made.
"""

import argparse
import pathlib

from benchmarks import measuring, tables

WAYS = {
    "dense": ["--method=dense"],
    **{f"ratio {ratio}": [f"--ratio={ratio}"] for ratio in (0.5, 0.65, 0.8, 0.95)},
    # Removed after each stage: figures of FLOPs are to be those of any machine.
    **{f"target {t}": [f"--target={t}", "--interval=stage"] for t in (0.7, 0.5, 0.3, 0.1)},
}
PAPERS = ["--interval=5", "--threshold=0.02"]  # as flags/digits_resnet20.flags has them
SHARED = {
    "digits": ["--batch_size=32", "--weight_decay=0", "--learning_rate_drops=0.6,0.83"],
    "cifar10": ["--batch_size=128", "--weight_decay=5e-4", "--schedule=one_cycle"],
}


def flags_of(options, way):
    """All flags of a run but its seed: with all ways the epochs, rates and batches are the same."""
    return [
        f"--dataset={options.dataset}",
        f"--model={options.model}",
        *SHARED[options.dataset],
        f"--epochs={options.epochs}",
        "--learning_rate=0.1",
        *(PAPERS if way.startswith("ratio") else []),
        *WAYS[way],
    ]


def run(options, way, seed):
    """One row: a run of the command, unless it is there already."""
    name = f"{options.dataset}_{options.model}_{options.epochs}_{way}_seed{seed}".replace(" ", "_")
    where = [f"--data_dir={options.data_dir}"] if options.data_dir else []
    flags = [*flags_of(options, way), *where, f"--seed={seed}"]
    result = measuring.train(flags, pathlib.Path(options.runs) / name)
    dense, small = result["training_flops"]
    before, after = result["inference_flops"]
    return {
        "way": way,
        "seed": seed,
        "made": result["made"],
        "accuracy": result["accuracy"],
        "training_flops": small / dense,
        "inference_flops": after / before,
        "seconds": result["seconds"],
    }


def draw(rows, path):
    """Draws accuracy against the FLOPs left, of training and of inference, a dot for each run."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    kinds = {"dense": "black", "ratio": "tab:orange", "target": "tab:blue"}
    for axis, key in zip(axes, ("training_flops", "inference_flops"), strict=True):
        for kind, color in kinds.items():
            own = [row for row in rows if row["way"].startswith(kind)]
            x, y = [row[key] for row in own], [100 * row["accuracy"] for row in own]
            label = {"ratio": "PruneTrain, paper", "target": "PruneTrain, target"}.get(kind, kind)
            axis.scatter(x, y, color=color, alpha=0.6, label=label)
        axis.set(xlabel=f"{key.replace('_flops', '')} FLOPs left", xlim=(0, 1.05))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    axes[1].legend()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=SHARED, default="digits")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--data_dir")
    parser.add_argument("--epochs", type=measuring.count, default=60)
    parser.add_argument("--seeds", type=measuring.count, default=5)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=[*WAYS], help="left out: all")
    parser.add_argument("--runs", default=measuring.RUNS / "budgets")
    parser.add_argument("--plot", help="a file for the plot, .svg or .png")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        rows += [run(options, way, seed) for way in options.ways]
        told = {way: flags_of(options, way) for way in options.ways}
        settings = vars(options) | {"data_dir": None, "runs": None, "plot": None, "flags": told}
        name = f"budgets_{options.dataset}_{options.model}"
        measuring.write(name, settings, ("keras", "tensorflow"), runs=rows)
    print(tables.budgets({"runs": rows}))
    measuring.tell_commits([row["made"] for row in rows])
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
