"""Every source file is in a Bazel target, and every test file has a py_test of its own.

The BUILD file is Starlark, which is close enough to Python to be run as it: `glob` and the rules
are replaced by functions that note what they are called with.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

# Under Bazel this file is a link into the checkout, where files that no target has can be seen.
ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCES = re.compile(r"\..*|__pycache__|bazel-.*|build|dist|.*\.egg-info|runs")


def find_files(root):
    """Paths of the files under root, without folders that hold no sources."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not NOT_SOURCES.fullmatch(name) and not (Path(folder, name) / "pyvenv.cfg").exists()
        ]
        found += [Path(folder, name).relative_to(root).as_posix() for name in files]
    return sorted(found)


def pattern_to_regex(pattern):
    """Bazel's glob patterns: * stays in its folder, a segment ** is any number of folders."""
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    regexes = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(regexes.get(part) or re.escape(part) for part in parts))


def read_targets(root):
    """Runs root's BUILD file and returns its targets as `{name: {"rule": rule, **attributes}}`."""
    files = find_files(root)
    inner = {str(Path(path).parent) + "/" for path in files if Path(path).name.startswith("BUILD")}
    inner.discard("./")  # what lies in a package of its own is out of the root package's sight
    visible = [path for path in files if not path.startswith(tuple(inner))]

    def glob(include, exclude=(), allow_empty=False):
        found = [path for path in visible if any(map(matches(path), include))]
        found = [path for path in found if not any(map(matches(path), exclude))]
        assert found or allow_empty, f"glob({include}) matches nothing"
        return found

    def matches(path):
        return lambda pattern: pattern_to_regex(pattern).fullmatch(path)

    targets = {}

    def rule(kind):
        def define(name, **attributes):
            assert name not in targets, f"two targets are named {name}"
            targets[name] = {"rule": kind, **attributes}

        return define

    rules = {kind: rule(kind) for kind in ("py_library", "py_binary", "py_test", "filegroup")}
    ignored = {name: lambda *_, **__: None for name in ("load", "package", "licenses")}
    exec(compile((root / "BUILD").read_text(), "BUILD", "exec"), {"glob": glob, **ignored, **rules})
    return targets


def sources_in_no_target(root):
    targets = read_targets(root).values()
    covered = {source for target in targets for source in target.get("srcs", [])}
    return [path for path in find_files(root) if path.endswith(".py") and path not in covered]


def files_without_a_py_test(root):
    own = {
        source
        for target in read_targets(root).values()
        if target["rule"] == "py_test"
        for source in target["srcs"]
        if source in target["args"]
    }
    tests = [path for path in find_files(root) if re.fullmatch(r"tests/(.*/)?test_[^/]*\.py", path)]
    return [path for path in tests if path not in own]


def test_every_source_file_is_in_a_target():
    assert sources_in_no_target(ROOT) == []


def test_every_test_file_has_a_target():
    assert files_without_a_py_test(ROOT) == []


def test_the_library_has_its_data():
    library = read_targets(ROOT)["ptkeras"]
    inside = [path for path in find_files(ROOT) if path.startswith("ptkeras/")]
    assert sorted(library["srcs"] + library["data"]) == inside


def test_named_files_and_targets_exist():
    targets = read_targets(ROOT)
    for name, target in targets.items():
        for path in target.get("srcs", []):
            assert (ROOT / path).is_file(), f"{name} names {path}, which is not there"
        for label in target.get("deps", []):
            assert label.removeprefix(":") in targets, f"{name} depends on {label}"


@pytest.fixture
def project(tmp_path):
    shutil.copy(ROOT / "BUILD", tmp_path)
    for path in (
        "launch.py",
        "ptkeras/a.py",
        "ptkeras/b/c.py",
        "tests/conftest.py",
        "tests/test_a.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags/a.flags").touch()
    return tmp_path


def test_a_project_in_order_passes(project):
    assert sources_in_no_target(project) == []
    assert files_without_a_py_test(project) == []


def test_a_source_file_outside_the_globs_is_noticed(project):
    (project / "scripts").mkdir()
    (project / "scripts/stray.py").touch()
    (project / "stray.py").touch()
    assert sources_in_no_target(project) == ["scripts/stray.py", "stray.py"]


def test_a_source_file_in_a_package_of_its_own_is_noticed(project):
    (project / "ptkeras/b/BUILD").touch()
    assert sources_in_no_target(project) == ["ptkeras/b/c.py"]


def test_a_test_file_without_its_py_test_is_noticed(project):
    build = (project / "BUILD").read_text()
    (project / "BUILD").write_text(build[: build.index("[\n    py_test(")])
    assert files_without_a_py_test(project) == ["tests/test_a.py"]
