import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from ptkeras.cli import train
from ptkeras.runs.record import Record
from ptkeras.runs.run_folder import COLUMNS
from tests.helpers.same_run import assert_same_run, rows

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]

ROOT = Path(__file__).parents[2]
SHORT = [
    "--model=tests.helpers.small_network:build",
    "--epochs=3",
    "--interval=1",
    "--threshold=0.15",
    "--ratio=0.5",
    "--batch_size=256",
    "--learning_rate=0.02",
    "--learning_rate_drops=2",
    "--weight_decay=5e-4",
]


@pytest.fixture(autouse=True, scope="module")
def _determinism_ends_here():
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def run(folder, *flags):
    return train.main([*SHORT, f"--output_dir={folder}", *flags])


def command(folder, *flags):
    return [sys.executable, "-m", "ptkeras.train", *SHORT, f"--output_dir={folder}", *flags]


def process(arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=False, **options
    )


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "pruned"
    assert run(folder) == 0
    return folder


def test_a_run_prunes_and_leaves_its_folder(pruned):
    files = {str(path.relative_to(pruned)) for path in pruned.rglob("*") if path.is_file()}
    assert files == {
        "model.keras",
        "flags.txt",
        "history.csv",
        "architecture.json",
        "norms.json",
        "checksums.txt",
        "result.json",
        "report.html",
        "checkpoints/epoch_0001.keras",
        "checkpoints/epoch_0002.keras",
        "checkpoints/epoch_0003.keras",
        "checkpoints/last.keras",
        "checkpoints/last.previous.keras",
    }
    history = rows(pruned)
    assert list(history[0]) == [name for name in COLUMNS if name != "seconds"]
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    assert [row["learning_rate"] for row in history] == ["0.02", "0.02", "0.002"]
    assert all(value for row in history for value in row.values())
    assert int(history[-1]["params"]) < int(history[0]["params"])
    result = json.loads((pruned / "result.json").read_text())
    steps = -(-1437 // 256)
    assert result["gradient_traffic"] == [
        3 * steps * int(history[0]["gradient_bytes"]),
        steps * sum(int(row["gradient_bytes"]) for row in history),
    ]
    assert result["gradient_traffic"][1] < result["gradient_traffic"][0]


def test_a_finished_run_may_be_asked_for_exports(pruned, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder)
    assert run(folder, "--export=onnx") == 0
    assert "onnxruntime" in capsys.readouterr().out
    proto = onnx.load(folder / "model.onnx")
    told = {one.key: one.value for one in proto.metadata_props}
    result = json.loads((folder / "result.json").read_text())
    assert (told["method"], told["accuracy"]) == ("prunetrain", str(result["accuracy"]))
    assert told["inference_flops"] == str(result["inference_flops"][1])
    assert json.loads(told["labels"])[9] == "9"
    assert len(json.loads(told["mean"])) == len(json.loads(told["std"])) == 1
    [name] = [port.name for port in proto.graph.input]
    assert name == "image"
    written = (folder / "model.onnx").stat().st_mtime_ns
    assert run(folder, "--export=onnx") == 0  # it is there already
    assert (folder / "model.onnx").stat().st_mtime_ns == written


def test_a_run_ends_with_its_report(pruned, tmp_path):
    page = (pruned / "report.html").read_text(encoding="utf-8")
    assert "small_network:build, prunetrain" in page and "threshold 0.15" in page
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder, ignore=shutil.ignore_patterns("report.html"))
    assert run(folder) == 0  # finished already, but without its last file
    assert "Channels of each layer over time" in (folder / "report.html").read_text()


