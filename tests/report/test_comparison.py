import io
import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ptkeras import report
from ptkeras.report.__main__ import main
from tests.report.conftest import finish

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("runs") / "seed1", seed=1)


def test_runs_are_shown_beside_each_other(pruned, dense, other_seed):
    comparison = report.compare([pruned, dense, other_seed])
    text = str(comparison)
    assert text.index("pruned") < text.index("seed1") < text.index("dense")  # by method
    accuracies = [report.read(path).result["accuracy"] for path in (pruned, other_seed)]
    mean = statistics.mean(accuracies)
    assert f"{mean:.2%}  ± {100 * statistics.stdev(accuracies):.2f}" in text
    assert "mean of 2" in text and "mean of 1" not in text


def with_flag(folder, path, name, value):
    """A copy of a run with another flag."""
    shutil.copytree(folder, path)
    flags = re.sub(
        rf"^--{name}=.*$", f"--{name}={value}", (path / "flags.txt").read_text(), flags=re.M
    )
    (path / "flags.txt").write_text(flags)
    return path


def test_runs_of_other_flags_have_means_of_their_own(pruned, other_seed, dense, tmp_path):
    low = with_flag(pruned, tmp_path / "low", "threshold", 0.2)
    elsewhere = with_flag(low, tmp_path / "elsewhere", "tensorboard", "true")
    unread = with_flag(dense, tmp_path / "unread", "ratio", 0.6)
    runs = report.compare([pruned, other_seed, low, elsewhere, dense, unread])
    groups = {title: [run.path for run in some] for title, some in runs.groups().items()}
    assert groups == {
        "prunetrain, threshold=0.4": [pruned, other_seed],
        "prunetrain, threshold=0.2": [low, elsewhere],
        "dense": [dense, unread],
    }
    assert str(runs).count("mean of 2") == 3 and "threshold=0.2" in str(runs)
    assert list(report.compare([low, dense]).groups()) == ["prunetrain", "dense"]


def test_a_run_that_lacks_a_flag_takes_no_part_in_a_mean(pruned, other_seed, tmp_path):
    older = with_flag(pruned, tmp_path / "older", "threshold", 0.4)
    text = (older / "flags.txt").read_text()
    (older / "flags.txt").write_text(re.sub("--interval=.*\n", "", text))
    groups = report.compare([pruned, other_seed, older]).groups()
    assert [len(runs) for runs in groups.values()] == [2, 1]
    assert list(groups)[1] == "prunetrain, interval=unknown"


def test_flags_of_other_methods_are_no_difference(pruned, tmp_path):
    other = with_flag(pruned, tmp_path / "other", "gate_epochs", 3)
    assert list(report.compare([pruned, other]).groups()) == ["prunetrain"]


def test_repetitions_of_a_seed_are_told(pruned, other_seed, tmp_path):
    again = with_flag(pruned, tmp_path / "again", "export", "onnx")
    assert "mean of 2, 1 seed" in str(report.compare([pruned, again]))
    assert "mean of 3, 2 seeds" in str(report.compare([pruned, again, other_seed]))
    assert "mean of 2 " in str(report.compare([pruned, other_seed]))


def test_thirty_two_groups_are_told_from_each_other(pruned, tmp_path):
    runs = [with_flag(pruned, tmp_path / str(i), "interval", i + 1) for i in range(32)]
    [axes, _] = report.compare(runs).figure().axes
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    assert len(looks) == len(axes.lines) == 32


def test_one_folder_is_no_list_of_folders(pruned):
    for folder in (pruned, str(pruned)):
        with pytest.raises(ValueError, match=r"needs a list of run folders; received '.*pruned"):
            report.compare(folder)


def with_result(folder, path, **more):
    """A copy of a run with other figures."""
    shutil.copytree(folder, path)
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps(result | more))
    return path


def test_methods_are_compared_by_what_they_do(dense, tmp_path):
    def row(text, name):
        rows = [line.split() for line in text.splitlines() if line.startswith(f"{name} ")]
        return next(row[2:] for row in rows if len(row) > 1)  # not the heading of the method

    told = report.read(dense).result
    (_, flops), (_, params) = told["inference_flops"], told["params"]
    half, tenth = flops // 2, params // 10
    sparse = {"method": "magnitude", "nonzero_params": [params, tenth]}
    searched = {"method": "pruning_from_scratch", "seconds": 10.0, "search_seconds": 25.0}
    folders = [
        with_result(dense, tmp_path / "sparse", **sparse),
        with_result(dense, tmp_path / "searched", **searched),
        with_result(dense, tmp_path / "gated", method="skipnet", mean_inference_flops=half),
    ]
    comparison = report.compare([dense, *folders])
    text = str(comparison)
    assert not any("%" in cell for cell in row(text, "dense")[1:])
    assert row(text, "sparse")[-3:-1] == [f"{tenth:,}", "−90%"]
    assert row(text, "searched")[-1] == "35"
    assert "−50%" in row(text, "gated")
    xs = [line.get_xdata()[0] for line in comparison.figure().axes[0].lines]
    assert xs == [flops, flops, flops, half]


