"""Trainings on several devices and in several processes, each started as a user would start it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ptkeras.survival.checkpoint import read_state
from tests.helpers.same_run import assert_same_run, rows

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SMALL = [
    "--epochs=6",
    "--interval=2",
    "--batch_size=60",
    "--learning_rate=0.02",
    "--ratio=0.3",
]
RUN = [
    "--model=tests.helpers.small_network:build",
    "--epochs=3",
    "--interval=1",
    "--threshold=0.1",
    "--ratio=0.5",
    "--batch_size=256",
    "--learning_rate=0.02",
]
# Accuracies of two trainings on 360 images, each right with a probability of 0.93, have a standard
# deviation of 0.02 between them. Three of those; chance would be right in 0.1 of the images.
LIKE_ONE_DEVICE = 0.06


def start(module, *arguments, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for processes, and wants all to end well."""
    for process in processes:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]


def results(folder):
    with np.load(folder / "weights.npz") as file:
        weights = [file[name] for name in sorted(file.files)]
    return weights, json.loads((folder / "facts.json").read_text())


def accuracy(facts):
    return np.mean(facts["val_accuracy"][-3:])


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    finish(start("tests.helpers.distributed_run", folder, *SMALL))
    return results(folder)


@pytest.mark.parametrize("number", [2, 4])
def test_mirrored_replicas_stay_equal_and_learn_as_one_device_does(tmp_path, number, single):
    devices = ",".join(f"CPU:{i}" for i in range(number))
    flags = ["--strategy=mirrored", f"--devices={devices}"]
    finish(start("tests.helpers.distributed_run", tmp_path, *SMALL, *flags))
    _, facts = results(tmp_path)
    assert facts["devices"] == [number]
    assert facts["replicas_differ_in"] == []
    assert len(facts["channels"]) >= 3
    assert facts["examples"] == 1437 - 1437 % number
    # The first batch's loss is the same but for batch norm, whose statistics are each device's own.
    assert facts["strength"] == pytest.approx(single[1]["strength"], rel=0.1)
    assert accuracy(facts) == pytest.approx(accuracy(single[1]), abs=LIKE_ONE_DEVICE)


def test_data_parallel_trains_as_one_device_does(tmp_path):
    environment = {"KERAS_BACKEND": "jax"}
    finish(start("tests.helpers.distributed_run", tmp_path / "one", *SMALL, **environment))
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    flags = ["--strategy=data_parallel"]
    finish(start("tests.helpers.distributed_run", tmp_path / "two", *SMALL, *flags, **environment))
    (_, one), (_, two) = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["devices"] == [2]
    assert two["replicas_differ_in"] == []
    assert len(two["channels"]) >= 3
    # Here batch norm takes its statistics over all devices: but for rounding, and for the image
    # that the last batch is cut by, the first epoch is that of one device.
    assert two["strength"] == pytest.approx(one["strength"], rel=1e-4)
    assert two["loss"][0] == pytest.approx(one["loss"][0], rel=0.01)
    assert accuracy(two) == pytest.approx(accuracy(one), abs=LIKE_ONE_DEVICE)


@pytest.mark.parametrize("strategy", ["mirrored", "data_parallel"])
def test_the_command_trains_on_several_devices_and_goes_on_after_a_signal(tmp_path, strategy):
    devices, environment = "CPU:0,CPU:1", {}
    if strategy == "data_parallel":
        environment = {
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        }
    flags = [f"--strategy={strategy}", f"--devices={devices}", *RUN]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    if strategy == "data_parallel":
        finish(start("ptkeras.train", f"--output_dir={whole}", *flags, **environment))
    flags.append(f"--output_dir={parts}")
    run = start("ptkeras.train", *flags, **environment)
    deadline = time.monotonic() + 300
    while not (parts / "checkpoints" / "last.keras").exists():
        assert time.monotonic() < deadline and run.poll() is None, run.stdout.read()[-3000:]
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 143, output[-3000:]
    assert "goes on from" in output and "Traceback" not in output
    finish(start("ptkeras.train", *flags, **environment))
    # Under tf.distribute a run that is stopped within an epoch does not end bit for bit.
    if strategy == "data_parallel":
        assert_same_run(whole, parts)  # weights and slots to the last bit
    result = json.loads((parts / "result.json").read_text())
    assert result["epochs"] == 3
    for name in ("params", "inference_flops", "gradient_traffic"):
        dense, now = result[name]
        assert now < dense
    assert len(rows(parts)) == 3