def test_tensorboard_gets_figures_and_histograms(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorflow import make_ndarray

    folder = tmp_path / "run"
    assert stopped_run(monkeypatch, folder, 2, "--tensorboard") == 130
    assert run(folder, "--tensorboard") == 0
    events = EventAccumulator(str(folder / "tensorboard" / "train"), {"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"epoch_loss", "epoch_inference_flops", "epoch_channels", "epoch_lasso"} <= set(tags)

    def values(tag):
        found = [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        assert [step for step, _ in found] == [0, 1, 2]
        return [value for _, value in found]

    flops = [row["inference_flops"] for row in rows(folder)]
    assert values("epoch_inference_flops") == [np.float32(x) for x in flops]
    # The counts of a histogram are the weights of a kernel, as each epoch's end has left it.
    changes = json.loads((folder / "architecture.json").read_text())["reconfigurations"]
    left = {change["epoch"]: change["layers"]["last"][1] for change in changes}
    sizes = [value[:, 2].sum() for value in values("predictions/kernel/histogram")]
    first = left[1]
    second = left.get(2, first)
    assert sizes == [10 * first, 10 * second, 10 * left.get(3, second)]


def test_what_tensorboard_needs_is_looked_for_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path / "run", "--tensorboard") == 1
    assert "--tensorboard: needs tensorboard; pip install" in capsys.readouterr().err


def test_what_an_export_needs_is_looked_for_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    assert run(tmp_path / "run", "--export=saved_model,onnx") == 1
    assert "--export=onnx: needs onnx, onnxruntime, tf2onnx" in capsys.readouterr().err
    assert run(tmp_path / "run", "--export=onxx") == 1
    assert "must be some of saved_model, onnx, litert" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_architecture_can_be_followed(pruned):
    told = json.loads((pruned / "architecture.json").read_text())
    before = told["initial"]["layers"]
    assert before["last"] == 32
    assert told["reconfigurations"][0]["epoch"] == 1
    for change in told["reconfigurations"]:
        assert {name: pair[0] for name, pair in change["layers"].items()} == before
        before = {name: pair[1] for name, pair in change["layers"].items() if pair[1]}
    result = json.loads((pruned / "result.json").read_text())
    assert result["params"] == [
        told["initial"]["params"],
        told["reconfigurations"][-1]["params"][1],
    ]


def test_the_result_is_that_of_the_saved_model_in_plain_keras(pruned, tmp_path):
    script = f"""
import sys
sys.modules["ptkeras"] = None
import keras, numpy
from numpy import load
data = load({str(tmp_path / "test.npz")!r})
model = keras.models.load_model({str(pruned / "model.keras")!r})
print(model.evaluate(data["x"], data["y"], batch_size=256, verbose=0, return_dict=True)["accuracy"])
print(model.optimizer.momentum, model.count_params())
"""
    from ptkeras import data

    batches = list(data.load("digits", batch_size=256).test.as_numpy_iterator())
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.savez(tmp_path / "test.npz", x=x, y=y)
    done = process([sys.executable, "-c", script], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, momentum, params = done.stdout.split()
    result = json.loads((pruned / "result.json").read_text())
    assert float(accuracy) == pytest.approx(result["accuracy"], abs=1e-6)
    assert (momentum, int(params)) == ("0.9", result["params"][1])


def test_its_flags_repeat_a_run_bit_for_bit(pruned, tmp_path):
    again = tmp_path / "again"
    assert train.main([f"--flagfile={pruned / 'flags.txt'}", f"--output_dir={again}"]) == 0
    assert_same_run(pruned, again)


def test_a_run_trains_by_the_fused_kernel(tmp_path, monkeypatch):
    import tensorflow as tf

    kernel, seen = tf.compat.v1.nn.fused_batch_norm, []

    def counted(*args, **kwargs):
        seen.append(args[0].shape[-1])
        return kernel(*args, **kwargs)

    monkeypatch.setattr(tf.compat.v1.nn, "fused_batch_norm", counted)
    run(tmp_path / "run", "--method=dense", "--epochs=1", "--learning_rate_drops=")
    assert seen


def test_another_seed_is_another_run(pruned, tmp_path):
    assert run(tmp_path / "other", "--seed=1") == 0
    assert rows(tmp_path / "other")[0]["loss"] != rows(pruned)[0]["loss"]


def stopped_run(monkeypatch, folder, epoch, *flags):
    begin = Record.on_epoch_begin

    def stop(self, at, logs=None):
        if at == epoch:
            raise KeyboardInterrupt
        begin(self, at, logs)

    with monkeypatch.context() as patched:
        patched.setattr(Record, "on_epoch_begin", stop)
        return run(folder, *flags)


def test_a_stopped_run_goes_on_and_ends_the_same(pruned, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "parts"
    assert stopped_run(monkeypatch, folder, 2) == 130
    assert "goes on from the last finished epoch" in capsys.readouterr().err
    assert not (folder / "model.keras").exists()
    assert run(folder) == 0
    assert "after epoch 2" in capsys.readouterr().out
    assert_same_run(pruned, folder)


def test_a_terminated_run_goes_on_behind_its_last_step(pruned, tmp_path, monkeypatch, capsys):
    def terminate(self, batch, logs=None):
        if (len(self.rows), batch) == (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "on_train_batch_end", terminate)
        assert run(tmp_path / "parts") == 143
    assert "goes on from step 4 of epoch 2" in capsys.readouterr().err
    assert run(tmp_path / "parts") == 0
    assert "after step 4 of epoch 2" in capsys.readouterr().out
    assert_same_run(pruned, tmp_path / "parts")


def test_a_run_that_was_stopped_before_its_last_file_finishes(pruned, tmp_path):
    folder = tmp_path / "late"
    shutil.copytree(pruned, folder)
    (folder / "result.json").unlink()
    (folder / "model.keras").unlink()
    assert run(folder) == 0
    assert_same_run(pruned, folder)


def test_a_batch_that_grew_has_grown_after_a_stop(tmp_path, monkeypatch):
    flags = ["--dynamic_batch", "--batch_size=128", "--threshold=0.15"]
    assert run(tmp_path / "whole", *flags) == 0
    assert int(rows(tmp_path / "whole")[-1]["batch_size"]) > 128
    assert stopped_run(monkeypatch, tmp_path / "parts", 2, *flags) == 130
    assert run(tmp_path / "parts", *flags) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_is_shown_and_not_repeated(pruned, capsys):
    before = {path: path.stat().st_mtime_ns for path in pruned.rglob("*")}
    assert run(pruned) == 0
    out = capsys.readouterr().out
    assert "is finished" in out and "inference FLOPs" in out and "removed" in out
    assert {path: path.stat().st_mtime_ns for path in pruned.rglob("*")} == before


def test_a_folder_with_another_run_is_left_alone(pruned, capsys):
    assert run(pruned, "--ratio=0.4") == 1
    error = capsys.readouterr().err
    assert "holds another run (--ratio is 0.5 there and 0.4 here)" in error
    assert error.count("\n") == 1


def test_a_dense_run_keeps_the_same_accounts(pruned, tmp_path, capsys):
    folder = tmp_path / "dense"
    assert run(folder, "--method=dense") == 0
    assert "removed" not in capsys.readouterr().out
    history, other = rows(folder), rows(pruned)
    assert list(history[0]) == list(other[0])
    for name in ("params", "channels", "inference_flops"):
        assert {row[name] for row in history} == {other[0][name]}
    assert history[0]["training_flops"] == other[0]["training_flops"]
    result = json.loads((folder / "result.json").read_text())
    assert result["training_flops"][0] == result["training_flops"][1]
    assert int(history[-1]["training_flops"]) == result["training_flops"][1]
    assert (
        result["training_flops"][0]
        == json.loads((pruned / "result.json").read_text())["training_flops"][0]
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--ratio=1"], "--ratio=1: must be over 0 and under 1"),
        (["--dataset=cifar1"], "did you mean cifar10"),
        (["--dataset=digit"], "did you mean digits"),
        (["--model=resnet21"], "did you mean resnet"),
        (["--model=MobileNetV9"], "did you mean MobileNetV"),
        (["--dataset=cifar10", "--data_dir=EMPTY"], "is not prepared in data_dir"),
        (["--dataset=cifar10", "--data_dir=EMPTY/none"], "is not a folder"),
        (["--batch_size=2000"], "batch_size must be at most 1437"),
        (["--output_dir=EMPTY/../file"], "is a file; choose another --output_dir"),
        (["--output_dir=EMPTY/../file/run"], "is a file; choose another --output_dir"),
        (["--output_dir=EMPTY/.."], "holds files that are no run's"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, capsys, flags, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    flags = [flag.replace("EMPTY", str(tmp_path / "empty")) for flag in flags]
    assert run(tmp_path / "run", *flags) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.strip().count("\n") == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, capsys):
    assert run(tmp_path, "--method=dense", "--learning_rate=1e25") == 1
    error = capsys.readouterr().err
    assert "in epoch 1" in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.keras"))


def test_a_full_disk_ends_the_run_with_a_sentence(tmp_path, capsys, monkeypatch):
    import keras

    def full(self, path, *args, **kwargs):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "save", full)
        assert run(tmp_path, "--method=dense") == 1
    assert "No space left on device" in capsys.readouterr().err


def test_a_fault_of_others_keeps_its_traceback(tmp_path, monkeypatch):
    import keras

    def broken(*args, **kwargs):
        return np.zeros(3).reshape(2)

    monkeypatch.setattr(keras.Model, "fit", broken)
    with pytest.raises(ValueError, match="reshape"):
        run(tmp_path)


def test_the_command_says_what_is_wrong_and_exits():
    done = process([sys.executable, "-m", "ptkeras.train", "--momentum=1"])
    assert done.returncode == 1
    assert done.stdout == ""
    # Nothing of TensorFlow's either, which takes seconds to import.
    assert done.stderr == "flag --momentum=1: must be from 0 to under 1.\n"


def test_help_is_printed(capsys):
    assert train.main(["--help"]) == 0
    assert "--learning_rate_drops" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(ROOT.glob("flags/*.flags")), ids=lambda path: path.stem)
def test_the_shipped_flagfiles_are_in_range(path):
    from ptkeras import models
    from ptkeras.methods import settings

    assert settings.parse([f"--flagfile={path}"]).model in models.names()


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_the_same(tmp_path):
    assert process(command(tmp_path / "whole")).returncode == 0
    folder = tmp_path / "parts"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(command(folder), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "epoch_0002.keras").exists():
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folder / "result.json").exists()
    done = process(command(folder))
    assert done.returncode == 0, done.stderr
    assert "Going on" in done.stdout
    assert_same_run(tmp_path / "whole", folder)
