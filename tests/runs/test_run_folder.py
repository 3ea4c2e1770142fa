import json
import os

import pytest

from ptkeras.methods.settings import SettingsError, parse
from ptkeras.runs.run_folder import COLUMNS, RunFolder


def test_a_new_folder_is_made_with_the_flags(tmp_path):
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.check(parse([]))
    assert not (tmp_path / "deep").exists()
    folder.open(parse([]))
    assert parse([]).difference(folder.flags) is None
    assert not folder.finished


def test_the_same_flags_may_enter_again_and_others_may_not(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open(parse(["--seed=3"]))
    folder.check(parse(["--seed=3"]))
    with pytest.raises(SettingsError, match="--seed is 3 there and 4 here"):
        folder.check(parse(["--seed=4"]))


def test_what_a_kill_left_beside_does_not_bar_the_folder(tmp_path):
    (tmp_path / ".new_flags.txt").touch()
    RunFolder(tmp_path).check(parse([]))
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SettingsError, match="no run's"):
        RunFolder(tmp_path).check(parse([]))


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is a file"):
        RunFolder(tmp_path / "file" / "run").check(parse([]))
    with pytest.raises(SettingsError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run").open(parse([]))


def test_a_row_without_a_figure_has_an_empty_field(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_history([{"epoch": 1, "loss": 0.5, "unknown": 3}])
    header, row = folder.history.read_text().splitlines()
    assert header == ",".join(COLUMNS)
    assert row == "1,0.5" + "," * (len(COLUMNS) - 2)


def test_lists_of_numbers_take_one_line(tmp_path):
    value = {"layers": {"a": [16, 4], "b": []}, "all": [{"x": [1.5, 2]}]}
    RunFolder(tmp_path).write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert '"a": [16, 4]' in text
    assert text.endswith("\n ]\n}\n")


def test_a_second_run_is_kept_out_until_the_first_has_ended(tmp_path):
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first:
        first.open(parse([]))
        with pytest.raises(SettingsError, match="another run is at work there"), second:
            pass
    with second:
        second.open(parse([]))


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints",
        "model.keras",
        "history.csv",
        ".new_flags.txt",
        "checkpoints/.new_last.keras",
        "tensorboard/train/events",
        "unknown",
    ],
)
def test_a_folder_with_links_out_of_it_is_refused(tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = RunFolder(tmp_path / "run")
    folder.open(parse([]))
    (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
    for target in (outside, tmp_path / "missing"):
        (folder.path / name).symlink_to(target)
        with pytest.raises(SettingsError, match=f"{name}' is a link"):
            folder.check(parse([]))
        (folder.path / name).unlink()


def test_a_folder_that_is_reached_by_a_link_is_none_of_those(tmp_path):
    RunFolder(tmp_path / "run").open(parse([]))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    RunFolder(tmp_path / "link").check(parse([]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "flags.txt")
    with pytest.raises(SettingsError, match="is neither a file nor a folder"):
        RunFolder(tmp_path).check(parse([]))


def test_a_file_with_a_second_name_is_replaced_and_not_written_to(tmp_path):
    folder, backup = RunFolder(tmp_path / "run"), tmp_path / "backup.txt"
    folder.open(parse([]))
    backup.hardlink_to(folder.flags)
    before = backup.read_text()
    folder.check(parse([]))
    folder.open(parse(["--export=onnx"]))
    assert backup.read_text() == before != folder.flags.read_text()
