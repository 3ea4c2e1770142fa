"""The README's commands are the ones that exist and that CI runs, and its inference runs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_the_tools_that_the_readme_names_exist():
    tools = re.findall(r"python -m (export\.\w+|benchmarks\.\w+)", README)
    assert {"export.to_onnx", "export.benchmark", "benchmarks.export_speed"} <= set(tools)
    for tool in tools:
        assert (ROOT / tool.replace(".", "/")).with_suffix(".py").is_file(), tool


def test_the_flags_of_the_export_commands_exist():
    from export import benchmark, to_onnx

    for tool, table in (("to_onnx", to_onnx.TABLE), ("benchmark", benchmark.TABLE)):
        [line] = [line for line in commands() if f"python -m export.{tool} " in line]
        table.parse(line.split(f"export.{tool} ")[1].split())


@pytest.mark.tensorflow
def test_inference_takes_eight_lines_of_onnxruntime_and_numpy(tmp_path):
    from ptkeras import data, export, models

    [block] = [
        block
        for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
        if "onnxruntime" in block
    ]
    assert len([line for line in block.splitlines() if line]) == 8
    dataset = data.load("digits", batch_size=32)
    model = models.build("resnet20", dataset.input_shape, dataset.num_classes)
    export.to_onnx(
        model,
        tmp_path / "model.onnx",
        labels=dataset.labels,
        metadata={"mean": dataset.mean, "std": dataset.std},
    )
    pixels = data.digits.load().test_images[5]
    np.save(tmp_path / "image.npy", pixels)
    foreign = "{'tensorflow', 'keras', 'ptkeras'}"
    code = f"import sys\n{block}\nprint({foreign} & set(sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    scaled = (pixels[None].astype("float32") - dataset.mean) / np.float32(dataset.std)
    expected = dataset.labels[int(np.argmax(model(scaled)))]
    assert done.stdout == f"{expected}\nset()\n", done.stderr


def test_the_calls_of_skipnet_run(tmp_path, monkeypatch):
    import keras

    import ptkeras
    from tests.helpers.skipnet_networks import images, small

    monkeypatch.chdir(tmp_path)
    [block] = [
        block
        for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
        if "skipnet.add_gates" in block
    ]
    calls = re.findall(r"`((?:plain|settle)\(.*?\))`", README)
    assert len(calls) == 2
    x, y = images(16), np.arange(16) % 4
    names = {"model": small(1), "x_train": x, "y_train": y, "x_test": x, "y_test": y}
    if keras.config.backend() != "tensorflow":
        block = "\n".join(line for line in block.splitlines() if "export" not in line)
    exec(re.sub(r"epochs=\d+", "epochs=1, verbose=0", block), names | {"ptkeras": ptkeras})
    network = ptkeras.skipnet.add_gates(names["model"])
    for call in calls:
        exec(f"ptkeras.skipnet.{call}", names | {"ptkeras": ptkeras, "network": network})


def test_the_tables_are_those_of_the_results():
    from benchmarks import tables

    assert tables.rendered(README) == README
