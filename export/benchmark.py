"""Times exported networks side by side.

python -m export.benchmark --artifacts=dense.onnx,pruned.onnx
python -m export.benchmark --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from export import _common
from ptkeras.utils.flagging import COUNT, Flag, FlagTable, Parser, Settings, texts, wholes

_COUNTS = Parser(
    wholes,
    "whole numbers from 1 with commas between them, such as 1,32",
    lambda counts: bool(counts) and all(n >= 1 for n in counts),
)
TABLE = FlagTable(
    "export.benchmark",
    __doc__.splitlines()[:3],
    {
        "What": (
            Flag(
                "artifacts",
                [],
                Parser(texts, "names with commas between them"),
                ".onnx files, .tflite files and folders of SavedModels, with commas between them. "
                "They take turns, each in a process of its own.",
            ),
        ),
        "How": (
            Flag("batch_sizes", [1, 32], _COUNTS, "Examples in a batch."),
            Flag("threads", [1, 2], _COUNTS, "Threads to compute with."),
            Flag("rounds", 20, COUNT, "Turns that each has, of some 50 ms each."),
        ),
    },
)


def act(settings: Settings) -> None:
    """Times what the flags say, and prints it."""
    _common.required(settings, "artifacts")
    from ptkeras.export import benchmark
    from ptkeras.export.artifact import size_text

    timings = benchmark(
        settings.artifacts,
        batch_sizes=settings.batch_sizes,
        threads=settings.threads,
        rounds=settings.rounds,
    )
    table = Table(title=f"Medians of {settings.rounds} rounds, half of which lie between …")
    for number, title in enumerate(
        ["artifact", "threads", "batch", "ms", "between", "examples/s", "on disk", "peak memory"]
    ):
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for one in timings:
        low, high = one.quartiles
        table.add_row(
            one.path,
            str(one.threads),
            str(one.batch_size),
            f"{1e3 * one.latency:.3f}",
            f"{1e3 * low:.3f} – {1e3 * high:.3f}",
            f"{one.throughput:,.0f}",
            size_text(one.size),
            size_text(one.memory),
        )
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    print("Peak memory is that of the process, its runtime included, at its largest batch.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return _common.run(TABLE, act, arguments)


if __name__ == "__main__":
    sys.exit(main())
