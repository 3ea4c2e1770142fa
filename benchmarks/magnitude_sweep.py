"""Han's sweep: accuracy by the share of weights removed, without and with fine-tuning.

    python -m benchmarks.magnitude_sweep                                       # the digits
    python -m benchmarks.magnitude_sweep --dataset=cifar10 --data_dir=…

The dense network is that of `benchmarks.methods` (ResNet-20, seed 0), trained if it is not there;
the sweep is `python -m ptkeras.sweep`, which prunes convolutions and dense layers to the same ratio
with a threshold of their own. The figures are written to
benchmarks/results/magnitude_sweep_DATASET.json. The README's table has them beside the published
ones for ResNet-20 on CIFAR-10, of a network that was trained in full.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from benchmarks import measuring, methods

FLAGS = {
    "digits": ["--finetune_epochs=5"],
    "cifar10": ["--finetune_epochs=1", "--ratios=0.3,0.5,0.7,0.9"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=FLAGS, default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--runs", default=measuring.RUNS / "methods")
    options = parser.parse_args()
    made = methods.run(options, "dense", 0)["made"]
    folder = pathlib.Path(options.runs) / f"{options.dataset}_dense_seed0"
    command = [sys.executable, "-m", "ptkeras.sweep", f"--run={folder}", *FLAGS[options.dataset]]
    if options.data_dir:
        command.append(f"--data_dir={options.data_dir}")
    subprocess.run(command, check=True)
    told = json.loads((folder / "sweep.json").read_text())
    measuring.write(
        f"magnitude_sweep_{options.dataset}",
        vars(options) | {"data_dir": None, "runs": None, "flags": told["flags"]},
        ("keras", "tensorflow"),
        made=made,
        dense=told["dense"],
        rows=list(told["rows"].values()),
    )


if __name__ == "__main__":
    main()