def test_a_narrow_table_breaks_no_figure(dense, pruned, other_seed, tmp_path):
    long = with_result(pruned, tmp_path / "digits_pruning_from_scratch_seed0", seed=2)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(report.compare([dense, pruned, other_seed, long]))
    text = console.file.getvalue()
    words = text.split()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert {"digits_pruning_from_", "scratch_seed0", "accuracy", "inference"} <= set(words)
    for run in report.compare([pruned, other_seed]).runs:
        full, left = run.result["params"]
        assert {f"{left:,}", f"−{1 - left / full:.0%}"} <= set(words)


def test_runs_of_one_name_are_told_by_their_paths(pruned, other_seed, tmp_path):
    twin = with_result(pruned, tmp_path / "seed1")
    console = Console(file=io.StringIO(), width=250, color_system=None)
    console.print(report.compare([pruned, other_seed, twin]))
    text = console.file.getvalue()
    assert str(other_seed) in text and str(twin) in text
    assert pruned.name in text and str(pruned) not in text


def test_a_folder_that_is_named_twice_counts_once(pruned, dense, monkeypatch):
    monkeypatch.chdir(pruned.parent)
    comparison = report.compare([pruned, pruned.name, f"{pruned}/", dense])
    assert [run.path for run in comparison.runs] == [pruned, dense]
    assert "\nmean of" not in str(comparison)


def test_a_plot_has_a_point_a_run(pruned, dense, other_seed, tmp_path):
    comparison = report.compare([pruned, dense, other_seed])
    left, right = comparison.figure().axes
    for axes, key in ((left, "inference_flops"), (right, "training_flops")):
        points = {tuple(xy) for line in axes.lines for xy in line.get_xydata().tolist()}
        assert points == {(r.result[key][1], r.result["accuracy"]) for r in comparison.runs}
    assert len({line.get_marker() for line in left.lines}) == 2
    for name in ("a.png", "a.svg", "a.pdf", "A.PNG"):
        comparison.plot(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match=r"must end in .png, .svg or .pdf; received 'a.docx'"):
        comparison.plot("a.docx")


def test_the_command_compares(pruned, dense, tmp_path, capsys):
    plot = tmp_path / "methods.png"
    assert main([str(pruned), str(dense), f"--plot={plot}"]) == 0
    assert f"The plot is in '{plot}'" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_command_plots_one_run_where_that_is_asked_for(pruned, tmp_path, capsys):
    plot = tmp_path / "one.svg"
    assert main([str(pruned), f"--plot={plot}"]) == 0
    assert f"The plot is in '{plot}'" in capsys.readouterr().out
    assert "<svg" in plot.read_text()


def test_the_command_leaves_out_what_is_not_finished(pruned, dense, tmp_path, capsys):
    begun = tmp_path / "begun"
    shutil.copytree(pruned, begun)
    (begun / "result.json").unlink()
    plot = f"--plot={tmp_path}/a.png"
    (note := tmp_path / "note.json").touch()
    assert main([str(pruned), str(begun), str(dense), str(note), plot]) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"Left out, since it is not finished: '{begun}'.\n"
        f"Left out, since it is no folder: '{note}'.\n"
    )
    assert str(pruned.name) in out and "begun" not in out
    assert main([str(begun), str(begun), plot]) == 1
    assert "the command that began it goes on with it" in capsys.readouterr().err


def test_no_folder_is_made_for_a_plot(pruned, dense, tmp_path, capsys):
    assert main([str(pruned), str(dense), f"--plot={tmp_path}/new/a.png"]) == 1
    error = capsys.readouterr().err
    assert f"there is no folder '{tmp_path}/new'" in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_the_command_writes_the_page_of_one_run(pruned, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder, ignore=shutil.ignore_patterns("report.html"))
    assert main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "inference FLOPs" in out and "report.html" in out
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name one run folder or more"),
        (["RUN", "--plots=a.png"], "did you mean --plot?"),
        (["RUN", "RUN", "--plot=a.docx"], "must end in .png, .svg or .pdf"),
        (["RUN", "nowhere"], "'nowhere' is no run folder"),
        (["nowhere"], "'nowhere' is no run folder"),
        (["RUN", "RUN", "--plot=RUN/flags.txt/a.png"], "flags.txt"),
    ],
)
def test_bad_input_is_one_sentence(pruned, capsys, arguments, says):
    assert main([argument.replace("RUN", str(pruned)) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_report_needs_no_backend(pruned):
    command = [sys.executable, "-X", "importtime", "-m", "ptkeras.report", str(pruned)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "matplotlib" in imported
    assert not {"keras", "tensorflow", "jax", "torch"} & imported
