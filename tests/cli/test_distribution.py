"""--strategy: what cannot be followed is told of in a sentence, before any work."""

import json

import keras
import pytest

from ptkeras.cli import distribution
from ptkeras.methods import settings
from ptkeras.methods.settings import SettingsError

CLUSTER = {"worker": ["127.0.0.1:2222", "127.0.0.1:2223"]}
TASK = {"type": "worker", "index": 1}
BACKEND = keras.backend.backend()


def refusal(*flags):
    with pytest.raises(SettingsError) as caught:
        distribution.start(settings.parse(flags))
    message = str(caught.value)
    assert message.startswith("flag --") and message.endswith(".") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--strategy=many"], "must be none, mirrored, multi_worker, tpu or data_parallel"),
        (["--devices=GPU:0"], "must be left out with --strategy=none"),
        (["--strategy=multi_worker", "--devices=GPU:0"], "must be left out with --strategy=mult"),
        (["--strategy=mirrored", "--devices=GPU"], "must be devices, each once"),
        (["--strategy=mirrored", "--devices=gpu:0,GPU:0"], "must be devices, each once"),
        (["--strategy=mirrored", "--devices=CPU:0,CPU:1,CPU:2"], "--batch_size=32: must be a mult"),
        (["--strategy=mirrored", "--method=magnitude"], "must be none with --method=magnitude"),
    ],
)
def test_flags_that_contradict_each_other_are_told_of_at_once(flags, says):
    with pytest.raises(SettingsError) as caught:
        settings.parse(flags)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker", "tpu", "data_parallel"])
def test_a_strategy_of_another_backend_is_refused(strategy):
    needed = "jax" if strategy == "data_parallel" else "tensorflow"
    if needed != BACKEND:
        assert f"set KERAS_BACKEND={needed}" in refusal(f"--strategy={strategy}")


def test_without_a_strategy_nothing_is_started():
    devices = distribution.start(settings.parse([]))
    assert (devices.replicas, devices.workers, devices.is_chief) == (1, 1, True)
    assert devices.from_chief(lambda: 3) == 3


@pytest.mark.tensorflow
def test_devices_that_are_not_here_are_told_of():
    assert "no GPU is here; --devices=CPU:0,CPU:1 tries" in refusal("--strategy=mirrored")
    flags = ["--strategy=mirrored", "--devices=GPU:7"]
    assert "GPU:7 is not here; there are CPU:0" in refusal(*flags)


@pytest.mark.tensorflow
def test_without_a_tpu_it_is_told_of(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    assert "no TPU is here (Please provide a TPU Name" in refusal("--strategy=tpu")


@pytest.mark.tensorflow
def test_a_batch_that_cannot_be_shared_out_is_told_of(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": TASK}))
    said = refusal("--strategy=multi_worker", "--batch_size=33")
    assert "--batch_size=33: must be a multiple of 2" in said
    three = {"worker": [*CLUSTER["worker"], "127.0.0.1:2224"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": three, "task": TASK}))
    said = refusal("--strategy=multi_worker", "--batch_size=33", "--dynamic_batch")
    assert "grows by multiples of 32, which 3 devices cannot share" in said


@pytest.mark.tensorflow
def test_without_tf_config_its_form_is_told(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    said = refusal("--strategy=multi_worker")
    assert "TF_CONFIG is not set" in said and '"task": {"type": "worker", "index": 0}' in said


def config(cluster=CLUSTER, task=TASK):
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("{", "is no JSON"),
        ("3", "must have a cluster and a task"),
        ("{}", "must have a cluster and a task"),
        (config(cluster=[]), "must have a cluster and a task"),
        (config(cluster={}), "workers alone"),
        (config(cluster=CLUSTER | {"ps": ["a:1"]}), "workers alone"),
        (config(cluster={"worker": "127.0.0.1:2222"}), "as HOST:PORT"),
        (config(cluster={"worker": ["127.0.0.1"]}), "as HOST:PORT"),
        (config(cluster={"worker": ["127.0.0.1:0"]}), "as HOST:PORT"),
        (config(cluster={"worker": ["127.0.0.1:99999"]}), "as HOST:PORT"),
        (config(cluster={"worker": [None]}), "as HOST:PORT"),
        (config(cluster={"worker": ["a:1", "a:1"]}), "an address twice"),
        (config(cluster={"chief": ["a:1", "a:2"]}), "one chief"),
        (config(task={"type": "worker", "index": 2}), "has no worker 2"),
        (config(task={"type": "worker", "index": -1}), "has no worker -1"),
        (config(task={"type": "worker", "index": "0"}), "has no worker 0"),
        (config(task={"type": "worker", "index": True}), "has no worker True"),
        (config(task={"type": "chief", "index": 0}), "has no chief 0"),
        (config(task={"type": ["worker"], "index": 0}), "has no"),
        (config(task={}), "has no"),
    ],
)
def test_a_tf_config_that_cannot_be_followed_is_told_of(text, says):
    with pytest.raises(SettingsError) as caught:
        distribution.read_cluster(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_chief_comes_first():
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    assert distribution.read_cluster(config(cluster)) == (["a:1", "b:1", "c:1"], 2)
    task = {"type": "chief", "index": 0}
    assert distribution.read_cluster(config(cluster, task)) == (["a:1", "b:1", "c:1"], 0)
    assert distribution.read_cluster(config()) == (CLUSTER["worker"], 1)
