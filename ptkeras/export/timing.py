"""Latency, throughput, size and memory of artifacts, side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import numbers
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ptkeras.export.artifact import ExportError, bytes_on_disk, format_of
from ptkeras.utils.progress import track

# How long one turn of one artifact is meant to take, and the most runs that make it up.
_TURN = 0.05
_MOST_RUNS = 2000

# The threads of a runtime spin for some milliseconds after a run, in case there is more to do.
_SETTLE = 0.01


@dataclasses.dataclass(frozen=True)
class Timing:
    """One artifact at one batch size and number of threads.

    Attributes:
        path: the artifact.
        runtime: what ran it.
        threads: how many threads it computed with.
        batch_size: examples in a batch.
        seconds: the mean time of a batch in each round.
        size: bytes on disk.
        memory: the peak memory of the process in bytes, its runtime included, over the batch sizes
            that it ran, of which the largest counts.
    """

    path: str
    runtime: str
    threads: int
    batch_size: int
    seconds: tuple[float, ...]
    size: int
    memory: int

    @property
    def latency(self) -> float:
        """Seconds of a batch, the median of the rounds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which half of the rounds lie, in seconds."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    @property
    def throughput(self) -> float:
        """Examples a second."""
        return self.batch_size / self.latency


def benchmark(
    paths: Sequence[str | os.PathLike[str]],
    *,
    batch_sizes: Sequence[int] = (1, 32),
    threads: Sequence[int] = (1, 2),
    rounds: int = 20,
) -> list[Timing]:
    """Times artifacts side by side.

    ```python
    for timing in ptkeras.export.benchmark(["dense.onnx", "pruned.onnx"]):
        print(timing.path, timing.batch_size, timing.latency)
    ```

    Each artifact has a process of its own for each number of threads. They take turns, in an order
    that turns with the rounds, so that what else the machine does, and its clock, weigh on all of
    them alike; all but one wait meanwhile. The inputs are random.

    Args:
        paths: .onnx and .tflite files, and folders of SavedModels.
        batch_sizes: examples in a batch.
        threads: how many threads to compute with.
        rounds: how many turns each has, of some 50 ms each, after one that is not counted.

    Returns:
        A timing for each artifact, number of threads and batch size, in that order of nesting.

    Raises:
        ExportError: an artifact does not run.
        ValueError: an argument is out of range, or a path is no artifact.
    """
    if not paths or isinstance(paths, str):
        raise ValueError(f"paths must be a list of artifacts, at least one; received {paths!r}.")
    for name, values in (("batch_sizes", batch_sizes), ("threads", threads), ("rounds", [rounds])):
        if not values or not all(isinstance(n, numbers.Integral) and n > 0 for n in values):
            raise ValueError(f"{name} must be whole numbers from 1; received {values}.")
    for path in paths:
        format_of(path)
    with contextlib.ExitStack() as stack:
        workers = {
            (str(path), count): stack.enter_context(_worker(str(path), count))
            for path in dict.fromkeys(os.fspath(path) for path in paths)
            for count in threads
        }
        turns = [(key, size) for key in workers for size in batch_sizes]
        runs = {(key, size): _warm_up(workers[key], size) for key, size in turns}
        seconds: dict[Any, list[float]] = {turn: [] for turn in turns}
        for number in track(range(rounds), "Timing", timed=True):
            start = number % len(turns)
            for turn in turns[start:] + turns[:start]:
                key, size = turn
                answer = workers[key].ask([size, runs[turn]])
                seconds[turn].append(answer["seconds"] / runs[turn])
                time.sleep(_SETTLE)
        return [
            Timing(
                path=path,
                runtime=workers[path, count].runtime,
                threads=count,
                batch_size=size,
                seconds=tuple(seconds[(path, count), size]),
                size=bytes_on_disk(Path(path)),
                memory=workers[path, count].memory,
            )
            for (path, count), size in turns
        ]


class _Worker:
    def __init__(self, path: str, requests: IO[str], answers: IO[str]) -> None:
        self._path = path
        self._requests = requests
        self._answers = answers
        self.memory = 0
        self.runtime = self._answer()["runtime"]

    def ask(self, command: list[int]) -> dict[str, Any]:
        print(json.dumps(command), file=self._requests, flush=True)
        answer = self._answer()
        self.memory = answer["memory"]
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise ExportError(f"The process that runs '{self._path}' has ended.")
        answer = json.loads(line)
        if "error" in answer:
            raise ExportError(answer["error"])
        return answer


@contextlib.contextmanager
def _worker(path: str, threads: int) -> Iterator[_Worker]:
    root = str(Path(__file__).parents[2])
    search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    settings = {"PYTHONPATH": search, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ptkeras.export.worker", path, str(threads)],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    requests, answers = process.stdin, process.stdout
    assert requests is not None and answers is not None  # they are pipes
    try:
        yield _Worker(path, requests, answers)
    finally:
        requests.close()
        answers.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _warm_up(worker: _Worker, size: int) -> int:
    """How many runs make up a turn; the runtime allocates and settles meanwhile."""
    worker.ask([size, 1])
    runs, seconds = 1, 0.0
    while seconds < _TURN and runs < _MOST_RUNS:
        seconds = worker.ask([size, runs])["seconds"]
        if seconds < _TURN:
            runs = min(_MOST_RUNS, max(2 * runs, int(runs * _TURN / max(seconds, 1e-6))))
    return runs
