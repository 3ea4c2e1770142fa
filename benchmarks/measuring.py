"""What the benchmarks have in common: taking turns, medians with their spread, a file to keep."""

import argparse
import collections
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "benchmarks" / "runs"  # apart from the user's own
# Set by `python -m benchmarks`: what was measured alike, of the same code and more of it, stays.
KEEP = "PTKERAS_BENCHMARKS_KEEP"
HOW_MUCH = {"rounds", "b7_rounds", "steps", "epochs", "frequency"}  # settings of a measurement
UNKNOWN = "unknown"
_THEN = " then "  # between the commits of a run that was taken up again


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


def quartiles(values: Sequence[float]) -> list[float]:
    """The first and the third quartile.

    Args:
        values: what was measured, once a round; of a single round it is both.
    """
    if len(values) == 1:
        return [*values, *values]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return [first, third]


def ratio(what: str, over: Sequence[float], under: Sequence[float], goal: str = "") -> dict:
    """One line of the README's table: the median of the rounds' ratios, and its quartiles.

    Args:
        what: what is compared.
        over: a figure for each round.
        under: as many, each from the same round.
        goal: what the ratio should be, such as "≤ 1.02".
    """
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {
        "what": what,
        "ratio": statistics.median(ratios),
        "quartiles": quartiles(ratios),
        "rounds": len(ratios),
        "goal": goal,
    }


def by_both_clocks(
    compare: Callable[[dict[str, list[float]]], list[dict]], times: Mapping[str, Times]
) -> tuple[list[dict], list[dict]]:
    """Ratios of seconds by the clock, and the same ones of seconds of all processors.

    The latter are steadier where something else takes a core, or a thread is put to sleep, and say
    nothing of how well the work is spread over cores.

    Args:
        compare: makes lines, as `ratio` does, of the seconds of each round by name.
        times: what `turns` returned.
    """
    clocks = ({name: taken[i] for name, taken in times.items()} for i in range(2))
    wall, processor = map(compare, clocks)
    return wall, processor


def count(text: str) -> int:
    """A number of rounds, steps and the like, for a command line: 1 or more."""
    if not re.fullmatch("0*[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def say(line: dict) -> None:
    """Prints what `ratio` returned."""
    low, high = line["quartiles"]
    goal = f"; goal {line['goal']}" if line["goal"] else ""
    print(f"{line['what']}: {line['ratio']:.3f} ({low:.3f} to {high:.3f}){goal}", flush=True)


def say_both(ratios: Sequence[dict], of_processors: Sequence[dict]) -> None:
    """Prints what `by_both_clocks` returned."""
    for line, processor in zip(ratios, of_processors, strict=True):
        say(line)
        say(processor | {"what": "… of processors"})


def write(
    name: str,
    settings: Mapping[str, Any],
    packages: Sequence[str],
    path: pathlib.Path | None = None,
    **figures: Any,
) -> None:
    """Writes what a benchmark has found, and what it was found with.

    Under `python -m benchmarks` a result that is there already stays if more was measured for it
    (`HOW_MUCH`) and it can stand for this one: of the same code, machine, processor and versions,
    and with the same settings otherwise. In all other cases this one replaces it.

    Args:
        name: the module of the benchmark.
        settings: what it was run with; `rounds` or `repeats` is how often everything was measured.
        packages: whose versions matter, beside ptkeras's own.
        path: the file; left out, results/NAME.json.
        **figures: what was measured; `ratios` are lines of the README's table.
    """
    from ptkeras.utils.files import write_text

    path = path or RESULTS / f"{name}.json"
    told = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "commit": _commit(),
        "versions": _versions(packages),
        "settings": dict(settings),
        **figures,
    }
    text = json.dumps(told, indent=1, ensure_ascii=False)
    if os.environ.get(KEEP) and path.exists():
        before, now = _read(path), json.loads(text)
        if _stands_for(before, now):
            print(
                f"{path.name} stays as it is: it is of {_amount(before)}, and this of "
                f"{_amount(now)}."
            )
            return
    write_text(path, text + "\n")


