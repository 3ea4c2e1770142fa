"""A type checker knows the public names of ptkeras, and reports all others."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ptkeras

pytest.importorskip("mypy")

ROOT = Path(ptkeras.__file__).parents[1]
# The packages that import their names when they are asked for.
LAZY = ("ptkeras", "ptkeras.export", "ptkeras.skipnet", "ptkeras.survival")
SCRIPT = """
import keras

import ptkeras
import ptkeras.survival
from ptkeras import MagnitudePrunning  # typo
from ptkeras.export import to_onix  # typo
from ptkeras.survival import Survivel  # typo

pruning = ptkeras.PruneTrain(ratio=0.2)
other = ptkeras.PruneTrain(ratoi=0.2)  # typo
report = ptkeras.prun(keras.Model(), 0.5)  # typo
report = ptkeras.prune(keras.Model(), 0.5)
print(report.params, report.parms)  # typo
print(pruning.reconfigurations[0]["params"], pruning.reconfigurations[0]["parms"])  # typo
ptkeras.lasso.is_atached  # typo
ptkeras.export.to_onix  # typo
ptkeras.skipnet.onnx_latency
ptkeras.skipnet.onnx_latence  # typo
ptkeras.survival.Survivel  # typo
ptkeras.channels.trase  # typo
"""


def test_a_typo_is_an_error_for_mypy(tmp_path):
    names = [
        f"{module}.{name}" for module in LAZY for name in importlib.import_module(module).__all__
    ]
    lines = [*SCRIPT.splitlines(), *names]
    script = tmp_path / "script.py"
    script.write_text("\n".join(lines))
    run = subprocess.run(
        [sys.executable, "-m", "mypy", script],
        cwd=ROOT,  # with the settings in pyproject.toml
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    errors = {
        int(n) for n in re.findall(r"^\S*script\.py:(\d+): error: ", run.stdout, re.MULTILINE)
    }
    typos = {n for n, line in enumerate(lines, 1) if line.endswith("# typo")}
    assert errors == typos, run.stdout + run.stderr
