"""Pruned networks beside their dense originals under onnxruntime, and what int8 does to answers.

    python -m benchmarks.export_speed [--rounds=40]
    python -m benchmarks.export_speed --show

Pairs of networks as float32 ONNX:

- ResNet-20 on the digits, trained from flags/digits_resnet20.flags with `--method=dense`, with
  PruneTrain, and with PruneTrain and `--channel_multiple=8` (in benchmarks/runs/, where finished
  runs are taken as they are; some 6 minutes otherwise);
- ResNet-32 and VGG-13 for CIFAR, whole and without half of their FLOPs (`ptkeras.prune`, L1), with
  any number of channels and with multiples of 16, which onnxruntime's convolutions compute in
  blocks of. Their weights are random: how long a network takes does not depend on them.

All of them run with one thread and two, at batch 1 and 32, in one `ptkeras.export.benchmark`:
each in a process of its own, in rounds that take turns. The speed-up is the ratio of the medians;
its ratio to that of the FLOPs says how much of what was removed is also saved.

Then the trained digits network is quantised to int8, calibrated on its training images, and its
accuracy on the test images compared with that of float32.

All of it is written to benchmarks/results/export_speed.json, and printed as the README's tables;
--show prints what is there already.
"""

import argparse
import json
import pathlib
import tempfile

from benchmarks import measuring
from benchmarks.tables import export_speed

FLAGFILE = "flags/digits_resnet20.flags"
BATCH_SIZES = (1, 32)
THREADS = (1, 2)
CIFAR = {"ResNet-32, CIFAR": "resnet32", "VGG-13, CIFAR": "vgg13"}
DIGITS = "ResNet-20, digits"


def digits_run(name, *flags):
    """The folder of a run, trained if need be."""
    folder = measuring.RUNS / "export_speed" / f"digits_resnet20_{name}_seed0"
    measuring.train([f"--flagfile={FLAGFILE}", *flags], folder)
    return folder


def prunetrain_run():
    return digits_run("prunetrain")


def pairs(folder):
    """For each pair its name, and for "dense" and "pruned" the ONNX file and the FLOPs."""
    import keras

    import ptkeras
    from ptkeras import export
    from ptkeras.models import build

    def written(model, name):
        path = str(export.to_onnx(model, folder / f"{name}.onnx"))
        return path, ptkeras.cost.inference_flops(model)

    def of_run(run):
        return written(export.load_model(run / "model.keras"), run.name)

    def pruned(name, multiple):
        keras.utils.set_random_seed(0)
        model = build(name, (32, 32, 3), 10)
        ptkeras.prune(model, 0.5, of="flops", criterion="l1", channel_multiple=multiple)
        return written(model, f"{name}_{multiple}")

    dense = of_run(digits_run("dense", "--method=dense"))
    in_blocks = of_run(digits_run("multiple8", "--channel_multiple=8"))
    found = {
        DIGITS: {"dense": dense, "pruned": of_run(prunetrain_run())},
        f"{DIGITS}, multiples of 8": {"dense": dense, "pruned": in_blocks},
    }
    for title, name in CIFAR.items():
        dense = written(build(name, (32, 32, 3), 10), f"{name}_dense")
        found[title] = {"dense": dense, "pruned": pruned(name, 1)}
        found[f"{title}, multiples of 16"] = {"dense": dense, "pruned": pruned(name, 16)}
    return found


def measure_speed(rounds):
    from ptkeras import export

    with tempfile.TemporaryDirectory() as folder:
        found = pairs(pathlib.Path(folder))
        paths = [path for pair in found.values() for path, _ in pair.values()]
        timings = export.benchmark(paths, batch_sizes=BATCH_SIZES, threads=THREADS, rounds=rounds)
    by_key = {(one.path, one.threads, one.batch_size): one for one in timings}
    rows = []
    for title, pair in found.items():
        flops = {kind: pair[kind][1] for kind in pair}
        for threads in THREADS:
            for size in BATCH_SIZES:
                dense, pruned = (by_key[pair[k][0], threads, size] for k in ("dense", "pruned"))
                speed_up = dense.latency / pruned.latency
                rows.append(
                    {
                        "network": title,
                        "threads": threads,
                        "batch_size": size,
                        "dense_ms": round(1e3 * dense.latency, 4),
                        "dense_quartiles_ms": [round(1e3 * x, 4) for x in dense.quartiles],
                        "pruned_ms": round(1e3 * pruned.latency, 4),
                        "pruned_quartiles_ms": [round(1e3 * x, 4) for x in pruned.quartiles],
                        "flops": [flops["dense"], flops["pruned"]],
                        "speed_up": round(speed_up, 3),
                        "ratio": round(speed_up * flops["pruned"] / flops["dense"], 3),
                        "bytes": [dense.size, pruned.size],
                        "peak_memory": [dense.memory, pruned.memory],
                    }
                )
    return rows, timings[0].runtime


def measure_int8():
    import numpy as np

    from ptkeras import data, export
    from ptkeras.export import runtimes

    model = export.load_model(prunetrain_run() / "model.keras")
    dataset = data.load("digits", batch_size=360, augment=False)
    images, labels = next(dataset.test.as_numpy_iterator())
    calibration = np.concatenate([batch for batch, _ in dataset.train.as_numpy_iterator()])
    result = {"calibration_images": len(calibration), "test_images": len(labels)}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "int8"):
            artifact = export.to_onnx(
                model,
                pathlib.Path(folder, f"{precision}.onnx"),
                precision=precision,
                calibration=calibration if precision == "int8" else None,
            )
            run = runtimes.load(artifact)
            [logits] = run({next(iter(run.inputs)): images}).values()
            result[precision] = {
                "accuracy": float((logits.argmax(-1) == labels).mean()),
                "bytes": artifact.size,
            }
    difference = result["int8"]["accuracy"] - result["float32"]["accuracy"]
    return result | {"points": round(100 * difference, 2)}


def show(result):
    """Prints the README's table, and what int8 costs."""
    print(export_speed(result))
    int8 = result["int8"]
    print(
        f"int8 of the pruned digits network: {int8['int8']['accuracy']:.2%} of "
        f"{int8['test_images']} test images, float32 {int8['float32']['accuracy']:.2%} "
        f"({int8['points']:+.2f} points)."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=measuring.count, default=40)
    parser.add_argument("--show", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    if not options.show:
        rows, runtime = measure_speed(options.rounds)
        measuring.write(
            "export_speed",
            {"rounds": options.rounds},
            ("keras", "tensorflow", "onnxruntime"),
            runtime=runtime,
            speed=rows,
            int8=measure_int8(),
        )
    show(json.loads((measuring.RESULTS / "export_speed.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
