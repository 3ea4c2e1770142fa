"""Every flag of ptkeras.train, fed what it cannot take: one sentence, and nothing written."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import keras
import pytest
from hypothesis import strategies as st

from ptkeras import methods
from ptkeras.cli import train
from ptkeras.methods import settings
from ptkeras.utils import flagging

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]
FLAGS = settings.table().flags
SECONDS = 20

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BLANK = st.text(" \t\n\r", max_size=3)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=12)
WRONG = st.one_of(
    TEXT,
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.integers(-3, 100), max_size=4).map(lambda items: ",".join(map(str, items))),
    st.sampled_from(
        ["", "nan", "-inf", "1e999", "0x10", "1_000", "None", "true", "[]", "1,", "-0"]
    ),
)


def never_fit(*args, **kwargs):
    raise AssertionError("a training has begun")


def refused(arguments):
    """What the command says; fails if it does anything else."""
    errors = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("TF_CONFIG", raising=False)
        patch.setattr(keras.Model, "fit", never_fit)
        patch.setattr(sys, "stdout", io.StringIO())
        started = time.process_time()  # what else the machine does is no fault of the command
        with contextlib.redirect_stderr(errors):
            status = train.main(arguments)
        assert time.process_time() - started < SECONDS
        assert not list(Path(folder).rglob("*"))
    said = errors.getvalue()
    assert status == 1
    assert said.endswith("\n") and len(said.splitlines()) == 1 and said.strip()
    return said


def is_wrong(flag, text):
    try:
        flag.parser.parse(text)
    except (ValueError, settings.SettingsError):
        return True
    return False


@pytest.mark.parametrize("flag", FLAGS.values(), ids=lambda flag: flag.name)
@hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(values=st.data())
def test_a_value_that_a_flag_cannot_take(flag, values):
    text = values.draw(BLANK if flag.parser is flagging.TEXT else WRONG)
    hypothesis.assume(is_wrong(flag, text))
    said = refused([f"--{flag.name}={text}"])
    assert f"--{flag.name}" in said and "must be " in said


@hypothesis.settings(max_examples=100)
@hypothesis.given(name=WORDS, value=TEXT)
def test_a_flag_that_is_none(name, value):
    hypothesis.assume(name not in FLAGS and name.removeprefix("no") not in FLAGS)
    hypothesis.assume(name not in ("flagfile", "undefok", "h", "help"))
    assert f"Unknown flag --{name}" in refused([f"--{name}={value}"])


@hypothesis.settings(max_examples=50)
@hypothesis.given(word=TEXT)
def test_a_word_that_is_no_flag(word):
    hypothesis.assume(not word.startswith("-"))
    assert "is not a flag" in refused([word])


@st.composite
def contradictions(draw):
    """Flags of which each is in its range, and which together cannot be followed."""
    kind = draw(st.sampled_from(sorted(CONTRADICTIONS)))
    return CONTRADICTIONS[kind](draw)


def _several(draw):
    return draw(st.sampled_from(settings.STRATEGIES[1:]))


CONTRADICTIONS = {
    "interval": lambda draw: [
        f"--epochs={(epochs := draw(st.integers(1, 99)))}",
        f"--interval={epochs + draw(st.integers(1, 99))}",
    ],
    "drops": lambda draw: [
        "--interval=1",
        f"--epochs={(epochs := draw(st.integers(1, 99)))}",
        f"--learning_rate_drops={epochs + draw(st.integers(0, 99))}",
    ],
    "pruning": lambda draw: [
        "--method=magnitude",
        f"--pruning_begin={(begin := draw(st.integers(1, 30)))}",
        f"--pruning_end={draw(st.one_of(st.integers(0, begin - 1), st.integers(60, 99)))}",
    ],
    "devices": lambda draw: [
        f"--strategy={draw(st.sampled_from(['none', 'multi_worker', 'tpu']))}",
        f"--devices=GPU:{draw(st.integers(0, 9))}",
    ],
    "method": lambda draw: [
        f"--strategy={_several(draw)}",
        f"--method={draw(st.sampled_from(sorted({*methods.names()} - {*methods.distributed()})))}",
    ],
    "share": lambda draw: [
        "--strategy=mirrored",
        "--devices=CPU:0,CPU:1,CPU:2",
        f"--batch_size={3 * draw(st.integers(1, 99)) + draw(st.integers(1, 2))}",
    ],
    "backend": lambda draw: ["--strategy=data_parallel"],
    "cluster": lambda draw: ["--strategy=multi_worker"],
    "tpu": lambda draw: ["--strategy=tpu", "--method=dense"],
    "gpu": lambda draw: ["--strategy=mirrored", f"--devices=GPU:{draw(st.integers(0, 9))}"],
    "large batch": lambda draw: [f"--batch_size={draw(st.integers(1438, 10**9))}"],
}


@hypothesis.settings(max_examples=150)
@hypothesis.given(flags=contradictions())
def test_flags_that_contradict_each_other(flags):
    refused(flags)


@hypothesis.settings(max_examples=25)
@hypothesis.given(name=WORDS, flag=st.sampled_from(["dataset", "model"]))
def test_names_that_nothing_has(name, flag):
    said = refused([f"--{flag}=no_{name}"])
    assert f"no_{name}" in said


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--method=skipnet", "--model=vgg8"], "no residual block"),
        (["--method=static_dynamic", "--model=vgg8"], "no residual block"),
        (["--method=pruning_from_scratch", "--flops_budget=1e-9"], "nearest to a budget of 1e-09"),
        (["--method=pruning_from_scratch", "--gate_batch_size=1294"], "must be at most 1293"),
    ],
    ids=["skipnet", "static_dynamic", "flops_budget", "gate_batch_size"],
)
def test_what_a_method_cannot_do_with_a_network(flags, says):
    assert says in refused(flags)  # and nothing written, so that the folder takes other flags


@pytest.mark.parametrize("path", ["FILE", "FILE/run", "FULL", "a" * 300, "/proc/nowhere", "a\0b"])
def test_a_place_that_cannot_be_written(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    path = path.replace("FILE", str(tmp_path / "file")).replace("FULL", str(tmp_path / "full"))
    before = sorted(tmp_path.rglob("*"))
    assert "--output_dir" in refused([f"--output_dir={path}"])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        [b"--epochs=0"],
        [b"--dataset=\xff\xfe"],
        [b"--epochs=2", b"--interval=3"],
        [b"--strategy=multi_worker"],
        [b"--flagfile=/nowhere"],
        [b"--method=skipnet", b"--model=vgg8"],
    ],
)
def test_the_command_itself(tmp_path, arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    before = processor_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "ptkeras.train", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert processor_seconds() - before < SECONDS
    lines = [line for line in done.stderr.splitlines() if not is_of_tensorflow(line)]
    assert len(lines) == 1, done.stderr
    assert not list(tmp_path.iterdir())


def processor_seconds():
    """The processor time of all child processes that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def is_of_tensorflow(line):
    """Whether a line is one that TensorFlow's C++ prints when it is imported."""
    return line.startswith((b"WARNING: All log messages", b"I0000", b"W0000", b"E0000"))
