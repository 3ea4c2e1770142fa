"""Writes the README's tables from what the benchmarks have measured.

    python -m benchmarks.tables

What stands between `<!-- table NAME -->` and `<!-- end -->` in README.md is replaced by the table
made of benchmarks/results/NAME.json; a test fails where the two differ.
"""

import json
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """A text with each of its tables made anew from the results."""
    return _PLACE.sub(lambda m: m[1] + "\n" + TABLES[m[2]](_result(m[2])) + "\n" + m[3], text)


def main() -> None:
    """Writes README.md."""
    README.write_text(rendered(README.read_text()))


def _result(name: str) -> dict:
    """What a benchmark has written; nothing for the table that is made of many."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _applications(result: dict) -> str:
    rows = []
    for row in result["networks"]:
        share = f"{row['prunable']:.0%}"
        if row["loose"] > row["prunable"]:
            share += f" ({row['loose']:.0%})"
        times = (f"{row['trace_s']:.3f}", f"{row['prune_s']:.2f}")
        rows.append([row["network"], f"{row['channels']:,}", share, *times])
    return _table(["network", "channels", "prunable", "trace, s", "prune, s"], rows)


def _torch_pruning(result: dict) -> str:
    rows, sums = [], [0.0, 0.0]
    for row in result["networks"]:
        times = [row["seconds"], row["torch_pruning_seconds"]]
        sums = [a + b for a, b in zip(sums, times, strict=True)]
        rows.append([row["network"], *_compared(times)])
    return _table(
        ["network", "ptkeras, s", "Torch-Pruning, s", "ratio"], [*rows, ["sum", *_compared(sums)]]
    )


def _compared(times: list[float]) -> list[str]:
    return [*(f"{seconds:.2f}" for seconds in times), f"{times[0] / times[1]:.2f}"]


def export_speed(result: dict) -> str:
    """How many times faster each pruned network is, and in brackets the ratio of that to FLOPs."""
    titles, rows = [], {}
    for row in result["speed"]:
        plural = "s" * (row["threads"] > 1)
        title = f"{row['threads']} thread{plural}, batch {row['batch_size']}"
        titles += [title] * (title not in titles)
        dense, pruned = row["flops"]
        cells = rows.setdefault(row["network"], [row["network"], f"÷ {dense / pruned:.1f}"])
        cells.append(f"× {row['speed_up']:.1f} ({row['ratio']:.2f})")
    return _table(["network", "FLOPs", *titles], list(rows.values()))


def _methods(result: dict) -> str:
    """A row a method: the accuracy of each seed, means of the rest."""
    rows = []
    for name, title in METHODS.items():
        runs = [run for run in result["runs"] if run["method"] == name]
        if not runs:
            continue

        def mean(key: str, runs: list[dict] = runs) -> float:
            return statistics.mean(run[key] for run in runs)

        by_seed = ", ".join(f"{100 * run['accuracy']:.2f}" for run in runs)
        training, inference = mean("training_flops") / 1e12, mean("inference_flops") / 1e6
        figures = [f"{training:.2f} T", f"{inference:.2f} M", f"{mean('params') / 1e3:,.0f} k"]
        accuracy = f"{mean('accuracy'):.2%}" + (f" ({by_seed})" if len(runs) > 1 else "")
        rows.append([title, accuracy, *figures, f"{mean('seconds'):,.0f}"])
    heads = ["", "test accuracy", "training FLOPs", "inference FLOPs", "parameters", "seconds"]
    return _table(heads, rows)


def _overview(_: dict) -> str:
    """The ratios of all results that are there, in the order of `OVERVIEW`."""
    rows = []
    for name in OVERVIEW:
        path = ROOT / "benchmarks" / "results" / f"{name}.json"
        for line in json.loads(path.read_text())["ratios"] if path.exists() else []:
            low, high = line["quartiles"]
            spread = f"{low:.3f} to {high:.3f}"
            rows.append([line["what"], f"{line['ratio']:.3f}", spread, line["goal"], f"`{name}`"])
    return _table(["ratio of", "median", "quartiles", "goal", "benchmarks."], rows)


OVERVIEW = (
    "lasso_step",
    "pruned_step",
    "reconfiguration",
    "speed_up_digits",
    "speed_up_cifar10",
    "peers",
    "magnitude_step",
    "memory",
    "gpu",
)
METHODS = {
    "dense": "dense",
    "prunetrain": "PruneTrain",
    "pruning_from_scratch": "Pruning from Scratch",
    "magnitude": "magnitude",
}
TABLES = {
    "overview": _overview,
    "applications": _applications,
    "export_speed": export_speed,
    "methods_digits": _methods,
    "methods_cifar10": _methods,
    "torch_pruning": _torch_pruning,
}


if __name__ == "__main__":
    main()
