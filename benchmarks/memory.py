"""Peak resident memory, each job in a process of its own.

    python -m benchmarks.memory [--epochs=15] [--rounds=3]

A run of the digits with PruneTrain beside a dense one; and tracing and pruning EfficientNetB7
beside building it alone. The figures are what Linux counts for a process, Python and the backend
included, as medians over the rounds. They are printed, and written to
benchmarks/results/memory.json.
"""

import argparse
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
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        status = subprocess.run(command, **quiet, check=False).returncode
        if status:
            raise RuntimeError(f"'{code}' failed with status {status}.")
        return 1024 * int(told.read_text())


def training(method, epochs):
    """Bytes of a run of the digits at its peak."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--flagfile=flags/digits_resnet20.flags", "--learning_rate_drops="]
        flags += [f"--epochs={epochs}", f"--method={method}", f"--output_dir={folder}/run"]
        return peak(f"from ptkeras import train; sys.exit(train.main({flags!r}))")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    jobs = {f"train {m}": (training, m, options.epochs) for m in ("dense", "prunetrain")}
    jobs |= {f"EfficientNetB7, {what}": (peak, code) for what, code in _B7.items()}
    found = {name: [] for name in jobs}
    for _ in range(options.rounds):
        for name, (job, *given) in jobs.items():
            found[name].append(job(*given))
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
