"""Peak resident memory, each job in a process of its own.

    python -m benchmarks.memory [--epochs=15] [--rounds=3] [--b7_rounds=3]

A run of the digits with PruneTrain beside a dense one; and tracing and pruning EfficientNetB7
beside building it alone. PruneTrain may reconfigure at the end of every epoch, and has a threshold
under which channels fall from the first epochs on, since each reconfiguration traces the steps
anew. The figures are what Linux counts for a process, Python and the backend included, as medians
over the rounds. They are printed, and written to benchmarks/results/memory.json.
"""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from benchmarks import measuring

_BUILD = "import keras; model = keras.applications.EfficientNetB7(weights=None)"
_B7 = {
    "build": _BUILD,
    "trace": f"{_BUILD}; import ptkeras; ptkeras.channels.trace(model)",
    "prune": f"{_BUILD}; import ptkeras; ptkeras.prune(model, 0.5)",
}
FLAGS = [
    "--flagfile=flags/digits_resnet20.flags",
    "--learning_rate_drops=",
    "--interval=1",
    "--threshold=0.15",
]

# The peak that wait4 and getrusage tell of begins with what the parent had when it forked; that of
# /proc is the process's own.
_TELL = """
import atexit, pathlib, re, sys
def tell():
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(sys.argv[1]).write_text(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])
atexit.register(tell)
"""


def peak(code):
    """Bytes of a process of Python at its peak, on Linux.

    Args:
        code: what the process does.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = pathlib.Path(folder, "peak")
        command = [sys.executable, "-c", _TELL + code, str(told)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"'{code}' failed with status {done.returncode}:\n{done.stderr}")
        return 1024 * int(told.read_text())


def training(method, epochs):
    """Bytes of a run of the digits at its peak."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [*FLAGS, f"--epochs={epochs}", f"--method={method}", f"--output_dir={folder}/run"]
        size = peak(f"from ptkeras import train; sys.exit(train.main({flags!r}))")
        if method == "prunetrain":
            told = json.loads(pathlib.Path(folder, "run", "architecture.json").read_text())
            check_retraced(told["reconfigurations"], epochs)
        return size


def check_retraced(reconfigurations, epochs):
    """Refuses a run that did not trace again and again: its peak tells nothing of PruneTrain's."""
    trained_on = [one["epoch"] for one in reconfigurations if one["epoch"] < epochs]
    if len(trained_on) < 2:
        sys.exit(
            f"PruneTrain reconfigured {len(trained_on)} times ahead of the last of {epochs} "
            "epochs, and twice is the least to measure; give it more by --epochs."
        )


def measure(jobs, rounds):
    """By name, the bytes of each round."""
    return {name: [job() for _ in range(rounds)] for name, job in jobs.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=measuring.count, default=15)
    parser.add_argument("--rounds", type=measuring.count, default=3)
    parser.add_argument("--b7_rounds", type=measuring.count, default=3)
    options = parser.parse_args(arguments)
    runs = {
        f"train {method}": functools.partial(training, method, options.epochs)
        for method in ("dense", "prunetrain")
    }
    networks = {f"EfficientNetB7, {what}": functools.partial(peak, _B7[what]) for what in _B7}
    found = measure(runs, options.rounds) | measure(networks, options.b7_rounds)
    pairs = [
        (
            "peak memory of a run with PruneTrain over a dense one",
            "train prunetrain",
            "train dense",
        ),
        *(
            (
                f"… of building and {verb} EfficientNetB7 over building it",
                f"EfficientNetB7, {what}",
                "EfficientNetB7, build",
            )
            for what, verb in (("trace", "tracing"), ("prune", "pruning"))
        ),
    ]
    ratios = [measuring.ratio(what, found[a], found[b]) for what, a, b in pairs]
    for name, sizes in found.items():
        print(f"{name}: {statistics.median(sizes) / 2**20:,.0f} MiB")
    for line in ratios:
        measuring.say(line)
    peaks = {name: statistics.median(sizes) for name, sizes in found.items()}
    packages = ("keras", "tensorflow")
    measuring.write("memory", vars(options), packages, ratios=ratios, peak_bytes=peaks)


if __name__ == "__main__":
    main()
