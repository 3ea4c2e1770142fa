"""Writes a model for LiteRT, verified in its interpreter.

python -m export.to_litert --model=RUN/model.keras --output=model.tflite
python -m export.to_litert --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from export import _common
from ptkeras.utils.flagging import FlagTable, Settings

TABLE = FlagTable(
    "export.to_litert",
    __doc__.splitlines()[:3],
    {"Files": _common.FILES, "LiteRT": _common.PRECISION, "Contents": _common.CONTENTS},
)


def act(settings: Settings) -> None:
    """Exports what the flags say."""
    _common.required(settings, "model", "output")
    _common.check_precision(settings)
    from ptkeras.export import to_litert

    _common.export(settings, to_litert, precision=settings.precision)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return _common.run(TABLE, act, arguments)


if __name__ == "__main__":
    sys.exit(main())
