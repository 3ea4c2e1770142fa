"""Exports of pruned networks, each compared with Keras in its own runtime.

    python -m benchmarks.export_applications [--again] [NETWORK ...]

All 40 networks of `keras.applications`, at the smallest images that they accept, and the networks
of the paper for digits and CIFAR lose half of the channels that may go. All of them are exported to
ONNX, and thirteen across the families to SavedModel and LiteRT too; each export is run at batch 1
and 3, and its answers compared with Keras's: the largest difference over the largest output.

The weights are random. So are all the scales, shifts and statistics, which would otherwise hide
from the comparison what stands before a batch normalisation or a layer scale, and the networks end
in logits, since a softmax of next to equal ones would hide the rest.

Each network has a process of its own, and the results so far are in
benchmarks/results/export_applications.json: the same command goes on where it was stopped, and
--again starts anew.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import measuring

FORMATS = ("onnx", "saved_model", "litert")
SUFFIXES = {"onnx": ".onnx", "saved_model": "", "litert": ".tflite"}

OWN = {  # network and shape of the images
    "digits_resnet20": ("resnet20", (8, 8, 1)),
    "digits_vgg8": ("vgg8", (8, 8, 1)),
    "cifar_resnet32": ("resnet32", (32, 32, 3)),
    "cifar_resnet56": ("resnet56", (32, 32, 3)),
    "cifar_vgg13": ("vgg13", (32, 32, 3)),
}
IN_ALL_FORMATS = (
    *OWN,
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "InceptionV3",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50V2",
    "Xception",
)


def names():
    import keras

    return [*OWN, *sorted(name for name in dir(keras.applications) if name[0].isupper())]


def network(name):
    import keras

    from benchmarks.applications import SMALLEST
    from ptkeras.models import build

    keras.utils.set_random_seed(0)
    if name in OWN:
        return build(*OWN[name], 10)
    size = SMALLEST.get(name, 32)
    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=(size, size, 3), classifier_activation=None)


def shake(model):
    """Gives every vector of weights random numbers, around what it would have in training."""
    import numpy as np

    random = np.random.default_rng(0)
    for variable in model.variables:
        if len(variable.shape) == 1 and "float" in variable.dtype:
            if variable.name in ("gamma", "moving_variance", "variance"):
                values = random.uniform(0.8, 1.2, variable.shape)
            else:
                values = random.normal(0, 0.1, variable.shape)
            variable.assign(values)


def measure(name):
    """Prunes one network and exports it; the figures by format."""
    import numpy as np

    import ptkeras
    from benchmarks.applications import half
    from ptkeras import export

    model = network(name)
    shake(model)
    dense = model.count_params()
    ptkeras.reconfigure(model, half(ptkeras.channels.trace(model)))
    images = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype("float32")
    row = {"network": name, "params": [dense, model.count_params()]}
    row["largest_output"] = float(np.abs(model(images, training=False)).max())
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS if name in IN_ALL_FORMATS else FORMATS[:1]:
            path = pathlib.Path(folder, name + SUFFIXES[kind])
            started = time.perf_counter()
            artifact = getattr(export, f"to_{kind}")(model, path)
            report = artifact.verification
            row[kind] = {
                "max_relative": report.max_relative,
                "top_class": report.top_class,
                "batch_sizes": report.batch_sizes,
                "bytes": artifact.size,
                "seconds": round(time.perf_counter() - started, 1),
            }
    return row


def measure_apart(name):
    """`measure` in a process of its own; an error as one line."""
    command = [sys.executable, "-m", "benchmarks.export_applications", "--here", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"network": name, "error": lines[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def show(row):
    if "error" in row:
        print(f"{row['network']:20} {row['error']}", flush=True)
        return
    reports = [f"{kind} {row[kind]['max_relative']:.1e}" for kind in FORMATS if kind in row]
    dense, now = row["params"]
    print(f"{row['network']:20} parameters {dense:,} → {now:,}; {', '.join(reports)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.networks[0])))
        return
    result = measuring.RESULTS / "export_applications.json"
    earlier = json.loads(result.read_text(encoding="utf-8"))["networks"] if result.exists() else []
    wanted = options.networks or names()
    rows = {row["network"]: row for row in earlier if "error" not in row}
    if options.again:
        rows = {name: row for name, row in rows.items() if name not in wanted}
    for name in wanted:
        if name not in rows:
            rows[name] = measure_apart(name)
            packages = ("keras", "tensorflow", "onnxruntime")
            measuring.write("export_applications", {}, packages, networks=list(rows.values()))
        show(rows[name])
    failed = [row for row in rows.values() if "error" in row]
    worst = max(row["onnx"]["max_relative"] for row in rows.values() if "onnx" in row)
    print(f"{len(rows)} networks, {len(failed)} failed; the largest difference in ONNX {worst:.1e}")


if __name__ == "__main__":
    main()
