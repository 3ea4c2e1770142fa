"""Kills a run at random moments, starts it again, and compares it with one that was left alone.

    python -m benchmarks.kills [--kills=20] [--seed=0] [--epochs=6] [--result=FILE]

The run is that of flags/digits_resnet20.flags, shortened. A quarter of the kills (signal 9) comes
at any moment behind the first step, a quarter right behind the last step of an epoch that ends with
a reconfiguration, a quarter while a checkpoint is being written, and a quarter before there is any.
Each run is then started again with the same command, and its network, history and figures are to be
those of the run that was not killed, to the last bit; seconds aside. What happened is printed, and
written to benchmarks/results/kills.json. tests/survival/test_kills.py has a short version.

Of each kill the table says where it landed: the last epoch that had begun, the last that had ended
with a reconfiguration as far as was printed, the last in a checkpoint (0: none), and whether half a
checkpoint was left.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

import h5py
import numpy as np

from benchmarks import measuring

ROOT = pathlib.Path(__file__).parents[1]
MOMENTS = ("any", "reconfiguration", "checkpoint", "start")
INTERVAL = 2
EPOCH = re.compile(r"Epoch (\d+)/")
RECONFIGURED = re.compile(r"PruneTrain, epoch (\d+): channels")


def command(folder, epochs):
    return [
        *(sys.executable, "-u", "-m", "ptkeras.train", "--flagfile=flags/digits_resnet20.flags"),
        *(f"--epochs={epochs}", f"--interval={INTERVAL}", "--learning_rate_drops="),
        *("--threshold=0.05", f"--output_dir={folder}"),
    ]


def finish(folder, epochs):
    """Runs to the end."""
    done = subprocess.run(
        command(folder, epochs), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"The run in {folder} failed:\n{done.stderr[-2000:]}")


class Run:
    """A run under way.

    Attributes:
        lines: what it has printed so far.
    """

    def __init__(self, folder, epochs):
        self.folder = folder
        self.lines = []
        self.process = subprocess.Popen(
            command(folder, epochs),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self._reader.start()

    def wait_for(self, happened):
        """Waits until something has happened, or the run has ended."""
        while not happened() and self.process.poll() is None:
            time.sleep(0.0005)

    def last_step(self, epoch):
        """Waits until the last step of an epoch is done: the line behind the one that begins it."""
        self.wait_for(lambda: any(line.startswith(f"Epoch {epoch}/") for line in self.lines[:-1]))

    def kill(self):
        """Kills it; returns whether it was still at work."""
        alive = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.returncode > 0:
            status = self.process.returncode
            raise RuntimeError(f"The run in {self.folder} ended by itself, with status {status}.")
        return alive

    def printed(self, pattern):
        """The last number that a pattern finds in the lines, 0 if there is none."""
        return max(
            (int(found[1]) for line in self.lines if (found := pattern.match(line))), default=0
        )


def seconds_to_start(folder, epochs):
    """How long a run takes from its first file to its first checkpoint."""
    run = Run(folder, epochs)
    run.wait_for((folder / "flags.txt").exists)
    begun = time.monotonic()
    run.wait_for((folder / "checkpoints" / "last.keras").exists)
    seconds = time.monotonic() - begun
    run.kill()
    shutil.rmtree(folder)
    return seconds


def kill(folder, epochs, moment, chance, seconds):
    """Starts a run and kills it; returns where that landed, None if it had to be tried again."""
    run = Run(folder, epochs)
    if moment == "start":
        run.wait_for((folder / "flags.txt").exists)
        time.sleep(chance.uniform(0, seconds[moment]))
    elif moment == "any":
        run.last_step(1)
        time.sleep(chance.uniform(0, seconds[moment]))
    elif moment == "reconfiguration":
        run.last_step(INTERVAL * chance.randint(1, epochs // INTERVAL))
        time.sleep(chance.uniform(0, 0.5))
    else:
        run.last_step(chance.randint(1, epochs))
        run.wait_for((folder / "checkpoints" / ".new_last.keras").exists)
        time.sleep(chance.uniform(0, 0.05))
    if not run.kill():
        return None  # it had come to its end before
    landed = {
        "epoch": run.printed(EPOCH),
        "reconfigured": run.printed(RECONFIGURED),
        "checkpoint": epoch_of(folder / "checkpoints"),
        "half_a_checkpoint": (folder / "checkpoints" / ".new_last.keras").exists(),
    }
    if moment == "start" and landed["checkpoint"]:
        return None
    return landed


def epoch_of(checkpoints):
    """The epoch that a run goes on from, 0 if it begins anew."""
    for path in (checkpoints / "last.keras", checkpoints / "last.previous.keras"):
        if path.exists():
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("state.json"))["epoch"]
    return 0


def contents(folder):
    """All that two runs have to have in common."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        with archive.open("model.weights.h5") as file, h5py.File(file) as weights:
            found = {}
            weights.visititems(
                lambda name, one: found.update({name: one[()]}) if hasattr(one, "shape") else None
            )
        found["config"] = json.loads(archive.read("config.json"), object_hook=without_addresses)
    with (folder / "history.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    result = json.loads((folder / "result.json").read_text())
    del result["seconds"]
    return found | {"history": rows, "result": result}


def without_addresses(part):
    """A part of a config without the addresses that Keras tells objects in a process apart by."""
    return {name: value for name, value in part.items() if name != "shared_object_id"}


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[k], other[k]) if isinstance(one[k], np.ndarray) else one[k] == other[k]
        for k in one
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=measuring.count, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=measuring.count, default=6)
    parser.add_argument("--result", type=pathlib.Path, help="left out, results/kills.json")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chance = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        whole = pathlib.Path(directory) / "whole"
        finish(whole, options.epochs)
        wanted = contents(whole)
        seconds = {
            "any": json.loads((whole / "result.json").read_text())["seconds"],
            "start": seconds_to_start(pathlib.Path(directory) / "start", options.epochs),
        }
        for number in range(options.kills):
            folder = pathlib.Path(directory) / f"killed_{number}"
            moment = MOMENTS[number % len(MOMENTS)]
            while (landed := kill(folder, options.epochs, moment, chance, seconds)) is None:
                shutil.rmtree(folder)
            finish(folder, options.epochs)
            row = {"moment": moment, **landed, "identical": same(contents(folder), wanted)}
            rows.append(row)
            print(f"{number + 1:3}", row, flush=True)
            shutil.rmtree(folder)
    identical = sum(row["identical"] for row in rows)
    settings = {name: getattr(options, name) for name in ("kills", "seed", "epochs")}
    packages = ("keras", "tensorflow")
    measuring.write("kills", settings, packages, options.result, identical=identical, kills=rows)
    print(f"{identical} of {len(rows)} resumed runs are bit-identical to the one left alone")
    sys.exit(identical != len(rows))


if __name__ == "__main__":
    main()
