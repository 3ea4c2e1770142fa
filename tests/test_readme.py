"""The README's commands are the ones that exist and that CI runs."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def commands():
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines()]


def test_one_line_trains_and_one_line_tests():
    setup = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt"
    train = ".venv/bin/python -m ptkeras.train --flagfile=flags/digits_resnet20.flags"
    assert f"{setup} && {train}" in commands()
    assert f"{setup} && .venv/bin/python -m pytest -n 2" in commands()


def test_ci_runs_the_readmes_test_line():
    script = (ROOT / ".ci/run").read_text()
    [extraction] = re.findall(r"^test_command=\$\((.*)\)$", script, re.MULTILINE)
    found = subprocess.run(
        ["bash", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True
    )
    [line] = found.stdout.splitlines()
    assert line in commands()


def test_flagfiles_that_the_readme_names_exist():
    for path in re.findall(r"flags/\w+\.flags", README):
        assert (ROOT / path).is_file(), path
