import contextlib
import functools
import os
import pty
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from ptkeras import fisher
from ptkeras.channels import trace
from ptkeras.utils import progress

ROOT = Path(__file__).parents[2]
SCRIPT = """
import threading
import time
from ptkeras.utils.progress import bar, track, working
with working("Quickly converted"):
    pass
with working("Converting runs[/old]"):
    time.sleep(0.7)
    print("said meanwhile")
for i in track(range(3), "Quickly done"):
    pass
for i in track(range(3), "Pruning [b]"):
    print("row", i)
    time.sleep(0.4)
    with bar("Part of it", 1) as step, working("Within it"):
        step()
for i in track(range(3), "Timing", timed=True):
    time.sleep(0.3)
    print("threads", threading.active_count())
"""
RESULTS = "said meanwhile\nrow 0\nrow 1\nrow 2\n" + 3 * "threads 1\n"


@functools.cache
def shown(terminal):
    """What a script prints on standard output and on standard error."""
    command = [sys.executable, "-c", SCRIPT]
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)}
    if not terminal:
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        return done.stdout.decode(), done.stderr.decode()
    main, side = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, env=environment) as process:
        os.close(side)
        seen = b""
        try:
            while part := os.read(main, 4096):
                seen += part
        except OSError:  # the other side has closed
            pass
        out = process.stdout.read()
    os.close(main)
    return out.decode(), seen.decode()


def test_a_log_has_no_bars():
    out, error = shown(terminal=False)
    assert out == RESULTS
    assert "Pruning" not in error and "Converting" not in error


def test_a_terminal_has_them_and_results_keep_their_place():
    out, error = shown(terminal=True)
    assert out == RESULTS
    assert all(what in error for what in ("Converting", "Pruning", "Timing", "100%"))


def test_what_is_done_at_once_and_what_is_part_of_something_shown_are_not_shown():
    _, error = shown(terminal=True)
    unseen = ("Quickly converted", "Quickly done", "Part of it", "Within it")
    assert not any(what in error for what in unseen)


def test_brackets_are_text_and_not_markup():
    _, error = shown(terminal=True)
    assert "Converting runs[/old] …" in error and "Pruning [b]" in error


def test_tracing_and_fisher_information_go_step_by_step(monkeypatch):
    seen = []

    @contextlib.contextmanager
    def bar(what, total, timed=False):
        done = []
        yield lambda: done.append(None)
        seen.append((what, total, len(done)))

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)], name="inner")
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(3)(inner(inner(x))), name="outer")
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    monkeypatch.setattr(progress, "bar", bar)
    monkeypatch.setattr(sys.modules["ptkeras.channels.trace"], "bar", bar)
    trace(model)
    fisher.factors(model, np.ones((5, 4), "float32"), batch_size=2)
    traced = ("Tracing 'outer'", 4, 4)  # the Fisher information looks for its layers in a trace
    assert seen == [traced, traced, ("Fisher information", 3, 3)]
