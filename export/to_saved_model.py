"""Writes a model as a SavedModel, verified in TensorFlow.

python -m export.to_saved_model --model=RUN/model.keras --output=saved_model
python -m export.to_saved_model --help
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from export import _common
from ptkeras.utils.flagging import FlagTable, Settings

TABLE = FlagTable(
    "export.to_saved_model",
    __doc__.splitlines()[:3],
    {"Files": _common.FILES, "Contents": _common.CONTENTS},
)


def act(settings: Settings) -> None:
    """Exports what the flags say."""
    _common.required(settings, "model", "output")
    from ptkeras.export import to_saved_model

    _common.export(settings, to_saved_model)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return _common.run(TABLE, act, arguments)


if __name__ == "__main__":
    sys.exit(main())
