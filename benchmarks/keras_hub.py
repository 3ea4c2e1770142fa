"""Tracing, pruning, training and saving all backbones of keras_hub, in small configurations.

    python -m benchmarks.keras_hub [--seed=0] [BACKBONE ...]

For each model of `benchmarks.hub_backbones`: the share of its channels that may be removed, with
`exact=True` and with `exact=False`; the difference between the outputs with half of them zeroed and
with the same half removed (relative to the largest output; up to 1e-4 is rounding); whether a step
of training has a finite loss after that; and the difference between the outputs of the pruned
model and those of `ptkeras.as_functional(model)`, saved and loaded by a process that can import
neither ptkeras nor keras_hub. A step that raises is recorded with its traceback, and the next model
follows. The table is printed, and written to benchmarks/results/keras_hub.json.
"""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

import ptkeras
from benchmarks import hub_backbones, measuring
from ptkeras.channels import ChannelMap, trace

ROUNDING = 1e-4
# Loads every saved model of a folder where neither package can be imported.
LOADER = """
import json, pathlib, sys, traceback
sys.modules["ptkeras"] = sys.modules["keras_hub"] = None
import keras
import numpy as np
report = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    try:
        model = keras.saving.load_model(path, compile=False)
        with np.load(path.with_suffix(".npz")) as arrays:
            flat = [arrays[f"input{i}"] for i in range(len(model.inputs))]
            inputs = keras.tree.pack_sequence_as(model._inputs_struct, flat)
            outputs = keras.tree.flatten(model(inputs, training=False))
            report[path.stem] = max(
                float(np.abs(np.asarray(output, "float64") - arrays[f"output{i}"]).max())
                / max(float(np.abs(arrays[f"output{i}"]).max()), 1e-12)
                for i, output in enumerate(outputs)
            )
    except Exception:
        report[path.stem] = traceback.format_exc()
print(json.dumps(report))
"""


def build(name: str, seed: int) -> keras.Model:
    """Builds a model whose biases, positions and scales are no longer all zero or all one."""
    keras.utils.set_random_seed(seed)
    model = hub_backbones.CATALOGUE[name]()
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        noise = random.normal(scale=0.1, size=variable.shape)
        variable.assign(variable + noise.astype(variable.dtype))
    return model


def outputs_of(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(x), "float64") for x in outputs]


def difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The largest difference between two lists of arrays, relative to the largest number there."""
    return max(
        float(np.abs(a - b).max()) / max(float(np.abs(a).max()), 1e-12)
        for a, b in zip(before, after, strict=True)
    )


def half(channel_map: ChannelMap, seed: int) -> np.ndarray:
    """A mask without half of what is prunable that leaves each axis of a variable one channel."""
    random = np.random.default_rng(seed)
    keep = ~channel_map.prunable | (random.random(len(channel_map)) >= 0.5)
    for row in channel_map.slices:
        if not keep[row.channels].any():
            keep[row.channels.max()] = True
    return keep


def zero(channel_map: ChannelMap, keep: np.ndarray) -> None:
    """Sets all parameters of the channels that are not kept to zero."""
    for row in channel_map.slices:
        shape = [1] * len(row.variable.shape)
        shape[row.axis] = -1
        kept = keep[row.channels].reshape(shape)
        row.variable.assign(keras.ops.convert_to_numpy(row.variable) * kept)


def train(model: keras.Model, inputs: Any, seed: int) -> float:
    """Trains on one batch; returns the loss."""
    random = np.random.default_rng(seed)
    targets = keras.tree.map_structure(
        lambda x: random.normal(size=x.shape).astype("float32"), model(inputs, training=False)
    )
    model.compile("sgd", "mse")
    # Not by `fit`: outputs of detectors and of images in a batch have first axes of their own.
    return float(np.ravel(model.train_on_batch(inputs, targets))[0])


def save(model: keras.Model, inputs: Any, path: pathlib.Path) -> None:
    """Saves a model as a Functional one, and its inputs and outputs beside it."""
    shapes = [x.shape[1:] for x in keras.tree.flatten(inputs)]
    ptkeras.as_functional(model, input_shape=shapes).save(path)
    arrays = {f"input{i}": x for i, x in enumerate(keras.tree.flatten(inputs))}
    arrays |= {f"output{i}": x for i, x in enumerate(outputs_of(model, inputs))}
    np.savez(path.with_suffix(".npz"), **arrays)


def load(folder: str) -> dict[str, Any]:
    """By the name of the file, how far a loaded model's outputs are off, or its traceback."""
    command = [sys.executable, "-c", LOADER, folder]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise RuntimeError(f"The process that loads the models failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def step(row: dict, name: str) -> Iterator[None]:
    """Records how long a step takes and, if it raises, its traceback."""
    started = time.perf_counter()
    try:
        yield
    except Exception:
        row["failures"][name] = traceback.format_exc()
    row[f"{name}_s"] = round(time.perf_counter() - started, 3)


def measure(name: str, seed: int, path: pathlib.Path) -> dict:
    """One line of the table."""
    row: dict[str, Any] = {"backbone": name, "failures": {}}
    with step(row, "build"):
        model = build(name, seed)
        inputs = hub_backbones.batch(name, model, seed)
        outputs_of(model, inputs)
        row["params"] = model.count_params()
    if row["failures"]:
        return row
    with step(row, "loose"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same as those of the trace below
        row["loose"] = round(float(trace(model, exact=False).prunable.mean()), 4)
    with step(row, "trace"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        channel_map = trace(model, exact=True)
        row["warnings"] = [str(warning.message) for warning in caught]
        row["channels"] = len(channel_map)
        row["prunable"] = round(float(channel_map.prunable.mean()), 4)
    if "trace" in row["failures"]:
        return row
    with step(row, "prune"):
        prune(row, model, inputs, channel_map, half(channel_map, seed))
    if "prune" in row["failures"]:
        return row
    with step(row, "train"):
        row["loss"] = train(model, inputs, seed)
    with step(row, "save"):
        save(model, inputs, path)
    return row


def prune(
    row: dict, model: keras.Model, inputs: Any, channel_map: ChannelMap, keep: np.ndarray
) -> None:
    """Zeroes channels, removes them, and compares the outputs."""
    zero(channel_map, keep)
    zeroed = outputs_of(model, inputs)
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    row["difference"] = difference(zeroed, outputs_of(model, inputs))
    row["params_left"] = model.count_params()


def verdict(row: dict) -> str:
    """What is wrong with a model, in a few words, or "ok"."""
    if row["failures"]:
        name, text = next(iter(row["failures"].items()))
        return f"{name}: {text.strip().splitlines()[-1][:90]}"
    if not row["difference"] <= ROUNDING:
        return "removed is not zeroed"
    if not np.isfinite(row["loss"]):
        return "loss is not finite"
    if not row.get("loaded", 0) <= ROUNDING:
        return "loaded is not saved"
    return "ok"


def show(row: dict) -> None:
    """Prints one line of the table."""
    share = [f"{row[key]:10.1%}" if key in row else f"{'':10}" for key in ("prunable", "loose")]
    off = [f"{row[key]:12.1e}" if key in row else f"{'':12}" for key in ("difference", "loaded")]
    print(f"{row['backbone']:32}{''.join(share)}{''.join(off)}  {verdict(row)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    catalogue = list(hub_backbones.CATALOGUE)
    parser.add_argument("backbones", nargs="*", default=catalogue, metavar="BACKBONE")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.backbones) - set(catalogue))
    if unknown:
        parser.error(f"{', '.join(unknown)}: not in the catalogue, benchmarks/hub_backbones.py")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(options.backbones):
            rows.append(measure(name, options.seed, pathlib.Path(folder) / f"{i}.keras"))
            print(f"{name}: {verdict(rows[-1])}", flush=True)
            keras.utils.clear_session()
        for stem, loaded in load(folder).items():
            row = rows[int(stem)]
            if isinstance(loaded, str):
                row["failures"]["load"] = loaded
            else:
                row["loaded"] = loaded
    print(f"\n{'backbone':32}{'prunable':>10}{'loose':>10}{'removed':>12}{'loaded':>12}")
    for row in rows:
        show(row)
    print(f"{sum(verdict(row) == 'ok' for row in rows)} of {len(rows)} are ok.")
    packages = ("keras", "keras_hub", keras.config.backend())
    measuring.write("keras_hub", vars(options), packages, backbones=rows)


if __name__ == "__main__":
    main()
