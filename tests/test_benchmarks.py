import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ptkeras
from benchmarks import __main__ as command
from benchmarks import measuring, memory, speed_up, tables

ROOT = Path(__file__).parents[1]


def test_jobs_take_turns_and_each_begins_a_round():
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "abc"}
    times = measuring.turns(jobs, rounds=4)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert all(len(t.wall) == len(t.processor) == 4 for t in times.values())
    assert all(seconds >= 0 for t in times.values() for seconds in t.wall)


def test_a_ratio_is_the_median_of_those_of_the_rounds():
    line = measuring.ratio("this over that", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0], "≤ 2")
    assert line["ratio"] == 2.0  # of 2, 3 and 1; that of the medians would be 4 / 3
    assert line["quartiles"] == [1.5, 2.5]
    assert line["rounds"] == 3
    assert measuring.ratio("once", [3.0], [2.0])["quartiles"] == [1.5, 1.5]


def test_jobs_are_given_what_was_made_for_them_outside_of_their_time():
    numbers = iter(range(100))
    seen = []
    ready = {name: lambda name=name: (name, next(numbers)) for name in "ab"}
    measuring.turns(dict.fromkeys("ab", seen.append), 2, ready)
    assert seen == [("a", 0), ("b", 1), ("b", 2), ("a", 3)]


def test_a_result_says_when_where_and_with_what(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "results")
    measuring.write("some", {"rounds": 3}, ("keras", "no-such-package"), ratios=[])
    told = json.loads((tmp_path / "results/some.json").read_text())
    where = {"date", "machine", "processor", "commit"}
    assert set(told) == where | {"versions", "settings", "ratios"}
    assert told["versions"]["ptkeras"] == ptkeras.__version__ and told["processor"]
    assert told["versions"]["no-such-package"] == "none"
    assert told["versions"]["keras"][0].isdigit()


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_code(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert measuring._commit() is None
    code, result = tmp_path / "code.py", tmp_path / "benchmarks/results/some.json"
    result.parent.mkdir(parents=True)
    for path in (code, result):
        path.write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = measuring._commit()
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    result.write_text("2")
    assert measuring._commit() == commit
    code.write_text("2")
    assert measuring._commit() == commit + "+"


def test_a_quick_benchmark_leaves_a_result_of_more_rounds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)

    def kept(rounds):
        measuring.write("some", {"rounds": rounds}, ())
        return json.loads((tmp_path / "some.json").read_text())["settings"]["rounds"]

    assert [kept(9), kept(7)] == [9, 7]
    monkeypatch.setenv(measuring.KEEP, "1")
    assert [kept(7), kept(9), kept(7)] == [7, 9, 9]
    assert (
        capsys.readouterr().out == "some.json stays as it is: it is of 9 rounds, and this of 7.\n"
    )


def test_flagfiles_are_spelled_out():
    flags = measuring.spelled_out(["--flagfile=flags/digits_resnet20.flags", "--seed=1"])
    assert "--seed=1" in flags and "--model=resnet20" in flags and "--seed=0" not in flags
    assert all(flag.startswith("--") and "flagfile" not in flag for flag in flags)


def test_a_folder_with_a_run_of_other_flags_is_refused(tmp_path, capfd):
    from ptkeras import settings

    flags = ["--flagfile=flags/digits_resnet20.flags"]
    (tmp_path / "flags.txt").write_text(settings.to_text(settings.parse([*flags, "--seed=1"])))
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"no run in .* to measure"):
        measuring.train(flags, tmp_path)
    assert "--seed is 1 there and 0 here" in capfd.readouterr().err


def test_a_run_that_traced_once_is_no_measure_of_memory():
    memory.check_retraced([{"epoch": 2}, {"epoch": 4}, {"epoch": 5}], epochs=5)
    with pytest.raises(SystemExit, match="reconfigured 1 times ahead of the last of 5 epochs"):
        memory.check_retraced([{"epoch": 4}, {"epoch": 5}], epochs=5)


