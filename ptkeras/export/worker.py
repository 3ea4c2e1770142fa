"""Runs one artifact, as often as it is told to: the process that `timing` measures.

    python -m ptkeras.export.worker PATH THREADS

Reads lines of JSON, `[batch size, runs]`, and answers each with the seconds that the runs took and
the peak memory of the process so far, in bytes. The first answer comes unasked, once the artifact
is loaded. An error is answered as `{"error": sentence}`, and is the last answer.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ptkeras.export.runtimes import Runtime, first_line, load


def main(path: Path, threads: int, commands: TextIO, answers: TextIO) -> None:
    """Answers commands until there are no more."""

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    try:
        run = load(path, threads)
        answer({"runtime": run.name})
        batches: dict[int, dict[str, np.ndarray]] = {}
        for line in commands:
            size, runs = json.loads(line)
            feeds = batches.setdefault(size, random_batch(run, size))
            started = time.perf_counter()
            for _ in range(runs):
                run(feeds)
            seconds = time.perf_counter() - started
            answer({"seconds": seconds, "memory": peak_memory()})
    except Exception as error:
        answer({"error": f"'{path}': {first_line(error)}"})


def random_batch(run: Runtime, size: int) -> dict[str, np.ndarray]:
    """Random inputs: normal numbers, 0 or 1 for integers; open sizes become 32."""
    random = np.random.default_rng(0)
    feeds = {}
    for name, (shape, dtype) in run.inputs.items():
        if shape[0] not in (None, size):
            raise ValueError(f"it takes batches of {shape[0]} alone, and not of {size}.")
        whole = (size, *(axis or 32 for axis in shape[1:]))
        values = random.normal(size=whole) if dtype.kind == "f" else random.integers(0, 2, whole)
        feeds[name] = values.astype(dtype)
    return feeds


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins with what the process that started this one had
        [kilobytes] = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(kilobytes) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    # Runtimes print to standard output as they please; the answers go to the real one alone.
    told, sys.stdout = sys.stdout, sys.stderr
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.stdin, told)
