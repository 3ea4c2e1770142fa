"""Private names of Keras are read in ptkeras.keras_compat alone."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent / "ptkeras"
KERAS = Path(importlib.util.find_spec("keras").origin).parent / "src"

EXCEPTIONS = {
    *("_fields", "_replace"),  # Python's named tuples
    *("_current_frames", "_getframe"),  # of `sys`
    *("_abc_impl", "_thread"),  # what `abc` sets on classes, and the module behind `threading`
    "_modules",  # the layers of a PyTorch module
    "_storage",  # the list in a tracked list of TensorFlow's
    "_cardinality",  # of a distributed dataset of TensorFlow's
    *("_XlaMustCompile", "_noinline"),  # marks on functions of a TensorFlow graph
    *("_extract_filename", "_is_flag_file_directive"),  # of absl's flags
    "_decision",  # ours, at the end of names of layers
    "_is_measured",  # ours, in checkpoints of earlier versions
}


class Use(NamedTuple):
    """A private name that code reads or sets."""

    name: str
    line: int
    on_self: bool = False


def is_private(name):
    """Whether a string is an identifier with one underscore at its front."""
    return re.fullmatch(r"_[A-Za-z]\w*|_\d\w*", name) is not None


def uses_in(tree) -> Iterator[Use]:
    """The private names in some code: attributes, keywords, and strings that may name either."""
    endings = set(endings_in(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name) if is_private(name):
                yield Use(name, node.lineno, getattr(owner, "id", "") in ("self", "cls"))
            case ast.keyword(arg=str(name), value=value) if is_private(name):
                yield Use(name, value.lineno)
            case ast.Constant(value=str(name)) if is_private(name) and node not in endings:
                yield Use(name, node.lineno)
            case ast.JoinedStr(values=[ast.Constant(value="_"), _, *_]):
                yield Use("_{…}", node.lineno)


def endings_in(tree) -> Iterator[ast.AST]:
    """The strings that end another one, as in `f"{name}_kernel"` or `name.endswith("_kernel")`."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=[_, *rest]):
                yield from rest
            case ast.BinOp(op=ast.Add(), right=right):
                yield right
            case ast.Call(func=ast.Attribute(attr="endswith" | "removesuffix"), args=[argument]):
                yield from ast.walk(argument)


def names_of_classes(tree):
    """What the classes in some code define: methods, attributes, and what they set on `self`."""
    names = set()
    for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        names |= names_bound_in(cls.body)
        for node in ast.walk(cls):
            match node:
                case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                    names.add(node.attr)
    return names


def names_bound_in(body):
    """What the statements of a module or class, one after the other, give a name."""
    names = set()
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {x.id for x in targets if isinstance(x, ast.Name)}
    return names


def names_of_keras():
    """The private attributes in Keras's sources, whoever they belong to."""
    pattern = re.compile(r"(?:\.|\bdef )(_[A-Za-z]\w*)")
    files = (path for path in KERAS.rglob("*.py") if not path.stem.endswith("_test"))
    return {name for path in files for name in pattern.findall(path.read_text())}


def foreign(tree, ours, of_keras):
    """The uses in some code of private names that ptkeras does not define.

    A name that Keras has too is ours on `self` alone, in the file whose class defines it.

    Args:
        tree: the code.
        ours: what classes of ptkeras define.
        of_keras: the private names of Keras.
    """
    here, module = names_of_classes(tree), names_bound_in(tree.body)
    for use in uses_in(tree):
        if use.name in EXCEPTIONS or use.name.startswith("_ptkeras_"):
            continue
        if use.name in of_keras:
            is_ours = use.on_self and use.name in here
        else:
            is_ours = use.name in ours | module
        if not is_ours:
            yield use


TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for path in sorted(ROOT.rglob("*.py"))
    if path.parent.name != "keras_compat"
}


@pytest.fixture(scope="module")
def of_keras():
    return names_of_keras()


def test_private_names_are_our_own(of_keras):
    ours = set().union(*map(names_of_classes, TREES.values()))
    found = [
        f"{file}:{use.line}: {use.name}"
        for file, tree in TREES.items()
        for use in foreign(tree, ours, of_keras)
    ]
    assert found == []


def test_every_exception_is_needed():
    used = {use.name for tree in TREES.values() for use in uses_in(tree)}
    assert used >= EXCEPTIONS


def test_names_of_keras_are_found(of_keras):
    assert {"_flatten_layers", "_kernel", "_keras_history", "_trainable_variables"} <= of_keras


@pytest.mark.parametrize(
    "code",
    [
        "layer._kernel",
        "layer._kernel = variable",
        "self.model._kernel",
        "self._kernel",  # in no class that defines it
        "getattr(layer, '_kernel', None)",
        "vars(layer)['_kernel']",
        "names = ('_kernel', 'bias')",
        "vars(layer).update(_kernel=variable)",
        "getattr(layer, f'_{name}')",
        "layer._of_someone_else",
        "class A:\n    def __init__(self):\n        self._kernel = layer._kernel",
    ],
)
def test_a_private_name_of_keras_is_seen(code):
    assert list(foreign(ast.parse(code), {"_kernel"}, {"_kernel"}))


@pytest.mark.parametrize(
    "code",
    [
        "layer._ours",
        "self._ours = 1",
        "row._replace(role='input')",
        "vars(layer)['_ptkeras_of']",
        "f'{name}_kernel'",
        "name + '_kernel'",
        "name.removesuffix('_kernel')",
        "name.endswith(('_kernel', '_bias'))",
        "layer.__class__",
        "_Rule = TypeVar('_Rule')",
        "class A:\n    _kernel: int\n    def f(self):\n        return self._kernel",
    ],
)
def test_our_own_names_are_left_alone(code):
    assert not list(foreign(ast.parse(code), {"_ours"}, {"_kernel"}))
