"""What the benchmarks have in common: taking turns, medians with their spread, a file to keep."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

RESULTS = pathlib.Path(__file__).parent / "results"


class Times(NamedTuple):
    """What a job took in each round: seconds by the clock, and seconds of all processors."""

    wall: list[float]
    processor: list[float]


def turns(jobs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    """Runs some jobs in turns, since the speed of a machine drifts; each round begins with another.

    Args:
        jobs: by name, functions that do the work once. They have been called before, where the
            first call is another one than the rest.
        rounds: how often each is run.
    """
    names = list(jobs)
    found = {name: Times([], []) for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            wall, processor = time.perf_counter(), time.process_time()
            jobs[name]()
            found[name].processor.append(time.process_time() - processor)
            found[name].wall.append(time.perf_counter() - wall)
    return found


def ratio(what: str, over: Sequence[float], under: Sequence[float], goal: str = "") -> dict:
    """One line of the README's table: the median of the rounds' ratios, and its quartiles.

    Args:
        what: what is compared.
        over: a figure for each round.
        under: as many, each from the same round.
        goal: what the ratio should be, such as "≤ 1.02".
    """
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    quartiles = ratios * 2
    if len(ratios) > 1:
        quartiles = statistics.quantiles(ratios, n=4, method="inclusive")[::2]
    return {"what": what, "ratio": statistics.median(ratios), "quartiles": quartiles, "goal": goal}


def say(line: dict) -> None:
    """Prints what `ratio` returned."""
    low, high = line["quartiles"]
    goal = f"; goal {line['goal']}" if line["goal"] else ""
    print(f"{line['what']}: {line['ratio']:.3f} ({low:.3f} to {high:.3f}){goal}", flush=True)


def write(name: str, settings: Mapping[str, Any], packages: Sequence[str], **figures: Any) -> None:
    """Writes results/NAME.json.

    Args:
        name: the module of the benchmark.
        settings: what it was run with.
        packages: whose versions matter.
        **figures: what was measured; `ratios` are lines of the README's table.
    """
    told = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()} | _versions(packages),
        "settings": dict(settings),
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found
