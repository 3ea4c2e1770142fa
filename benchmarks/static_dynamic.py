"""Static and dynamic pruning together: a dense network, the static one, and both in a table.

    python -m benchmarks.static_dynamic [--seeds=3]                            # the digits
    python -m benchmarks.static_dynamic --dataset=cifar10 --data_dir=… --seeds=1

Each seed is a run of `python -m ptkeras.train --method=static_dynamic`, kept in --runs, so that the
command, started again, goes on where it was stopped. Latencies are measured anew, on test images
one at a time in onnxruntime, over all networks in turns. The figures are printed, and written to
benchmarks/results/static_dynamic_DATASET.json. The digits take some three minutes a seed on two
idle cores; CIFAR-10 has a schedule that is far too short for the paper's accuracies.
"""

import argparse
import pathlib

from benchmarks import measuring, tables

FLAGS = {
    "digits": ["--flagfile=flags/digits_resnet20_static_dynamic.flags"],
    "cifar10": [
        "--dataset=cifar10",
        "--model=resnet20",
        "--method=static_dynamic",
        "--epochs=6",
        "--batch_size=128",
        "--learning_rate=0.1",
        "--learning_rate_drops=4,5",
        "--weight_decay=1e-4",
        "--gate=ffgate2",
        "--pretraining_epochs=1",
        "--prune_ratio=0.5",
        "--finetune_epochs=3",
        "--finetune_learning_rate=0.01",
        "--alpha=1",
        "--rl_weight=1",
        "--rl_epochs=5",
    ],
}
NETWORKS = {"dense": "dense", "static": "static", "static and dynamic": "model"}


def run(options, seed):
    """One run of the command, unless it is there already; returns its folder and its figures."""
    folder = pathlib.Path(options.runs) / f"{options.dataset}_seed{seed}"
    flags = [*FLAGS[options.dataset], f"--seed={seed}"]
    if options.data_dir:
        flags.append(f"--data_dir={options.data_dir}")
    return folder, measuring.train(flags, folder)


def latencies(folder, options):
    """The milliseconds of an image for each of a run's networks, on one thread."""
    import keras
    import numpy as np

    from ptkeras import data, export

    models = [keras.models.load_model(folder / f"{name}.keras") for name in NETWORKS.values()]
    test = data.load(options.dataset, batch_size=100, data_dir=options.data_dir).test
    images = np.concatenate([x for x, _ in test.take(2).as_numpy_iterator()])
    return export.onnx_latency(models, images, threads=1, rounds=25)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=FLAGS, default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--seeds", type=measuring.count, default=3)
    parser.add_argument("--runs", default=measuring.RUNS / "static_dynamic")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        folder, told = run(options, seed)
        shared = {name: told[name] for name in ("blocks_run", "gates", "flops_quartiles")}
        for row, time in zip(told["comparison"], latencies(folder, options), strict=True):
            rows.append(row | {"seed": seed, "made": told["made"], "milliseconds": time})
        rows[-1] |= shared
        flags = measuring.spelled_out(FLAGS[options.dataset])
        settings = vars(options) | {"data_dir": None, "runs": None, "flags": flags}
        name = f"static_dynamic_{options.dataset}"
        measuring.write(name, settings, ("keras", "tensorflow", "onnxruntime"), rows=rows)
    print(tables.static_dynamic({"rows": rows}))
    # Each run has a row for each of its networks.
    measuring.tell_commits([row["made"] for row in rows[:: len(NETWORKS)]])


if __name__ == "__main__":
    main()
