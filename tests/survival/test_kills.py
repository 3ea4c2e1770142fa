"""The short version of benchmarks/kills.py: a kill at each kind of moment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import kills
from ptkeras.prunetrain.records import describe

ROOT = Path(__file__).parents[2]


def test_reconfigurations_are_known_by_what_is_printed():
    pairs = dict.fromkeys(("channels", "params", "inference_flops"), (9, 8))
    line = describe({"epoch": 12, "seconds": 0.1, **pairs})
    assert kills.RECONFIGURED.match(line)[1] == "12"


@pytest.mark.slow
@pytest.mark.tensorflow
def test_runs_that_are_killed_end_bit_for_bit_like_one_that_is_not(tmp_path):
    result = tmp_path / "kills.json"
    arguments = ["--kills=4", "--epochs=2", f"--result={result}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    report = json.loads(result.read_text())
    assert report["identical"] == 4
    anywhere, reconfiguration, checkpoint, start = report["kills"]
    assert [one["moment"] for one in report["kills"]] == [
        "any",
        "reconfiguration",
        "checkpoint",
        "start",
    ]
    assert anywhere["epoch"] >= 1 and reconfiguration["epoch"] == 2
    assert reconfiguration["checkpoint"] in (1, 2) and reconfiguration["reconfigured"] in (0, 2)
    assert checkpoint["checkpoint"] >= checkpoint["epoch"] - 1
    assert start["checkpoint"] == 0 == start["reconfigured"] and start["epoch"] <= 1
