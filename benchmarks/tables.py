"""Writes the README's tables from what the benchmarks have measured.

    python -m benchmarks.tables

What stands between `<!-- table NAME -->` and `<!-- end -->` in README.md is replaced by the table
made of benchmarks/results/NAME.json; a test fails where the two differ.
"""

import itertools
import json
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
_PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(text: str) -> str:
    """A text with each of its tables made anew from the results."""
    return _PLACE.sub(lambda m: f"{m[1]}\n{_rendered(m[2])}\n{m[3]}", text)


def main() -> None:
    """Writes README.md."""
    README.write_text(rendered(README.read_text(encoding="utf-8")), encoding="utf-8")


def _rendered(name: str) -> str:
    """One table, or a line that says that there is nothing to make it of."""
    if name not in OF_MANY and not _result(name):
        return "Not measured yet.\n"
    return TABLES[name](_result(name))


def _result(name: str) -> dict:
    """What a benchmark has written; nothing for a table that is made of many."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


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


def keras_hub(result: dict) -> str:
    """A row a backbone: what may go, and how far removal and a saved model are off."""
    rows = []
    for row in result["backbones"]:
        shares = [f"{row[key]:.0%}" if key in row else "" for key in ("prunable", "loose")]
        off = [f"{row[key]:.0e}" if key in row else "" for key in ("difference", "loaded")]
        failed = ", ".join(row["failures"])
        rows.append([row["backbone"], str(row.get("channels", "")), *shares, *off, failed])
    heads = ["backbone", "channels", "prunable", "`exact=False`", "removed", "loaded", "fails"]
    return _table(heads, rows)


def _torch_pruning(result: dict) -> str:
    rows, sums = [], [0.0, 0.0]
    for row in result["networks"]:
        times = [row["seconds"], row["torch_pruning_seconds"]]
        sums = [a + b for a, b in zip(sums, times, strict=True)]
        cells = _compared(times)
        if "ratio" in row:  # of the rounds; results of one time each have none
            low, high = row["ratio"]["quartiles"]
            cells[-1] = f"{row['ratio']['ratio']:.2f} ({low:.2f} to {high:.2f})"
        rows.append([row["network"], *cells])
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


def methods(result: dict) -> str:
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


def budgets(result: dict) -> str:
    """A row a way to train: the mean accuracy of the seeds, how far they lie apart, FLOPs left."""
    rows = []
    for way in dict.fromkeys(run["way"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["way"] == way]
        means = [
            statistics.mean(run[key] for run in runs)
            for key in ("accuracy", "inference_flops", "training_flops")
        ]
        accuracies = [run["accuracy"] for run in runs]
        spread = f"{min(accuracies):.2%} to {max(accuracies):.2%}"
        seconds = statistics.mean(run["seconds"] for run in runs)
        accuracy, inference, training = means
        rows.append(
            [
                way,
                f"{accuracy:.2%}",
                spread,
                f"{inference:.1%}",
                f"{training:.1%}",
                f"{seconds:.0f}",
            ]
        )
    heads = ["", "test accuracy", "seeds", "inference FLOPs", "training FLOPs", "seconds"]
    return _table(heads, rows)


def _magnitude_sweep(_: dict) -> str:
    """A row a ratio: both data sets, and what was published for one of them."""
    found = {name: _result(f"magnitude_sweep_{name}") for name in ("digits", "cifar10")}
    by_ratio: dict[float, dict[str, dict]] = {}
    for name, told in found.items():
        dense = {"ratio": 0, "accuracy": told["dense"], "finetuned": None} if told else None
        for row in [dense, *told["rows"]] if told else []:
            by_ratio.setdefault(row["ratio"], {})[name] = row
    rows = []
    for ratio, by_name in sorted(by_ratio.items()):
        cells = [f"{ratio:.1f}" if ratio else "dense"]
        for name in found:
            row = by_name.get(name, {})
            cells += [_percent(row.get("accuracy")), _percent(row.get("finetuned"))]
            cells += [_threshold(row, kind) for kind in ("conv", "dense")]
        rows.append([*cells, _percent(PUBLISHED.get(ratio))])
    own = ["pruned", "fine-tuned", "threshold of convolutions", "threshold of dense layers"]
    heads = ["ratio", *(f"{name} {column}" for name in ("digits:", "CIFAR-10:") for column in own)]
    return _table([*heads, "published: CIFAR-10, pruned"], rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _threshold(row: dict, kind: str) -> str:
    return f"{row[f'{kind}_threshold']:.3f}" if f"{kind}_threshold" in row else ""


def static_dynamic(result: dict) -> str:
    """The paper's three rows, means over the seeds and the accuracy of each."""
    rows = []
    for network in ("dense", "static", "static and dynamic"):
        mine = [row for row in result["rows"] if row["network"] == network]
        mean = {
            key: statistics.mean(row[key] for row in mine)
            for key in ("accuracy", "params", "inference_flops", "milliseconds")
        }
        by_seed = ", ".join(f"{100 * row['accuracy']:.2f}" for row in mine)
        accuracy = f"{mean['accuracy']:.2%}" + (f" ({by_seed})" if len(mine) > 1 else "")
        flops, time = f"{mean['inference_flops'] / 1e6:.2f} M", f"{mean['milliseconds']:.3f}"
        rows.append([network, accuracy, f"{mean['params']:,.0f}", flops, time])
    time = "ms an image, onnxruntime, one thread"
    return _table(["", "test accuracy", "parameters", "inference FLOPs", time], rows)


