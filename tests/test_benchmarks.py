import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import gpu, measuring, memory, speed_up, tables

ROOT = Path(__file__).parents[1]


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


def test_what_fused_batch_norm_saves_is_told_of_the_rounds():
    dense = {"model": "vgg8", "channels": "dense", "flops": 1.0, "milliseconds": [9, 8]}
    pruned = {"model": "vgg8", "channels": "multiples of 4", "flops": 0.5, "milliseconds": [9, 6]}
    table = tables.TABLES["batch_norm_step"]({"networks": [dense, pruned]})
    assert "| vgg8, dense | 100% | 9 | 8 |  |" in table
    assert "| vgg8, multiples of 4 | 50% | 9 | 6 | 0.50 |" in table  # of the medians
    pruned["saved_over_removed"] = measuring.ratio("", [0.2, 0.3, 0.4], [0.5] * 3)
    table = tables.TABLES["batch_norm_step"]({"networks": [dense, pruned]})
    assert "| vgg8, multiples of 4 | 50% | 9 | 6 | 0.60 |" in table


@pytest.mark.parametrize("name", command.QUICK)
def test_every_quick_benchmark_takes_its_arguments(name, monkeypatch):
    if name == "magnitude_step":
        pytest.importorskip("tensorflow_model_optimization")
    read = argparse.ArgumentParser.parse_args

    def parse_args(parser, arguments):
        sys.exit(vars(read(parser, arguments)))  # it goes no further

    benchmark = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    arguments = command.QUICK[name]
    with pytest.raises(SystemExit) as ended:
        benchmark.main(arguments)
    wanted = dict(argument.removeprefix("--").split("=") for argument in arguments)
    assert isinstance(ended.value.code, dict), f"{arguments} are refused"
    given = {key: str(value) for key, value in ended.value.code.items()}
    assert given | wanted == given
    with pytest.raises(SystemExit, match="2"):
        benchmark.main([*arguments, "--no_such=1"])


def test_a_benchmark_that_is_not_there_is_refused():
    with pytest.raises(SystemExit):
        command.main(["no_such"])


def test_the_benchmarks_of_the_table_are_there():
    for name in tables.OVERVIEW:
        assert (ROOT / "benchmarks" / f"{tables.module(name)}.py").is_file(), name


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_is_that_of_the_process_alone():
    small, large = (memory.peak(f"x = bytearray({n})") for n in (1, 200_000_000))
    assert 150_000_000 < large - small < 250_000_000
    with pytest.raises(RuntimeError, match="failed with status 3"):
        memory.peak("raise SystemExit(3)")


def test_saving_is_told_by_the_rounds():
    def runs(seconds, flops):
        pairs = zip(seconds, flops, strict=True)
        shared = {"accuracy": 0.9, "epochs": 5, "made": {"commit": f"after {len(seconds)} rounds"}}
        return [{"seconds": s, "training_flops": [100, f], **shared} for s, f in pairs]

    dense, pruned = runs([10.0, 20.0, 10.0], [100] * 3), runs([6.0, 10.0, 7.0], [60, 60, 50])
    row, (saved, removed) = speed_up.figures("exact", dense, pruned)
    assert saved == pytest.approx([0.4, 0.5, 0.3]) and removed == pytest.approx([0.4, 0.4, 0.5])
    assert row["seconds_saved"] == pytest.approx(0.4)
    assert row["made"] == [[{"commit": "after 3 rounds"}] * 3] * 2
    with pytest.raises(SystemExit, match="removed nothing in 5 epochs"):
        speed_up.figures("exact", dense, dense)


def test_the_runs_of_a_speed_up_are_those_of_its_flags():
    def flags(method, form="exact", epochs=None, model="vgg11"):
        told = {"dataset": "cifar10", "model": model, "epochs": epochs}
        found = speed_up.flags_of(argparse.Namespace(**told), method, form)
        return dict(flag.removeprefix("--").split("=") for flag in found if "=" in flag)

    dense, pruned = flags("dense"), flags("prunetrain", "multiples of 16")
    assert pruned["method"] == "prunetrain" and pruned["channel_multiple"] == "16"
    alike = ("learning_rate", "learning_rate_drops", "epochs", "batch_size", "model")
    assert {name: dense[name] for name in alike} == {name: pruned[name] for name in alike}
    assert "ratio" not in dense and "channel_multiple" not in dense
    assert flags("dense", model="resnet20")["learning_rate"] != dense["learning_rate"]
    shorter = flags("prunetrain", epochs=2)
    assert shorter["epochs"] == "2" and shorter["learning_rate_drops"] == ""


def test_forms_that_are_not_there_are_refused_before_anything_is_trained(capsys):
    with pytest.raises(SystemExit):
        speed_up.main(["--forms=exact,squared"])
    assert "'squared' is none of exact, multiples of 8" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["x", "1", "0.0", "0.6,"])
