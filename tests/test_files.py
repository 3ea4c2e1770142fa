import pytest

from ptkeras._files import aside, is_unfinished, write_text


def test_a_file_takes_its_place_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one λ\n")
    write_text(path, "two λ\n")
    assert path.read_text(encoding="utf-8") == "two λ\n"
    assert list(path.parent.iterdir()) == [path]


def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="disk full"), aside(path) as new:
        new.write_text("half of the n")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_beside_keeps_its_suffix_and_is_known(tmp_path):
    with aside(tmp_path / "a.keras") as new:
        assert new.suffix == ".keras"
        assert is_unfinished(new)
        new.touch()
    assert not is_unfinished(tmp_path / "a.keras")
