"""The run folder: what a training leaves behind.

model.keras          the finished network, for plain Keras
flags.txt            repeats the run: python -m ptkeras.train --flagfile=… --output_dir=…
history.csv          a row an epoch
architecture.json    the first network, each reconfiguration, and the last network
norms.json           how large the channels were at the start, in the middle and at the end
report.html          all of it on one page
search.json          what a method that searches before the training has found
checksums.txt        the SHA-256 of the files of a finished run, as sha256sum has it
result.json          the figures of the final table; there once the run is finished
model.onnx, model.tflite, saved_model/
                     with --export: the network for other runtimes
checkpoints/         epoch_0010.keras and so on; last.keras, or last.previous.keras
                     where that is damaged, is what a resumed run goes on from;
                     gates.keras, while a search learns gates
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import reprlib
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptkeras.export.formats import FORMATS, Format
from ptkeras.survival.checkpoint import Checkpoints
from ptkeras.utils.files import (
    aside,
    check_writable_name,
    digest_of,
    fault_of,
    is_unfinished,
    read_text,
    write_text,
)
from ptkeras.utils.flagging import Settings, SettingsError
from ptkeras.utils.lock import Lock, LockedError
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
_FOLDERS = (
    "checkpoints",
    *(one.file for one in FORMATS if one.is_folder),
    "tensorboard",
    "tensorboard/train",
    "tensorboard/validation",
)


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
        self.checksums = self.path / "checksums.txt"
        self.result = self.path / "result.json"
        self.last = self.path / "checkpoints" / "last.keras"
        self.gates = self.path / "checkpoints" / "gates.keras"

        self._lock = Lock(self.path)

    @property
    def finished(self) -> bool:
        """Whether the run in the folder has come to its end."""
        return os.path.lexists(self.result)

    def check(self, settings: Settings) -> None:
        """Finds out whether a run may go into the folder; changes nothing.

        Raises:
            SettingsError: it is no folder, or holds something else than this run.
        """
        remedy = "choose another --output_dir."
        try:
            check_writable_name(self.path)
            check_writable_name(self.last.with_suffix(".previous.keras"))
        except (OSError, ValueError) as error:  # too long, out of reach, or with a null byte
            reason = getattr(error, "strerror", error)
            raise SettingsError(
                f"flag --output_dir={self.path}: cannot be looked at ({reason}); {remedy}"
            ) from error
        for path in (self.path, *self.path.parents):
            if os.path.lexists(path) and not path.is_dir():
                kind = fault_of(path) or "is a file"
                raise SettingsError(f"flag --output_dir={self.path}: '{path}' {kind}; {remedy}")
        for path in self._contents():
            if fault := self._misplaced(path):
                raise SettingsError(
                    f"flag --output_dir={self.path}: '{path}' {fault}; move it away, or {remedy}"
                )
        self._check_flags(settings, remedy)
        if os.path.lexists(self.search) and (fault := self.fault_of(self.search)):
            raise SettingsError(
                f"'{self.search}' {fault}. Delete it, and the same command searches again; or "
                f"{remedy}"
            )
        self._check_end(remedy)

    def _check_flags(self, settings: Settings, remedy: str) -> None:
        """Finds out whether `flags.txt` is that of this run."""
        mend = f"Write the flags of that run into it, one --name=value a line; or {remedy}"
        if self.flags.exists():
            try:
                difference = settings.difference(self.flags)
            except SettingsError as error:
                raise SettingsError(f"{error} {mend}") from error
            if difference:
                raise SettingsError(
                    f"'{self.path}' holds another run ({difference}), or its flags.txt was "
                    f"changed; {remedy}"
                )
        elif self.holds_a_run():
            raise SettingsError(
                f"'{self.flags}' is missing, and other files of a run are there. {mend}"
            )
        elif self.path.exists() and not all(map(is_unfinished, self.path.iterdir())):
            raise SettingsError(f"'{self.path}' holds files that are no run's; {remedy}")

    def _check_end(self, remedy: str) -> None:
        """Refuses to train again what has been trained, where no checkpoint is left of it."""
        if self.model.exists() and not self.finished and self._checkpoint() is None:
            raise SettingsError(
                f"'{self.result}' is missing, and there is no checkpoint to make it again from. "
                f"Put it back, or delete '{self.model}' to train that again; or {remedy}"
            )

    def holds_a_run(self) -> bool:
        """Says whether there is a file in it that a run writes beside `flags.txt`."""
        files = (self.model, self.history, self.architecture, self.norms, self.result, self.search)
        return any(map(os.path.exists, files)) or (
            fault_of(self.last.parent) == "is a folder" and any(self.last.parent.glob("*.keras"))
        )

    def _checkpoint(self) -> Path | None:
        """The checkpoint that the run would go on from."""
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")
            return Checkpoints(self.last).find()
        return None

    def _misplaced(self, path: Path) -> str:
        """Says why a path in the folder bars a run, as the rest of a sentence; "" if it does not.

        A run at work puts files in their places meanwhile, and takes others away.
        """
        if path.is_symlink():
            return "is a link, and a run writes into its own folder alone"
        name = path.relative_to(self.path).as_posix()
        if path.is_dir():
            return "is a folder, in the place of a file" if self._is_file(name) else ""
        if not os.path.lexists(path) or path.is_file():
            return "is a file, in the place of a folder" if name in _FOLDERS else ""
        return "is neither a file nor a folder"

    def _is_file(self, name: str) -> bool:
        """Whether a run keeps a file by this name; what it writes beside gives way to a folder."""
        if Path(name).name.startswith(".lock"):
            return True
        if is_unfinished(Path(name)) or name in _FOLDERS:
            return False
        own = {path.name for path in vars(self).values() if isinstance(path, Path)}
        own |= {one.file for one in FORMATS if not one.is_folder}
        return name in own or re.fullmatch(r"checkpoints/[^/]+\.keras", name) is not None

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
            write_text(self.flags, heading + settings.to_text())
        except OSError as error:
            raise SettingsError(
                f"flag --output_dir={self.path}: cannot be written ({error.strerror}); mend that, "
                "or choose another one."
            ) from error

    def checkpoint(self, epoch: int) -> Path:
        """The file for the network after so many epochs."""
        return self.path / "checkpoints" / f"epoch_{epoch:04d}.keras"

    def exported(self, kind: Format) -> Path:
        """The file, or folder, for the network in another format."""
        return self.path / kind.file

    def save_model(self, model: keras.Model, path: Path) -> None:
        """Writes a model, so that the file is whole or not there."""
        if self.writes:
            with aside(path) as new:
                model.save(new)

    def write_history(self, rows: list[dict[str, Any]], more: Iterable[str] = ()) -> None:
        """Writes a row an epoch; a field is empty if there is no figure.

        Args:
            rows: the figures of each epoch, by column.
            more: columns beside `COLUMNS`; those without a figure are left out.
        """
        if not self.writes:
            return
        text = io.StringIO()
        columns = [*COLUMNS, *(c for c in more if any(c in row for row in rows))]
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.history, text.getvalue())

    def write_json(self, path: Path, value: Any) -> None:
        """Writes figures so that a person can read them too."""
        if not self.writes:
            return
        text = _json(value)
        if path == self.search:  # which an unfinished run reads again
            self._note({path.name: _digest(text)})
        write_text(path, text)

    def write_result(self, figures: Mapping[str, Any]) -> None:
        """Writes `result.json`, which ends the run, and before it the checksums of the files."""
        if not self.writes:
            return
        text = _json(figures)
        self.note_checksums(self.model, self.history, self.architecture, self.norms)
        self._note({self.result.name: _digest(text)})
        write_text(self.result, text)

    def read_result(self) -> dict[str, Any]:
        """Returns the figures of the finished run.

        Raises:
            ValueError: If they cannot be read.
        """
        self.check_whole(self.result)
        try:
            figures = json.loads(read_text(self.result))
        except (ValueError, RecursionError) as error:
            raise self._damaged(self.result, f"is damaged ({error})") from error
        if not isinstance(figures, dict):
            raise self._damaged(self.result, f"holds no object but {reprlib.repr(figures)}")
        return figures

    def check_whole(self, *paths: Path) -> None:
        """Finds out whether files of the finished run are as it left them.

        Raises:
            ValueError: If one is not; the message says how to have it again.
        """
        for path in paths:
            if fault := self.fault_of(path):
                raise self._damaged(path, fault)

    def remedy(self) -> str:
        """Says how to have a file of the finished run again that is damaged or missing."""
        checkpoint = self._checkpoint()
        if checkpoint is None:
            return (
                "Put it back, or repeat the run in another --output_dir: there is no checkpoint to "
                "make it again from."
            )
        return (
            f"Delete '{self.result}', and the command that began the run makes it again from "
            f"'{checkpoint}'."
        )

    def note_checksums(self, *paths: Path) -> None:
        """Notes what files of the folder are, so that damage is seen later.

        Args:
            paths: files, or folders with all that is in them; what is not there is left out.
        """
        files = (file for path in paths for file in (path, *path.rglob("*")) if file.is_file())
        self._note({file.relative_to(self.path).as_posix(): digest_of(file) for file in files})

    def fault_of(self, path: Path) -> str:
        """Says why a file is not as the run left it, as the rest of a sentence; "" if it is.

        Args:
            path: a file of the folder, or a folder in it.
        """
        name = path.relative_to(self.path).as_posix()
        if not path.is_dir() and (fault := fault_of(path)):
            return fault
        known = self._checksums()
        files = [one for one in known if one == name or one.startswith(f"{name}/")]
        for file in files:
            try:
                if digest_of(self.path / file) != known[file]:
                    return f"does not match its checksum in '{self.checksums}'"
            except ValueError as error:
                return str(error) if file == name else f"is damaged: {file} {error}"
        # A run of an older version has left no checksums.
        return "" if files or path.is_dir() else _fault_without_checksum(path)

    def _damaged(self, path: Path, fault: str) -> ValueError:
        return ValueError(f"'{path}' {fault}. {self.remedy()}")

    def _note(self, digests: dict[str, str]) -> None:
        lines = (f"{digest}  {name}\n" for name, digest in (self._checksums() | digests).items())
        write_text(self.checksums, "".join(lines))

    def _checksums(self) -> dict[str, str]:
        """The checksums by the names of files; what is damaged is left out."""
        with contextlib.suppress(ValueError):
            found = re.findall(r"^([0-9a-f]{64})  (.+)$", read_text(self.checksums), re.MULTILINE)
            return {name: digest for digest, name in found}
        return {}


def _json(value: Any) -> str:
    """Returns figures as JSON in which a list of numbers takes one line."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub(r"\[([^][{}]+)\]", lambda list_: f"[{' '.join(list_[1].split())}]", text) + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fault_without_checksum(path: Path) -> str:
    if path.stat().st_size == 0:
        return "is empty"
    if path.suffix != ".keras":
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            return "is damaged" if archive.testzip() else ""
    except Exception:  # of whatever kind zipfile and zlib have for the damage
        return "is damaged"
