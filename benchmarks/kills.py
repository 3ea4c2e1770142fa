"""Kills a run at random moments, starts it again, and compares it with one that was left alone.

    python -m benchmarks.kills [--kills=20] [--seed=0] [--epochs=6] [--result=FILE]

The run is that of flags/digits_resnet20.flags, shortened. A third of the kills (signal 9) comes at
any moment, a third right behind the last step of an epoch that ends with a reconfiguration, and a
third while a checkpoint is being written. Each run is then started again with the same command, and
its network, history and figures are to be those of the run that was not killed, to the last bit;
seconds aside. What happened is printed, and written to benchmarks/results/kills.json.
tests/test_kills.py has a short version.
"""

import argparse
import csv
import datetime
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "kills.json"
MOMENTS = ("any", "reconfiguration", "checkpoint")
INTERVAL = 2


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


def last_step(lines, epoch):
    """Reads what a run prints until the last step of an epoch is done."""
    for line in lines:
        if line.startswith(f"Epoch {epoch}/"):
            next(lines, None)
            return


def leave_alone(lines):
    """Lets a run print what it likes."""
    threading.Thread(target=lambda: list(lines), daemon=True).start()


def kill(folder, epochs, moment, chance, seconds):
    """Starts a run and kills it; returns whether it was still at work."""
    run = subprocess.Popen(
        command(folder, epochs),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = iter(run.stdout.readline, "")
    if moment == "any":
        last_step(lines, 1)
        leave_alone(lines)
        time.sleep(chance.uniform(0, seconds))
    elif moment == "reconfiguration":
        last_step(lines, INTERVAL * chance.randint(1, epochs // INTERVAL))
        time.sleep(chance.uniform(0, 0.5))
    else:
        last_step(lines, chance.randint(1, epochs))
        leave_alone(lines)
        new = folder / "checkpoints" / ".new_last.keras"
        while not new.exists() and run.poll() is None:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.05))
    alive = run.poll() is None
    run.kill()
    run.wait()
    if run.returncode > 0:
        raise RuntimeError(f"The run in {folder} ended by itself, with status {run.returncode}.")
    return alive


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
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--result", type=pathlib.Path, default=RESULT)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chance = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        whole = pathlib.Path(directory) / "whole"
        finish(whole, options.epochs)
        wanted = contents(whole)
        seconds = json.loads((whole / "result.json").read_text())["seconds"]
        for number in range(options.kills):
            folder = pathlib.Path(directory) / f"killed_{number}"
            moment = MOMENTS[number % len(MOMENTS)]
            while not kill(folder, options.epochs, moment, chance, seconds):
                shutil.rmtree(folder)  # it had come to its end before: try again
            saved = (folder / "checkpoints" / "last.keras").exists()
            finish(folder, options.epochs)
            row = {
                "moment": moment,
                "had_a_checkpoint": saved,
                "identical": same(contents(folder), wanted),
            }
            rows.append(row)
            print(f"{number + 1:3}", row, flush=True)
            shutil.rmtree(folder)
    identical = sum(row["identical"] for row in rows)
    report = {
        "date": datetime.date.today().isoformat(),
        "settings": {name: getattr(options, name) for name in ("kills", "seed", "epochs")},
        "identical": identical,
        "kills": rows,
    }
    options.result.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{identical} of {len(rows)} resumed runs are bit-identical to the one left alone")
    sys.exit(identical != len(rows))


if __name__ == "__main__":
    main()
