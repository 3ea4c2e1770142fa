"""A format of networks is a function and a line."""

import json
import types

import pytest

from ptkeras import export
from ptkeras.cli import train as command
from ptkeras.export import formats
from ptkeras.methods.settings import parse
from ptkeras.runs.run_folder import RunFolder
from ptkeras.utils.flagging import SettingsError


@pytest.fixture
def numbers(monkeypatch):
    """A format that is a file of JSON with the number of parameters."""

    def to_numbers(model, path, *, labels, metadata):
        path.write_text(json.dumps({"params": model.count_params(), "labels": labels}))
        return types.SimpleNamespace(summary=f"{path}: written")

    monkeypatch.setattr(export, "to_numbers", to_numbers, raising=False)
    formats.FORMATS.append(formats.Format("numbers", "model.json"))
    yield
    formats.FORMATS.pop()


FLAGS = (
    "--model=tests.helpers.small_network:build",
    "--method=dense",
    "--epochs=1",
    "--batch_size=512",
)


def test_a_format_is_a_function_and_a_line(numbers, tmp_path, capsys):
    folder = tmp_path / "run"
    assert command.main([*FLAGS, f"--output_dir={folder}", "--export=numbers"]) == 0
    assert "model.json: written" in capsys.readouterr().out
    told = json.loads((folder / "model.json").read_text())
    assert told["params"] > 100
    assert len(told["labels"]) == 10
    (folder / "model.json").write_text("{")  # damaged: the checksum tells
    assert command.main([*FLAGS, f"--output_dir={folder}", "--export=numbers"]) == 1
    assert "delete it, and the same command writes it again" in capsys.readouterr().err


def test_what_a_format_needs_is_asked_for_first(monkeypatch):
    lacking = formats.Format("numbers", "model.json", packages=("a_package_that_nobody_has",))
    monkeypatch.setattr(formats, "named", lambda name: lacking)
    with pytest.raises(SettingsError, match="--export=onnx: needs a_package_that_nobody_has"):
        command._check_installed(parse(["--export=onnx"]))


def test_names_and_files_are_all_different():
    assert len({one.name for one in formats.FORMATS}) == len(formats.FORMATS)
    assert len({one.file for one in formats.FORMATS}) == len(formats.FORMATS)
    for one in formats.FORMATS:
        assert RunFolder("somewhere").exported(one).name == one.file
        assert one.write is getattr(export, f"to_{one.name}")
