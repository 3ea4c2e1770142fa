"""Seconds to prune half of the channels: ptkeras on Keras's networks, Torch-Pruning on their twins.

    pip install torch==2.13.0 torchvision==0.28.0 torch-pruning==1.6.1
    python -m benchmarks.torch_pruning [--repeats=3] [NETWORK ...]

Both get a network with random weights and images of 224x224, and take the half of each layer's
channels that has the smallest L2 norm: from the call to the smaller network, the tracing of the
graph and the choice of the channels included. They take turns in one process, after one network
each that is not counted; times and ratios are medians of the repeats, with the quartiles of the
ratios. The table is printed, and written to benchmarks/results/torch_pruning.json.
"""

import argparse
import copy
import gc
import statistics

import keras
import rich.console
import rich.table
import torch
import torch_pruning
import torchvision

import ptkeras
from benchmarks import measuring
from ptkeras.models import build

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


def measure(name: str, repeats: int) -> dict:
    """One row: seconds and parameters of both, and `ratio`, ours over theirs."""
    extra = {"aux_logits": False} if name == "InceptionV3" else {}
    twin = torchvision.models.get_model(TWINS[name], weights=None, **extra).eval()
    params = {}

    def ours() -> keras.Model:
        keras.utils.clear_session()
        model = build(name, (SIZE, SIZE, 3), 1000)
        params["params"] = model.count_params()
        gc.collect()
        return model

    def theirs() -> torch.nn.Module:
        model = copy.deepcopy(twin)
        gc.collect()
        return model

    jobs = {
        "ours": lambda model: params.update(params_left=prune_ours(model)),
        "theirs": lambda model: params.update(torch_pruning_params_left=prune_theirs(model)),
    }
    times = measuring.turns(jobs, repeats, {"ours": ours, "theirs": theirs})
    walls = times["ours"].wall, times["theirs"].wall
    seconds = [round(statistics.median(wall), 3) for wall in walls]
    return {
        "network": name,
        "seconds": seconds[0],
        "torch_pruning_seconds": seconds[1],
        **params,
        "ratio": measuring.ratio(f"pruning {name} over Torch-Pruning's {TWINS[name]}", *walls),
    }


def show(rows: list[dict]) -> None:
    table = rich.table.Table("network", "ptkeras s", "Torch-Pruning s", "ratio")
    table.add_column("parameters left")
    table.add_column("theirs")
    keys = ("seconds", "torch_pruning_seconds")
    for row in (*rows, {"network": "sum", **{key: sum(r[key] for r in rows) for key in keys}}):
        ours, theirs = (row[key] for key in keys)
        left = [f"{row[k]:,}" for k in ("params_left", "torch_pruning_params_left") if k in row]
        ratio = f"{ours / theirs:.2f}"
        if "ratio" in row:
            low, high = row["ratio"]["quartiles"]
            ratio = f"{row['ratio']['ratio']:.2f} ({low:.2f} to {high:.2f})"
        table.add_row(row["network"], f"{ours:.2f}", f"{theirs:.2f}", ratio, *left)
    rich.console.Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(TWINS), metavar="NETWORK")
    parser.add_argument("--repeats", type=measuring.count, default=3)
    options = parser.parse_args(arguments)
    measure("MobileNetV3Small", 1)
    rows = []
    for name in options.networks:
        rows.append(measure(name, options.repeats))
        print(rows[-1], flush=True)
    packages = ("keras", keras.config.backend(), "torch", "torchvision", "torch_pruning")
    measuring.write("torch_pruning", vars(options), packages, networks=rows)
    show(rows)


if __name__ == "__main__":
    main()
