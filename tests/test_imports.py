"""Imports between the packages of ptkeras run one way: from a floor to those below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "ptkeras"

# From the ground up. What is in one row may import each other, as long as there is no circle.
FLOORS = (
    ("utils", "keras_compat", "version"),
    ("channels", "data", "models"),
    ("surgery", "cost", "fisher", "multi_worker"),
    ("importance", "latency"),
    ("pruning", "prunetrain", "magnitude", "eigendamage", "skipnet", "regularizers"),
    ("survival",),
    ("export", "from_scratch"),
    ("runs",),
    ("methods", "report"),
    ("cli",),
    ("train", "sweep"),
    ("ptkeras",),  # the public names
)
HEIGHTS = {name: height for height, floor in enumerate(FLOORS) for name in floor}


def module_of(path):
    parts = ["ptkeras", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported_by(module):
    """The modules of ptkeras that a module imports, in functions too; not for type checkers."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ptkeras":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "ptkeras")


def package_of(module):
    return module.split(".")[1] if "." in module else "ptkeras"


def upward(module, imported):
    return HEIGHTS[package_of(imported)] > HEIGHTS[package_of(module)]


def circle_in(graph):
    """A circle in a graph, given as the successors of each node; None if there is none."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        for other in graph[node]:
            if found := visit(other):
                return found
        done.add(path.pop())
        return None

    return next((found for node in graph if (found := visit(node))), None)


def test_every_package_has_a_floor():
    assert {package_of(module) for module in MODULES} == HEIGHTS.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    # `from ptkeras import channels` names a module; a name that no module has is of the top floor.
    assert [x for x in imported_by(module) if upward(module, x)] == []


def test_no_circle_of_modules():
    graph = {module: set(imported_by(module)) - {module} for module in MODULES}
    assert circle_in(graph) is None


def test_a_circle_is_found():
    assert circle_in({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert circle_in({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_the_root_is_small():
    files = [path.name for path in ROOT.iterdir() if path.is_file() and path.suffix == ".py"]
    assert len(files) <= 12
    assert [name for name in files if name.startswith("_") and name != "__init__.py"] == []
