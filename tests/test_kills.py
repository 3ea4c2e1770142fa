"""The short version of benchmarks/kills.py: a kill at each kind of moment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.tensorflow
def test_runs_that_are_killed_end_bit_for_bit_like_one_that_is_not(tmp_path):
    result = tmp_path / "kills.json"
    arguments = ["--kills=3", "--epochs=2", f"--result={result}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    report = json.loads(result.read_text())
    assert report["identical"] == 3
    assert [one["moment"] for one in report["kills"]] == ["any", "reconfiguration", "checkpoint"]
