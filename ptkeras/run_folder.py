"""The run folder: what a training leaves behind.

model.keras          the finished network, for plain Keras
flags.txt            repeats the run: python -m ptkeras.train --flagfile=… --output_dir=…
history.csv          a row an epoch
architecture.json    the first network, each reconfiguration, and the last network
norms.json           how large the channels were at the start, in the middle and at the end
report.html          all of it on one page
search.json          with Pruning from Scratch, what the gates left
result.json          the figures of the final table; there once the run is finished
model.onnx, model.tflite, saved_model/
                     with --export: the network for other runtimes
checkpoints/         epoch_0010.keras and so on; last.keras, or last.previous.keras
                     where that is damaged, is what a resumed run goes on from;
                     gates.keras, while Pruning from Scratch learns its gates
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptkeras import settings as settings_module
from ptkeras._files import aside, is_unfinished, write_text
from ptkeras._lock import Lock, LockedError
from ptkeras.settings import Settings, SettingsError
from ptkeras.version import __version__

if TYPE_CHECKING:
    import keras

COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "batch_size",
    "lasso",
    "channels",
    "params",
    "inference_flops",
    "training_flops",
    "gradient_bytes",
    "seconds",
)
MORE_COLUMNS = ("sparsity", "blocks_run")  # where a method has such a figure


class RunFolder:
    """The files of one run.

    ```python
    with RunFolder("runs/a") as folder:  # other processes are kept out meanwhile
        folder.open(settings)
    ```

    Args:
        path: the folder; nothing is written before `open`.
        writes: whether anything is written at all. Of several processes that train together only
            the chief writes.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.model = self.path / "model.keras"
        self.flags = self.path / "flags.txt"
        self.history = self.path / "history.csv"
        self.architecture = self.path / "architecture.json"
        self.search = self.path / "search.json"
        self.norms = self.path / "norms.json"
        self.report = self.path / "report.html"
        self.tensorboard = self.path / "tensorboard"
        self.result = self.path / "result.json"
        self.last = self.path / "checkpoints" / "last.keras"
        self.gates = self.path / "checkpoints" / "gates.keras"

        self._lock = Lock(self.path)

    @property
    def finished(self) -> bool:
        """Whether the run in the folder has come to its end."""
        return self.result.exists()

    def check(self, settings: Settings) -> None:
        """Finds out whether a run may go into the folder; changes nothing.

        Raises:
            SettingsError: it is no folder, or holds something else than this run.
        """
        remedy = "choose another --output_dir."
        try:
            self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:  # too long, out of reach, or with a null byte
            raise SettingsError(
                f"flag --output_dir={self.path}: cannot be looked at ({error}); {remedy}"
            ) from error
        for path in (self.path, *self.path.parents):
            if path.exists() and not path.is_dir():
                raise SettingsError(f"flag --output_dir={self.path}: '{path}' is a file; {remedy}")
        for path in self._contents():
            odd = path.is_symlink() or not (path.is_file() or path.is_dir())
            if odd and os.path.lexists(path):  # a run at work puts files in their places meanwhile
                kind = "a link" if path.is_symlink() else "neither a file nor a folder"
                raise SettingsError(
                    f"flag --output_dir={self.path}: '{path}' is {kind}, and a run writes into its "
                    f"own folder alone; {remedy}"
                )
        if self.flags.exists():
            difference = settings_module.difference(settings, self.flags)
            if difference:
                raise SettingsError(f"'{self.path}' holds another run ({difference}); {remedy}")
        elif self.path.exists() and not all(map(is_unfinished, self.path.iterdir())):
            raise SettingsError(f"'{self.path}' holds files that are no run's; {remedy}")

    def _contents(self) -> Iterator[Path]:
        """All that lies in the folder; no link is followed, but for the folder itself."""

        def refuse(error: OSError) -> None:
            raise SettingsError(
                f"flag --output_dir={self.path}: '{error.filename}' cannot be looked at "
                f"({error.strerror}); choose another --output_dir."
            ) from error

        if self.path.is_dir():
            for folder, folders, files in os.walk(self.path, onerror=refuse):
                yield from (Path(folder, name) for name in (*folders, *files))

    def __enter__(self) -> RunFolder:
        """Keeps other runs out of the folder, if it is there, or else from `open` on.

        Raises:
            SettingsError: another run is at work in it.
        """
        if self.path.is_dir():
            self._lock_it()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _lock_it(self) -> None:
        try:
            self._lock.take()
        except LockedError as error:
            raise SettingsError(
                f"flag --output_dir={self.path}: another run is at work there; wait for its end, "
                "or choose another --output_dir."
            ) from error

    def open(self, settings: Settings) -> None:
        """Makes the folder, and writes down the flags of the run."""
        if not self.writes:
            return
        heading = (
            f"# ptkeras {__version__}. To repeat the run:\n"
            f"#   python -m ptkeras.train --flagfile=flags.txt --output_dir=ANOTHER\n"
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_it()
            write_text(self.flags, heading + settings_module.to_text(settings))
        except OSError as error:
            raise SettingsError(
                f"flag --output_dir={self.path}: cannot be written ({error.strerror}); choose "
                "another one."
            ) from error

    def checkpoint(self, epoch: int) -> Path:
        """The file for the network after so many epochs."""
        return self.path / "checkpoints" / f"epoch_{epoch:04d}.keras"

    def exported(self, kind: str) -> Path:
        """The file, or folder, for the network in another format."""
        names = {"onnx": "model.onnx", "litert": "model.tflite", "saved_model": "saved_model"}
        return self.path / names[kind]

    def save_model(self, model: keras.Model, path: Path) -> None:
        """Writes a model, so that the file is whole or not there."""
        if self.writes:
            with aside(path) as new:
                model.save(new)

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Writes a row an epoch; None where there is no figure."""
        if not self.writes:
            return
        text = io.StringIO()
        columns = [*COLUMNS, *(c for c in MORE_COLUMNS if any(c in row for row in rows))]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.history, text.getvalue())

    def write_json(self, path: Path, value: Any) -> None:
        """Writes figures so that a person can read them too."""
        if not self.writes:
            return
        text = json.dumps(value, indent=1, ensure_ascii=False)
        # A list of numbers takes one line.
        text = re.sub(r"\[([^][{}]+)\]", lambda list_: f"[{' '.join(list_[1].split())}]", text)
        write_text(path, text + "\n")

    def read_result(self) -> dict[str, Any]:
        """The figures of the finished run."""
        return json.loads(self.result.read_text(encoding="utf-8"))