def _batch_norm_step(result: dict) -> str:
    """A row a network: milliseconds as Keras computes it and fused, and what that saves of both."""
    rows, dense = [], {}
    for row in result["networks"]:
        plain, fused = row["milliseconds"]
        share = f"{row['flops']:.0%}"
        before = dense.setdefault(row["model"], fused)
        ratio = "" if row["flops"] == 1 else f"{_saved(row, fused / before):.2f}"
        cells = [f"{row['model']}, {row['channels']}", share, f"{plain:.0f}", f"{fused:.0f}", ratio]
        rows.append(cells)
    return _table(["network, channels", "FLOPs", "Keras", "fused", "saved ÷ removed"], rows)


def _saved(row: dict, time: float) -> float:
    """The share of time saved over that of FLOPs, in the median of the rounds where that is known.

    Args:
        row: a pruned network.
        time: the median of its time over the median of the dense one's.
    """
    if "saved_over_removed" in row:
        return row["saved_over_removed"]["ratio"]
    return (1 - time) / (1 - row["flops"])


def _overview(_: dict) -> str:
    """The ratios of all results, in the order of `OVERVIEW`; a row says which are not there."""
    rows, found = [], {name: _result(name) for name in OVERVIEW}
    for name, told in found.items():
        name = module(name)
        lines = [[line] for line in told.get("ratios", [])]
        for i, line in enumerate(told.get("of_processors", [])):
            lines[i].append(line | {"what": "… in seconds of all processors"})
        for line in itertools.chain(*lines):
            low, high = line["quartiles"]
            spread = f"{low:.3f} to {high:.3f}"
            rounds = str(line.get("rounds") or told["settings"]["rounds"])
            figures = [f"{line['ratio']:.3f}", spread, rounds, line["goal"]]
            rows.append([line["what"], *figures, f"`{name}`"])
        if not told:
            rows.append(["not measured", "", "", "", "", f"`{name}`"])
    table = _table(["ratio of", "median", "quartiles", "rounds", "goal", "benchmarks."], rows)
    return f"{table}\n{_circumstances([told for told in found.values() if told])}"


def module(result: str) -> str:
    """The benchmark that writes a result."""
    return "speed_up" if result.startswith("speed_up_") else result


def _circumstances(results: list[dict]) -> str:
    """Where and when they were measured."""
    where = sorted({told["machine"] for told in results})
    when = sorted({told["date"] for told in results})
    dates = " to ".join(dict.fromkeys((when[0], when[-1])))
    return f"Measured on {' and '.join(where)}; {dates}.\n"


OVERVIEW = (
    "lasso_step",
    "pruned_step",
    "reconfiguration",
    "speed_up_digits_resnet20",
    "speed_up_cifar10_vgg11",
    "step_options",
    "peers",
    "magnitude_step",
    "memory",
    "gpu",
)
OF_MANY = ("overview", "magnitude_sweep")  # tables of the results of several benchmarks
# Without fine-tuning, ResNet-20 on CIFAR-10 trained in full, by ratio.
PUBLISHED = {0: 0.921, 0.3: 0.912, 0.5: 0.879, 0.7: 0.535, 0.9: 0.11}
METHODS = {
    "dense": "dense",
    "prunetrain": "PruneTrain",
    "pruning_from_scratch": "Pruning from Scratch",
    "magnitude": "magnitude",
}
TABLES = {
    "overview": _overview,
    "applications": _applications,
    "budgets_digits_resnet20": budgets,
    "batch_norm_step": _batch_norm_step,
    "export_speed": export_speed,
    "keras_hub": keras_hub,
    "magnitude_sweep": _magnitude_sweep,
    "static_dynamic_cifar10": static_dynamic,
    "static_dynamic_digits": static_dynamic,
    "methods_digits": methods,
    "methods_cifar10": methods,
    "torch_pruning": _torch_pruning,
}


if __name__ == "__main__":
    main()
