import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert f"{mean:.2%} ± {100 * statistics.stdev(accuracies):.2f}" in text
    assert "mean of 2" in text and "mean of 1" not in text


def test_a_plot_has_a_point_a_run(pruned, dense, other_seed, tmp_path):
    comparison = report.compare([pruned, dense, other_seed])
    left, right = comparison.figure().axes
    for axes, key in ((left, "inference_flops"), (right, "training_flops")):
        points = {tuple(xy) for line in axes.lines for xy in line.get_xydata().tolist()}
        assert points == {(r.result[key][1], r.result["accuracy"]) for r in comparison.runs}
    assert len({line.get_marker() for line in left.lines}) == 2
    for name in ("a.png", "a.svg", "a.pdf"):
        comparison.plot(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match=r"must end in .png, .svg or .pdf; received 'a.docx'"):
        comparison.plot("a.docx")


def test_the_command_compares(pruned, dense, tmp_path, capsys):
    plot = tmp_path / "methods.png"
    assert main([str(pruned), str(dense), f"--plot={plot}"]) == 0
    assert f"The plot is in '{plot}'" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


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
