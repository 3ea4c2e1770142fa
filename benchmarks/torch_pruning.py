"""Seconds to prune half of the channels: ptkeras on Keras's networks, Torch-Pruning on their twins.

    pip install torch==2.13.0 torchvision==0.28.0 torch-pruning==1.6.1
    python -m benchmarks.torch_pruning [--repeats=3] [NETWORK ...]

Both get a network with random weights and images of 224x224, and take the half of each layer's
channels that has the smallest L2 norm: from the call to the smaller network, the tracing of the
graph and the choice of the channels included. They take turns in one process, after one network
each that is not counted; a time is the best of the repeats. The table is printed, and written to
benchmarks/results/torch_pruning.json.
"""

import argparse
import copy
import datetime
import gc
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable

import keras
import rich.console
import rich.table
import torch
import torch_pruning
import torchvision

import ptkeras
from ptkeras.models import build

RESULT = pathlib.Path(__file__).parent / "results" / "torch_pruning.json"
SIZE = 224

# The name in torchvision of each network's twin.
TWINS = {
    "ResNet50": "resnet50",
    "vgg16": "vgg16_bn",  # Keras's own VGG-16 has no batch normalisation
    "DenseNet121": "densenet121",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3_small",
    "EfficientNetB0": "efficientnet_b0",
    "ConvNeXtTiny": "convnext_tiny",
    "InceptionV3": "inception_v3",
    "EfficientNetB7": "efficientnet_b7",
}


def prune_ours(model: keras.Model) -> int:
    """Takes half of a Keras model's channels; returns the number of parameters left."""
    # Layer normalisation is pruned through, as Torch-Pruning does it.
    ptkeras.prune(model, 0.5, criterion="l2", scope="layer", exact=False)
    return model.count_params()


def prune_theirs(model: torch.nn.Module) -> int:
    """Takes half of a PyTorch model's channels; returns the number of parameters left."""
    heads = [m for m in model.modules() if getattr(m, "out_features", None) == 1000]
    torch_pruning.pruner.BasePruner(
        model,
        torch.zeros(1, 3, SIZE, SIZE),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=heads,
    ).step()
    return sum(p.numel() for p in model.parameters())


def timed(prune: Callable, model: object) -> tuple[float, int]:
    gc.collect()
    started = time.perf_counter()
    left = prune(model)
    return time.perf_counter() - started, left


def measure(name: str, repeats: int) -> dict:
    extra = {"aux_logits": False} if name == "InceptionV3" else {}
    twin = torchvision.models.get_model(TWINS[name], weights=None, **extra).eval()
    ours, theirs = [], []
    for turn in range(repeats):
        keras.utils.clear_session()
        model = build(name, (SIZE, SIZE, 3), 1000)
        dense = model.count_params()
        jobs = [(ours, prune_ours, model), (theirs, prune_theirs, copy.deepcopy(twin))]
        for times, prune, victim in jobs if turn % 2 else reversed(jobs):
            times.append(timed(prune, victim))
    return {
        "network": name,
        "seconds": round(min(ours)[0], 3),
        "torch_pruning_seconds": round(min(theirs)[0], 3),
        "params": dense,
        "params_left": ours[0][1],
        "torch_pruning_params_left": theirs[0][1],
    }


def show(rows: list[dict]) -> None:
    table = rich.table.Table("network", "ptkeras s", "Torch-Pruning s", "ratio")
    table.add_column("parameters left")
    table.add_column("theirs")
    keys = ("seconds", "torch_pruning_seconds")
    for row in (*rows, {"network": "sum", **{key: sum(r[key] for r in rows) for key in keys}}):
        ours, theirs = (row[key] for key in keys)
        left = [f"{row[k]:,}" for k in ("params_left", "torch_pruning_params_left") if k in row]
        table.add_row(row["network"], f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}", *left)
    rich.console.Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(TWINS), metavar="NETWORK")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    measure("MobileNetV3Small", 1)
    rows = []
    for name in options.networks:
        rows.append(measure(name, options.repeats))
        print(rows[-1], flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "versions": {
            "keras": f"{keras.version()} on {keras.backend.backend()}",
            "torch": torch.__version__,
            "torch_pruning": importlib.metadata.version("torch-pruning"),
        },
        "repeats": options.repeats,
        "networks": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
