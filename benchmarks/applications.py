"""Tracing and pruning all networks of `keras.applications`.

    python -m benchmarks.applications [--repeats=3] [NETWORK ...]

For each network, at the smallest images that it accepts: its channels, the share of those inside
it (in neither its inputs nor its outputs) that may go, the time to trace it, and the time to take
half of them: the whole of `ptkeras.reconfigure`, tracing included, each time of a network that was
built anew. Times are medians of the repeats, with their quartiles, after one network that is not
counted. The table is printed, and written to benchmarks/results/applications.json.
"""

import argparse
import gc
import statistics
from collections.abc import Sequence

import keras
import numpy as np

from benchmarks import measuring
from ptkeras import reconfigure
from ptkeras.channels import ChannelMap, trace

NAMES = sorted(name for name in dir(keras.applications) if name[0].isupper())
SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # all others: 32


def build(name: str) -> keras.Model:
    size = SMALLEST.get(name, 32)
    network = getattr(keras.applications, name)
    return network(weights=None, input_shape=(size, size, 3))


def prunable_share(channel_map: ChannelMap) -> float:
    inner = np.ones(len(channel_map), bool)
    for tensor in (*channel_map.model.inputs, *channel_map.model.outputs):
        inner[channel_map.tensors[id(tensor)]] = False
    return float((~channel_map.frozen & inner).sum() / inner.sum())


def half(channel_map: ChannelMap) -> np.ndarray:
    """A mask without half of what is prunable that takes no tensor's last channel."""
    random = np.random.default_rng(0)
    keep = channel_map.frozen | (random.random(len(channel_map)) >= 0.5)
    for channels in channel_map.tensors.values():
        if not keep[channels].any():
            keep[channels.max()] = True
    return keep


def measure(name: str, repeats: int) -> dict:
    model = build(name)
    channel_map = trace(model)
    keep = half(channel_map)
    victims = []

    def anew() -> keras.Model:
        victims.clear()
        gc.collect()
        victims.append(build(name))
        return victims[0]

    jobs = {"trace": trace, "prune": lambda victim: reconfigure(victim, keep)}
    times = measuring.turns(jobs, repeats, {"trace": lambda: model, "prune": anew})
    return {
        "network": name,
        "channels": len(channel_map),
        "prunable": round(prunable_share(channel_map), 4),
        "loose": round(prunable_share(trace(model, exact=False)), 4),
        "params": model.count_params(),
        "params_left": victims[0].count_params(),
        **seconds("trace", times["trace"].wall),
        **seconds("prune", times["prune"].wall),
    }


def seconds(what: str, wall: Sequence[float]) -> dict:
    """The median and the quartiles of some times."""
    return {
        f"{what}_s": round(statistics.median(wall), 4),
        f"{what}_quartiles_s": [round(quartile, 4) for quartile in measuring.quartiles(wall)],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NAMES, metavar="NETWORK")
    parser.add_argument("--repeats", type=measuring.count, default=3)
    options = parser.parse_args(arguments)
    measure("MobileNet", 1)
    rows = []
    print(
        f"{'network':20}{'channels':>10}{'prunable':>10}{'trace s':>10}{'prune s':>10}  quartiles"
    )
    for name in options.networks:
        row = measure(name, options.repeats)
        rows.append(row)
        low, high = row["prune_quartiles_s"]
        print(
            f"{name:20}{row['channels']:10,}{row['prunable']:10.1%}"
            f"{row['trace_s']:10.3f}{row['prune_s']:10.2f}  {low:.2f} to {high:.2f}",
            flush=True,
        )
        keras.utils.clear_session()
    packages = ("keras", keras.config.backend())
    measuring.write("applications", vars(options), packages, networks=rows)


if __name__ == "__main__":
    main()
