"""PruneTrain against dense training on the digits, from the shipped flagfile, over several seeds.

    python -m benchmarks.digits [--seeds=3]

Runs `python -m ptkeras.train --flagfile=flags/digits_resnet20.flags` with each method and seed, one
after the other, and prints the test accuracies, the shares of FLOPs removed and the seconds of the
whole command. Also writes them to benchmarks/results/digits.json. Some 10 minutes on two cores.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table

from benchmarks import measuring

FLAGFILE = "flags/digits_resnet20.flags"


def run(method, seed):
    """One run of the command; returns its figures, with `seconds` of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ptkeras.train", f"--flagfile={FLAGFILE}"]
        flags = [f"--method={method}", f"--seed={seed}", f"--output_dir={folder}/run"]
        started = time.perf_counter()
        subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        figures = json.loads(pathlib.Path(folder, "run", "result.json").read_text())
    return figures | {"seconds": round(seconds, 1)}


def removed(figures, name):
    dense, now = figures[name]
    return 1 - now / dense


def show(runs):
    table = Table(title="Digits, ResNet-20")
    for column in ("method", "seed", "accuracy", "inference FLOPs", "training FLOPs", "seconds"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for one in runs:
        table.add_row(
            one["method"],
            str(one["seed"]),
            f"{one['accuracy']:.2%}",
            *(f"{0 - removed(one, name):.1%}" for name in ("inference_flops", "training_flops")),
            f"{one['seconds']:.0f}",
        )
    Console(width=100).print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=measuring.count, default=3)
    options = parser.parse_args()
    seeds = range(options.seeds)
    runs = [run(method, seed) for seed in seeds for method in ("dense", "prunetrain")]
    show(runs)
    accuracy = {
        method: statistics.mean(r["accuracy"] for r in runs if r["method"] == method)
        for method in ("dense", "prunetrain")
    }
    print(
        f"mean accuracy: dense {accuracy['dense']:.2%}, PruneTrain {accuracy['prunetrain']:.2%}; "
        f"ratio {accuracy['prunetrain'] / accuracy['dense']:.4f}"
    )
    settings = vars(options) | {"flags": measuring.spelled_out([f"--flagfile={FLAGFILE}"])}
    packages = ("keras", "tensorflow")
    measuring.write("digits", settings, packages, mean_accuracy=accuracy, runs=runs)


if __name__ == "__main__":
    main()
