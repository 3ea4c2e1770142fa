"""What the benchmarks have in common: benchmarks/measuring.py."""

import argparse
import datetime
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import ptkeras
from benchmarks import measuring


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
    assert measuring._is_code_of(commit)
    code.write_text("2")
    assert measuring._commit() == commit + "+"
    for other in (commit + "+", "unknown", None):
        assert not measuring._is_code_of(other)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("name", ["ptkeras/a.py", "benchmarks/a.py"])
def test_code_is_that_of_a_commit_until_it_changes(tmp_path, monkeypatch, name):
    monkeypatch.setattr(measuring, "ROOT", tmp_path)
    paths = [tmp_path / path for path in (name, "tests/a.py", "benchmarks/results/a.json")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = measuring._commit()
    for path in paths[1:]:
        path.write_text("2")
    assert measuring._is_code_of(commit)
    paths[0].write_text("2")
    assert not measuring._is_code_of(commit)
    git(tmp_path, "commit", "-a", "-m", "second")
    assert not measuring._is_code_of(commit) and measuring._is_code_of(measuring._commit())


def test_a_quick_benchmark_leaves_a_result_of_more_rounds(tmp_path, monkeypatch, capsys):
    path = tmp_path / "some.json"

    def kept(rounds):
        measuring.write("some", {"rounds": rounds, "models": ("a", "b")}, (), path)
        return json.loads(path.read_text())["settings"]["rounds"]

    monkeypatch.setattr(measuring, "_is_code_of", lambda commit: True)
    assert [kept(9), kept(7)] == [9, 7]
    monkeypatch.setenv(measuring.KEEP, "1")
    assert [kept(7), kept(9), kept(7)] == [7, 9, 9]
    said = "some.json stays as it is: it is of 9 rounds, and this of 7 rounds.\n"
    assert capsys.readouterr().out == said
    monkeypatch.setattr(measuring, "_is_code_of", lambda commit: False)
    assert kept(7) == 7


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"settings": null}', '{"settings": {"rounds": "9"}}']
)
def test_a_damaged_result_gives_way(tmp_path, monkeypatch, damage):
    path = tmp_path / "some.json"
    path.write_text(damage)
    monkeypatch.setenv(measuring.KEEP, "1")
    measuring.write("some", {"rounds": 3}, (), path)
    assert json.loads(path.read_text())["settings"] == {"rounds": 3}


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_count_is_one_or_more(text):
    assert measuring.count("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match=rf"'{text}' is no whole number from 1"):
        measuring.count(text)


def test_as_many_rounds_of_more_are_more(tmp_path, monkeypatch):
    path = tmp_path / "some.json"
    monkeypatch.setattr(measuring, "_is_code_of", lambda commit: True)
    monkeypatch.setenv(measuring.KEEP, "1")

    def kept(rounds, steps):
        measuring.write("some", {"rounds": rounds, "steps": steps, "epochs": None}, (), path)
        settings = json.loads(path.read_text())["settings"]
        return settings["rounds"], settings["steps"]

    assert [kept(7, 5), kept(7, 1), kept(5, 5)] == [(7, 5)] * 3
    assert kept(9, 1) == (9, 1)  # more rounds of fewer steps are neither more nor less


@pytest.mark.parametrize(
    "other",
    [
        {"machine": "x86_64, 96 cores"},
        {"processor": "another"},
        {"commit": "other"},
        {"versions": {"keras": "3.0.0"}},
        {"processor": None},  # results of before have none
        {"settings": {"rounds": 9, "steps": 2, "size": 64}},
        {"settings": {"rounds": 9}},
    ],
)
def test_a_result_of_other_circumstances_does_not_stay(tmp_path, monkeypatch, other):
    path = tmp_path / "some.json"
    monkeypatch.setattr(measuring, "_is_code_of", lambda commit: commit != "other")
    quick = {"rounds": 3, "steps": 1, "size": 32}
    measuring.write("some", quick | {"rounds": 9, "steps": 2}, (), path)
    earlier = json.loads(path.read_text())
    monkeypatch.setenv(measuring.KEEP, "1")
    measuring.write("some", quick, (), path)
    assert json.loads(path.read_text()) == earlier
    path.write_text(json.dumps(earlier | other))
    measuring.write("some", quick, (), path)
    assert json.loads(path.read_text())["settings"] == quick


@pytest.fixture
def run_by(monkeypatch):
    """Has `measuring.train` run in a folder, with code of some commit, to its end or not."""

    def begin(command, **_):
        folder = Path(command[-1].removeprefix("--output_dir="))
        folder.mkdir(exist_ok=True)
        (folder / "flags.txt").touch()
        if ends:
            (folder / "result.json").write_text('{"accuracy": 0.5}')
        return subprocess.CompletedProcess(command, not ends)

    def run(folder, commit, killed=False):
        nonlocal ends
        ends = not killed
        monkeypatch.setattr(measuring, "_commit", lambda: commit)
        if not killed:
            return measuring.train([], folder)["made"]
        with pytest.raises(SystemExit):
            measuring.train([], folder)
        return None

    ends = True  # whether the next run comes to its end
    monkeypatch.setattr(subprocess, "run", begin)
    return run


def test_runs_know_the_code_that_made_them(tmp_path, run_by, capsys):
    today = datetime.date.today().isoformat()
    first = {"commit": "aaa", "date": today, "resumed": False}
    assert run_by(tmp_path / "whole", "aaa") == first
    assert run_by(tmp_path / "whole", "bbb") == first  # it is not run again
    run_by(tmp_path / "killed", "aaa", killed=True)
    run_by(tmp_path / "killed", "aaa", killed=True)
    run_by(tmp_path / "killed", "bbb", killed=True)
    resumed = {"commit": "aaa then bbb", "date": today, "resumed": True}
    assert run_by(tmp_path / "killed", "bbb") == resumed
    shutil.rmtree(tmp_path / "whole")
    second = run_by(tmp_path / "whole", None)  # the file beside it is of a run that is gone
    assert second == {"commit": "unknown", "date": today, "resumed": False}
    (tmp_path / "whole.made.json").unlink()
    unknown = run_by(tmp_path / "whole", "bbb")
    assert unknown == {"commit": "unknown", "date": "unknown", "resumed": None}
    (tmp_path / "whole.made.json").write_text("[")
    assert run_by(tmp_path / "whole", "bbb") == unknown
    assert capsys.readouterr().out == "whole.made.json is damaged, and is not read.\n"

    measuring.tell_commits([first, first, resumed, unknown])
    of = "aaa (2), aaa then bbb (1), unknown (1)"
    assert (
        capsys.readouterr().out == f"The runs are of the commits {of}; the code here is of bbb.\n"
    )
    measuring.tell_commits([{"commit": "bbb"}] * 2)
    assert capsys.readouterr().out == ""


def test_flagfiles_are_spelled_out():
    flags = measuring.spelled_out(["--flagfile=flags/digits_resnet20.flags", "--seed=1"])
    assert "--seed=1" in flags and "--model=resnet20" in flags and "--seed=0" not in flags
    assert all(flag.startswith("--") and "flagfile" not in flag for flag in flags)


def test_a_folder_with_a_run_of_other_flags_is_refused(tmp_path, capfd):
    from ptkeras.methods import settings

    flags = ["--flagfile=flags/digits_resnet20.flags"]
    (tmp_path / "flags.txt").write_text(settings.parse([*flags, "--seed=1"]).to_text())
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"no run in .* to measure"):
        measuring.train(flags, tmp_path)
    assert "--seed is 1 there and 0 here" in capfd.readouterr().err
