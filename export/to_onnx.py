"""Writes a model as ONNX, verified in onnxruntime.

python -m export.to_onnx --model=RUN/model.keras --output=model.onnx
python -m export.to_onnx --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from export import _common
from ptkeras.utils.flagging import FlagTable, Settings

TABLE = FlagTable(
    "export.to_onnx",
    __doc__.splitlines()[:3],
    {
        "Files": _common.FILES,
        "ONNX": (_common.OPSET, *_common.PRECISION),
        "Contents": _common.CONTENTS,
    },
)


def act(settings: Settings) -> None:
    """Exports what the flags say."""
    _common.required(settings, "model", "output")
    _common.check_precision(settings)
    from ptkeras.export import to_onnx

    _common.export(settings, to_onnx, opset=settings.opset, precision=settings.precision)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return _common.run(TABLE, act, arguments)


if __name__ == "__main__":
    sys.exit(main())
