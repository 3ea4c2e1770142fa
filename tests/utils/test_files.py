import pytest

from ptkeras.utils.files import aside, folder_aside, is_unfinished, write_text


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


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_link_at_the_name_beside_is_never_written_through(tmp_path, link):
    victim, path = tmp_path / "victim", tmp_path / "run" / "a.txt"
    victim.write_text("mine")
    path.parent.mkdir()
    for name in (".new_a.txt", "a.txt"):
        getattr(path.with_name(name), link)(victim)
    write_text(path, "theirs")
    assert (victim.read_text(), path.read_text()) == ("mine", "theirs")
    assert list(path.parent.iterdir()) == [path] and not path.is_symlink()


def test_a_folder_at_the_name_beside_gives_way(tmp_path):
    (tmp_path / ".new_a.txt" / "deep").mkdir(parents=True)
    write_text(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", [".new_a", ".new_old_a", "a"])
def test_a_folder_is_never_filled_through_a_link(tmp_path, name):
    outside, path = tmp_path / "outside", tmp_path / "run" / "a"
    for folder in (outside, path):
        folder.mkdir(parents=True)
    (outside / "mine").touch()
    if name == "a":
        path.rmdir()
    path.with_name(name).symlink_to(outside)
    with folder_aside(path) as new:
        (new / "theirs").touch()
    assert [file.name for file in outside.iterdir()] == ["mine"]
    assert [file.name for file in path.iterdir()] == ["theirs"] and not path.is_symlink()
    assert list(path.parent.iterdir()) == [path]
