"""The formats that a run folder can have its network in, a line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ptkeras.export.artifact import Artifact


class Format(NamedTuple):
    """A format that networks leave in.

    Attributes:
        name: as `--export` has it; `ptkeras.export.to_NAME` writes it.
        file: its file, or folder, in a run folder.
        packages: those that it takes beside ptkeras's own, by the names that import them.
        is_folder: whether it is a folder.
    """

    name: str
    file: str
    packages: tuple[str, ...] = ()
    is_folder: bool = False

    @property
    def write(self) -> Callable[..., Artifact]:
        """The function that writes it."""
        from ptkeras import export

        return getattr(export, f"to_{self.name}")


FORMATS = [
    Format("saved_model", "saved_model", is_folder=True),
    Format("onnx", "model.onnx", packages=("onnx", "onnxruntime", "tf2onnx")),
    Format("litert", "model.tflite"),
]


def named(name: str) -> Format:
    """Returns the format of a name."""
    return next(one for one in FORMATS if one.name == name)