def test_the_table_has_the_results_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(measuring, "RESULTS", tmp_path / "benchmarks/results")
    (tmp_path / "benchmarks").mkdir()
    line = measuring.ratio("a step over another", [1.1, 1.2], [1.0, 1.0], "≤ 1.02")
    measuring.write("peers", {}, (), ratios=[line])
    text = tables.rendered("before\n<!-- table overview -->\n<!-- end -->\nbehind\n")
    assert "| a step over another | 1.150 | 1.125 to 1.175 | 2 | ≤ 1.02 | `peers` |" in text
    assert "| not measured |  |  |  |  | `lasso_step` |" in text
    assert tables.rendered(text) == text
    single = tables.rendered("<!-- table export_speed -->\n<!-- end -->")
    assert "Not measured yet." in single


def test_a_comparison_with_torch_pruning_shows_its_spread():
    row = {"network": "vgg16", "seconds": 0.5, "torch_pruning_seconds": 2.0}
    assert "| vgg16 | 0.50 | 2.00 | 0.25 |" in tables.TABLES["torch_pruning"]({"networks": [row]})
    row["ratio"] = measuring.ratio("", [0.5, 0.6, 0.4], [2.0, 2.0, 2.0])
    table = tables.TABLES["torch_pruning"]({"networks": [row]})
    assert "| vgg16 | 0.50 | 2.00 | 0.25 (0.23 to 0.28) |" in table


def test_every_quick_benchmark_is_there_and_takes_its_arguments():
    for name in command.QUICK:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()
    with pytest.raises(SystemExit):
        command.main(["no_such"])


def test_the_benchmarks_of_the_table_are_there():
    for name in tables.OVERVIEW:
        module = "speed_up" if name.startswith("speed_up_") else name
        assert (ROOT / "benchmarks" / f"{module}.py").is_file(), name


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_that_of_the_process_alone():
    small, large = (memory.peak(f"x = bytearray({n})") for n in (1, 200_000_000))
    assert 150_000_000 < large - small < 250_000_000
    with pytest.raises(RuntimeError, match="failed with status 3"):
        memory.peak("raise SystemExit(3)")


def test_saving_is_told_by_the_rounds():
    def runs(seconds, flops):
        pairs = zip(seconds, flops, strict=True)
        return [{"seconds": s, "training_flops": [100, f], "accuracy": 0.9} for s, f in pairs]

    options = argparse.Namespace(epochs=5)
    dense, pruned = runs([10.0, 20.0, 10.0], [100] * 3), runs([6.0, 10.0, 7.0], [60, 60, 50])
    row, (saved, removed) = speed_up.figures(options, "exact", dense, pruned)
    assert saved == pytest.approx([0.4, 0.5, 0.3]) and removed == pytest.approx([0.4, 0.4, 0.5])
    assert row["seconds_saved"] == pytest.approx(0.4)
    with pytest.raises(SystemExit, match="removed nothing in 5 epochs"):
        speed_up.figures(options, "exact", dense, dense)


def run(backend, module, arguments, tmp_path, without=()):
    """Runs a benchmark in a process of its own; returns what it wrote."""
    script = f"""
import pathlib, sys
for name in {list(without)!r}:
    sys.modules[name] = None
from benchmarks import {module}, measuring
measuring.RESULTS = pathlib.Path({str(tmp_path)!r})
{module}.main({arguments!r})
"""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / f"{module}.json").read_text())


TINY = ["--size=8", "--batch_size=4", "--rounds=1"]


@pytest.mark.slow
def test_the_steps_of_a_gpu_need_no_tensorflow(tmp_path):
    pytest.importorskip("jax")
    arguments = ["--model=vgg8", "--size=32", "--classes=10", "--batch_size=4", "--steps=1"]
    arguments += ["--rounds=1", "--left=0.5"]
    told = run("jax", "gpu", arguments, tmp_path, without=["tensorflow", "tensorflow_datasets"])
    flops = told["inference_flops"]
    assert flops["0.5 of the FLOPs, exact"] / flops["dense"] == pytest.approx(0.5, abs=0.02)
    assert len(told["ratios"]) == 2 and "cpu" in told["device"]


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_lasso_and_the_pause_are_measured(tmp_path):
    told = run("tensorflow", "lasso_step", ["resnet20", *TINY, "--steps=1"], tmp_path)
    assert told["ratios"][0]["ratio"] > 0
    told = run("tensorflow", "reconfiguration", ["resnet20", *TINY], tmp_path)
    parts = told["models"][0]["seconds_by_part"]
    assert {"decide", "rebuild", "carry over slots", "retrace", "first step"} <= set(parts)
    assert sum(parts.values()) > parts["retrace"] > 0