def train(flags: Sequence[str], folder: pathlib.Path) -> dict[str, Any]:
    """Runs `python -m ptkeras.train`, unless its run is there already; returns its result.json.

    A folder that holds a run with other flags is refused by the command, and ends the benchmark.

    Args:
        flags: all flags but --output_dir.
        folder: the run folder.

    Returns:
        The run's result.json, and as `made` which code made it: its `commit`, the `date`
        when it was last started, and whether it was `resumed` then; with other code, its commit is
        "one then another". A file beside the folder keeps that; it is unknown where there is none.
    """
    made = _made(folder)
    command = [sys.executable, "-m", "ptkeras.train", *flags, f"--output_dir={folder}"]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"There is no run in '{folder}' to measure: what is wrong with it stands above.")
    return json.loads((folder / "result.json").read_text(encoding="utf-8")) | {"made": made}


def tell_commits(made: Sequence[Mapping[str, Any]]) -> None:
    """Says in a line which commits made the runs of a table, unless it is the one that is here.

    Args:
        made: what `train` has told of each run.
    """
    commits, here = collections.Counter(run["commit"] for run in made), _commit() or UNKNOWN
    if set(commits) != {here}:
        of = ", ".join(f"{commit} ({count})" for commit, count in commits.items())
        print(f"The runs are of the commits {of}; the code here is of {here}.")


def spelled_out(flags: Sequence[str]) -> list[str]:
    """What a run was told to do: flagfiles read, and of a flag that comes twice the last one."""
    found = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        lines = (
            (ROOT / value).read_text(encoding="utf-8").splitlines()
            if name == "--flagfile"
            else [flag]
        )
        found |= {line.partition("=")[0]: line for line in lines if line.startswith("--")}
    return list(found.values())


def _made(folder: pathlib.Path) -> dict[str, Any]:
    """What is known of a run's code; of one that is not finished, with the code that goes on."""
    from ptkeras.utils.files import write_text

    note = folder.with_name(f"{folder.name}.made.json")
    begun = (folder / "flags.txt").exists()
    made = {"commit": UNKNOWN, "date": UNKNOWN, "resumed": None}
    if begun and note.exists():
        made |= _read(note)
    if (folder / "result.json").exists():
        return made
    commits = made["commit"].split(_THEN) if begun else []
    made = {
        "commit": _THEN.join(dict.fromkeys([*commits, _commit() or UNKNOWN])),
        "date": datetime.date.today().isoformat(),
        "resumed": begun,
    }
    write_text(note, json.dumps(made) + "\n")
    return made


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What is in a file of JSON; nothing where it is damaged, which is no reason to stop."""
    with contextlib.suppress(ValueError, OSError):
        told = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(told, dict):
            return told
    print(f"{path.name} is damaged, and is not read.")
    return {}


def _stands_for(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether an earlier result is of the same as another one, and more was measured for it."""
    much, less = _how_much(before), _how_much(now)
    return (
        much.keys() == less.keys()
        and much != less
        and all(much[name] >= less[name] for name in much)
        and _circumstances(before) == _circumstances(now)
        and _is_code_of(before.get("commit"))
    )


def _how_much(result: Mapping[str, Any]) -> dict[str, int]:
    """The settings that say how much was measured, those that were left out left out."""
    settings = result.get("settings") or {}
    return {
        name: settings[name] for name in sorted(HOW_MUCH) if isinstance(settings.get(name), int)
    }


def _amount(result: Mapping[str, Any]) -> str:
    return " and ".join(f"{number} {name}" for name, number in _how_much(result).items())


def _circumstances(result: Mapping[str, Any]) -> list:
    """All that a result has to have in common with another one that it stands for."""
    settings = result.get("settings") or {}
    settings = {name: value for name, value in settings.items() if name not in HOW_MUCH}
    return [*map(result.get, ("machine", "processor", "versions")), settings]


def _processor() -> str:
    """The name of its model, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or UNKNOWN


def _commit() -> str | None:
    """The commit of the checkout, with a + where its code has been changed since."""
    # What benchmarks write is no change: the first of many would make the tree dirty for the rest.
    code = [".", ":(exclude)benchmarks/results", ":(exclude)README.md"]
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return None if commit is None or changed is None else commit + "+" * bool(changed)


def _is_code_of(commit: str | None) -> bool:
    """Whether the library and the benchmarks are what they were at a commit."""
    code = ["ptkeras", "benchmarks", ":(exclude)benchmarks/results"]
    return bool(commit) and _git("diff", commit, "--", *code) == ""


def _git(*arguments: str) -> str | None:
    """What git says of the checkout; None without git, without a checkout, or where it refuses."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _versions(packages: Sequence[str]) -> dict[str, str]:
    from ptkeras.version import __version__

    found = {"ptkeras": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found
