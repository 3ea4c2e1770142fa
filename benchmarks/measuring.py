"""What the benchmarks have in common: taking turns, medians with their spread, a file to keep."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Set by `python -m benchmarks`: what was measured in more rounds stays.
KEEP = "PTKERAS_BENCHMARKS_KEEP"


class Times(NamedTuple):
    """What a job took in each round: seconds by the clock, and seconds of all processors."""

    wall: list[float]
    processor: list[float]


def turns(
    jobs: Mapping[str, Callable[..., Any]],
    rounds: int,
    ready: Mapping[str, Callable[[], Any]] | None = None,
) -> dict[str, Times]:
    """Runs some jobs in turns, since the speed of a machine drifts; each round begins with another.

    Args:
        jobs: by name, functions that do the work once. They have been called before, where the
            first call is another one than the rest.
        rounds: how often each is run.
        ready: by name, functions whose time does not count: each is called ahead of its job, which
            is given what it returns. Left out, jobs are given nothing.
    """
    names = list(jobs)
    found = {name: Times([], []) for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            given = [ready[name]()] if ready else []
            wall, processor = time.perf_counter(), time.process_time()
            jobs[name](*given)
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
    return {
        "what": what,
        "ratio": statistics.median(ratios),
        "quartiles": quartiles,
        "rounds": len(ratios),
        "goal": goal,
    }


def say(line: dict) -> None:
    """Prints what `ratio` returned."""
    low, high = line["quartiles"]
    goal = f"; goal {line['goal']}" if line["goal"] else ""
    print(f"{line['what']}: {line['ratio']:.3f} ({low:.3f} to {high:.3f}){goal}", flush=True)


def write(
    name: str,
    settings: Mapping[str, Any],
    packages: Sequence[str],
    path: pathlib.Path | None = None,
    **figures: Any,
) -> None:
    """Writes what a benchmark has found, and what it was found with.

    Args:
        name: the module of the benchmark.
        settings: what it was run with; `rounds` or `repeats` is how often everything was measured.
        packages: whose versions matter, beside ptkeras's own.
        path: the file; left out, results/NAME.json.
        **figures: what was measured; `ratios` are lines of the README's table.
    """
    from ptkeras._files import write_text

    path = path or RESULTS / f"{name}.json"
    if os.environ.get(KEEP) and (before := _rounds(path)) > (now := settings.get("rounds", 0)):
        print(f"{path.name} stays as it is: it is of {before} rounds, and this of {now}.")
        return
    told = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "commit": _commit(),
        "versions": _versions(packages),
        "settings": dict(settings),
        **figures,
    }
    write_text(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def train(flags: Sequence[str], folder: pathlib.Path) -> dict[str, Any]:
    """Runs `python -m ptkeras.train`, unless its run is there already; returns its result.json.

    A folder that holds a run with other flags is refused by the command, and ends the benchmark.

    Args:
        flags: all flags but --output_dir.
        folder: the run folder.
    """
    command = [sys.executable, "-m", "ptkeras.train", *flags, f"--output_dir={folder}"]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"There is no run in '{folder}' to measure: what is wrong with it stands above.")
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def spelled_out(flags: Sequence[str]) -> list[str]:
    """What a run was told to do: flagfiles read, and of a flag that comes twice the last one."""
    found = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        lines = (ROOT / value).read_text().splitlines() if name == "--flagfile" else [flag]
        found |= {line.partition("=")[0]: line for line in lines if line.startswith("--")}
    return list(found.values())


def _rounds(path: pathlib.Path) -> int:
    """Of how many rounds a result is, 0 if there is none."""
    if not path.exists():
        return 0
    return json.loads(path.read_text(encoding="utf-8")).get("settings", {}).get("rounds", 0)


def _processor() -> str:
    """The name of its model, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str | None:
    """The commit of the checkout, with a + where its code has been changed since."""
    # What benchmarks write is no change: the first of many would make the tree dirty for the rest.
    code = [".", ":(exclude)benchmarks/results", ":(exclude)README.md"]
    status = ["status", "--porcelain", "--untracked-files=no", "--", *code]
    found = []
    for command in (["rev-parse", "--short", "HEAD"], status):
        try:
            done = subprocess.run(
                ["git", *command],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return None  # no git, or no checkout
        found.append(done.stdout.strip())
    commit, changed = found
    return commit + "+" * bool(changed)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    from ptkeras.version import __version__

    found = {"ptkeras": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found