def test_shares_of_flops_are_checked(left, capsys):
    with pytest.raises(SystemExit):
        gpu.main([f"--left={left}"])
    assert "is no share over 0 and under 1" in capsys.readouterr().err


def test_the_benchmarks_go_on_behind_one_that_fails(monkeypatch, capfd):
    begun, written = [], []

    def fails(command, **_):
        begun.append(command)
        return subprocess.CompletedProcess(command, "benchmarks.lasso_step" in command)

    monkeypatch.setattr(subprocess, "run", fails)
    monkeypatch.setattr(tables, "main", lambda: written.append(True))
    assert command.main([]) == 1
    assert [line[2] for line in begun] == [f"benchmarks.{name}" for name in command.QUICK]
    assert written and "Failed: lasso_step\n" in capfd.readouterr().err
    assert command.main(["memory"]) == 0


@pytest.mark.parametrize("path", sorted(measuring.RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_every_result_that_is_kept_says_where_it_is_from(path):
    told = json.loads(path.read_text(encoding="utf-8"))
    for name in ("date", "machine", "processor", "commit", "versions", "settings"):
        assert told.get(name) is not None, f"{path.name} does not say its {name}"
    assert told["versions"]["ptkeras"]


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
    assert {"decide", "resize", "first step", "first evaluation"} <= set(parts)
    assert parts["retrace the step"] > 0 and parts["retrace the evaluation"] > 0
    assert sum(parts.values()) > parts["retrace the step"] + parts["retrace the evaluation"]


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_options_of_keras_are_measured(tmp_path):
    told = run("tensorflow", "step_options", ["--rounds=2", "--steps=1"], tmp_path)
    assert len(told["ratios"]) == 4 and all(line["ratio"] > 0 for line in told["ratios"])
    first = [row["seconds_of_first_fit"] for row in told["networks"]]
    assert all(min(seconds.values()) > 0 for seconds in first)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_what_fused_batch_norm_saves_is_measured(tmp_path):
    arguments = ["vgg8", *TINY, "--rounds=3", "--steps=1"]
    told = run("tensorflow", "batch_norm_step", arguments, tmp_path)
    dense, *pruned = told["networks"]
    assert [row["channels"] for row in pruned] == [f"multiples of {n}" for n in (1, 4, 8, 16)]
    assert "saved_over_removed" not in dense and len(told["ratios"]) == 5
    for row in pruned:
        assert row["flops"] < 1 and row["saved_over_removed"]["rounds"] == 3
    assert tables.TABLES["batch_norm_step"](told).count("\n") == 7


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_step_of_a_pruned_network_is_measured(tmp_path):
    told = run("tensorflow", "pruned_step", ["vgg8", *TINY, "--steps=1"], tmp_path)
    assert told["ratios"][0]["ratio"] > 0
    assert set(told["models"][0]["seconds_a_step"]) == {"pruned", "built"}


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_step_of_magnitude_pruning_is_measured(tmp_path):
    pytest.importorskip("tensorflow_model_optimization")
    arguments = [*TINY, "--rounds=2", "--steps=2", "--frequency=2"]
    told = run("tensorflow", "magnitude_step", arguments, tmp_path)
    assert len(told["ratios"]) == len(told["of_processors"]) == 2
    assert all(line["rounds"] == 2 for line in told["ratios"] + told["of_processors"])
    names = {"keras3", "ptkeras", "keras2", "tfmot"}
    assert set(told["seconds_a_step"]) == set(told["cpu_seconds_a_step"]) == names


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_input_pipelines_are_measured(tmp_path):
    told = run("tensorflow", "input_pipeline", ["--rounds=1"], tmp_path)
    assert all(rate > 0 for rate in told["images_per_second"].values())
    assert len(told["ratios"]) == 2 and told["settings"]["rounds"] == 1


@pytest.mark.slow
@pytest.mark.tensorflow
def test_tracing_and_pruning_are_measured(tmp_path):
    told = run("tensorflow", "applications", ["MobileNet", "--repeats=3"], tmp_path)
    [row] = told["networks"]
    assert row["params_left"] < row["params"]
    for what in ("trace", "prune"):
        low, high = row[f"{what}_quartiles_s"]
        assert 0 < low <= row[f"{what}_s"] <= high
    assert "| MobileNet |" in tables.TABLES["applications"](told)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_peers_are_measured(tmp_path):
    for package in ("torch", "torchvision", "torch_pruning"):
        pytest.importorskip(package)
    told = run("tensorflow", "peers", [*TINY, "--steps=1"], tmp_path)
    assert len(told["ratios"]) == 3 and set(told["seconds_a_step_added"]) == {
        "ptkeras",
        "torch_pruning",
    }
    assert len(told["of_processors"]) == 3
    arguments = ["MobileNetV3Small", "--repeats=1"]
    [row] = run("tensorflow", "torch_pruning", arguments, tmp_path)["networks"]
    assert row["params_left"] < row["params"] and row["torch_pruning_params_left"] < row["params"]