def free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_workers(module, *arguments):
    """Two processes of one cluster; {worker} in an argument becomes the number of each."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    return [
        start(
            module,
            *(str(argument).replace("{worker}", str(index)) for argument in arguments),
            "--strategy=multi_worker",
            TF_CONFIG=json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": index}},
            ),
        )
        for index in range(2)
    ]


def test_two_workers_come_to_the_same_network(tmp_path, single):
    finish(*start_workers("tests.helpers.distributed_run", tmp_path / "{worker}", *SMALL))
    (ours, facts), (theirs, others) = (results(tmp_path / str(worker)) for worker in range(2))
    assert len(facts["channels"]) >= 2
    assert facts == others
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (tmp_path / "0" / "last.keras").exists()
    assert not (tmp_path / "1" / "last.keras").exists()  # the chief alone writes
    assert facts["examples"] == 1436
    assert accuracy(facts) == pytest.approx(accuracy(single[1]), abs=LIKE_ONE_DEVICE)


def run_workers(folder):
    # Each has a disk of its own, as on two machines.
    return start_workers("ptkeras.train", f"--output_dir={folder}{{worker}}", *RUN)


def test_where_one_worker_is_killed_both_go_on_and_end_the_same(tmp_path):
    finish(*run_workers(tmp_path / "whole"))
    chief, other = run_workers(tmp_path / "parts")
    deadline = time.monotonic() + 300
    while not (tmp_path / "parts0" / "checkpoints" / "last.keras").exists():
        assert time.monotonic() < deadline and chief.poll() is None
        time.sleep(0.05)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    output, _ = chief.communicate(timeout=300)
    assert chief.returncode == 1
    assert "Another worker has stopped" in output and "Traceback" not in output
    assert not (tmp_path / "parts0" / "result.json").exists()
    finish(*run_workers(tmp_path / "parts"))
    assert_same_run(tmp_path / "whole0", tmp_path / "parts0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts0", "whole0"]


def test_a_signal_to_one_worker_stops_both_within_the_epoch_and_both_go_on(tmp_path):
    flags = [*RUN, "--batch_size=32"]  # 44 steps an epoch, and the workers ask every 10
    workers = start_workers("ptkeras.train", f"--output_dir={tmp_path / 'run'}{{worker}}", *flags)
    deadline = time.monotonic() + 300
    checkpoint = tmp_path / "run0" / "checkpoints" / "last.keras"
    while not checkpoint.exists():
        assert time.monotonic() < deadline and workers[0].poll() is None
        time.sleep(0.05)
    workers[1].send_signal(signal.SIGTERM)
    for worker in workers:
        output, _ = worker.communicate(timeout=300)
        assert worker.returncode == 143, output[-3000:]
        assert re.search(r"goes on from step \d+0 of epoch 2", output), output[-3000:]
        assert "Traceback" not in output
    assert read_state(checkpoint)["step"] % 10 == 0
    finish(*start_workers("ptkeras.train", f"--output_dir={tmp_path / 'run'}{{worker}}", *flags))
    assert len(rows(tmp_path / "run0")) == 3
    params, now = json.loads((tmp_path / "run0" / "result.json").read_text())["params"]
    assert now < params


def test_workers_with_different_flags_are_told_apart(tmp_path):
    seeds = start_workers("ptkeras.train", f"--output_dir={tmp_path / 'run'}", "--seed={worker}")
    for process in seeds:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "The workers differ in their flags: worker 1 from worker 0" in output
    assert not list(tmp_path.iterdir())
