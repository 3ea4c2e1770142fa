"""Flags of a command: text in, values in their ranges out, and one sentence where that fails.

Nothing here needs Keras: a wrong flag is told of before anything large is imported.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import select
import stat
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from ptkeras.utils.files import read_text
from ptkeras.utils.names import did_you_mean

_LARGEST_FLAGFILE = 1 << 20  # bytes
_PATIENCE = 10  # seconds for whatever writes into a pipe
_HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}


class SettingsError(Exception):
    """A flag, or some of them together, cannot be followed; the message is one sentence."""


class Parser(flags.ArgumentParser):
    """Turns the text of a flag into its value.

    Args:
        convert: makes the value; raises ValueError where it cannot.
        wanted: completes "must be …".
        right: whether a value is in range.
    """

    def __init__(
        self, convert: Callable, wanted: str, right: Callable[[Any], bool] = lambda value: True
    ) -> None:
        self.convert = convert
        self.wanted = wanted
        self.right = right

    def parse(self, argument: Any) -> Any:
        try:
            value = self.convert(argument)
        except ValueError:
            raise ValueError(f"must be {self.wanted}.") from None
        if not self.right(value):
            raise ValueError(f"must be {self.wanted}.")
        return value


class Settings(flags.FlagValues):
    """The values of flags: `settings.batch_size` and so on.

    Flagfiles are read with care: no device without an end, and no pipe for ever.

    Args:
        table: the flags.
    """

    def __init__(self, table: FlagTable) -> None:
        super().__init__()
        # Past absl, which takes what is set for the value of a flag.
        self.__dict__["table"] = table

    def to_text(self) -> str:
        """Returns the settings as a flagfile, without where the outputs are written."""
        kept = {f.name: getattr(self, f.name) for f in self.table.flags.values() if not f.is_place}
        lines = (f"--{name}={as_text(value)}" for name, value in kept.items() if value is not None)
        return "\n".join(lines) + "\n"

    def difference(self, flagfile: Path) -> str | None:
        """Names the first flag in which the settings differ from a flagfile, None if none does.

        Raises:
            SettingsError: If it cannot be read, or has no flags; the message begins with its path.
        """
        try:
            text = read_text(flagfile)
        except ValueError as error:
            raise SettingsError(f"'{flagfile}' {error}.") from error
        if not re.search(r"^\s*-", text, re.MULTILINE):
            raise SettingsError(f"'{flagfile}' has no flags in it.")
        try:
            others = self.table.parse_text(text)
        except SettingsError as error:
            raise SettingsError(f"'{flagfile}' is not what a run left there: {error}") from error
        read = self.table.read_by(self)
        for name, flag in self.table.flags.items():
            if name not in read:
                continue
            here, there = getattr(self, name), getattr(others, name)
            if here != there and not flag.is_apart:
                return f"--{name} is {as_text(there)} there and {as_text(here)} here"
        return None

    def _get_flag_file_lines(
        self, filename: str, parsed_file_stack: list[str] | None = None
    ) -> list[str]:
        # absl's own opens whatever there is and reads all of it, and skips a file within itself.
        around = parsed_file_stack or []
        if filename in around:
            raise SettingsError(f"The flagfile '{filename}' includes itself: leave that out.")
        return self.lines_of(read_flagfile(filename), [*around, filename])

    def lines_of(self, text: str, around: list[str]) -> list[str]:
        """The flags in the text of a flagfile, with those of flagfiles that it names.

        Args:
            text: the text.
            around: the flagfiles that it stands in.
        """
        found = []
        for line in map(str.strip, text.splitlines()):
            if self._is_flag_file_directive(line) and "=" in line:
                found += self._get_flag_file_lines(self._extract_filename(line), around)
            elif line and not line.startswith(("#", "//")):
                found.append(line)
        return found


def read_flagfile(path: str) -> str:
    """Reads a flagfile: a file, or a pipe as the shell's `<(…)` makes it.

    Raises:
        SettingsError: If it is something else, larger than 1 MiB, or no text.
    """
    remedy = "name a text file with a --flag=value a line."
    try:
        content = _read(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"The flagfile '{path}' cannot be read ({reason}): {remedy}") from error
    if len(content) > _LARGEST_FLAGFILE:
        raise SettingsError(f"The flagfile '{path}' is larger than 1 MiB: {remedy}")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise SettingsError(f"The flagfile '{path}' is not a text file: {remedy}")
    return text


def _read(path: str) -> bytes:
    """Reads a file, or a pipe to its end, up to one byte more than a flagfile may have."""
    # A pipe that nobody writes into would be waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise ValueError("it is a folder" if stat.S_ISDIR(mode) else "it is a device")
        content = b""
        while len(content) <= _LARGEST_FLAGFILE and (block := _block(descriptor)):
            content += block
    finally:
        os.close(descriptor)
    if not content and stat.S_ISFIFO(mode):
        raise ValueError("nothing comes out of that pipe")
    return content


def _block(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:  # whoever writes into the pipe is not done
        if not select.select([descriptor], [], [], _PATIENCE)[0]:
            raise ValueError(f"nothing came out of that pipe for {_PATIENCE} seconds") from None
        return os.read(descriptor, 1 << 16)


def whole(text: Any) -> int:
    """A whole number."""
    return int(str(text), base=10)


def wholes(text: Any) -> list[int]:
    """Whole numbers with commas between them, or none."""
    return [whole(item) for item in texts(text)]


def reals(text: Any) -> list[float]:
    """Numbers with commas between them, or none."""
    return [float(item) for item in texts(text)]


def texts(text: Any) -> list[str]:
    """Words with commas between them, or none."""
    items = text.split(",") if isinstance(text, str) else text
    return [str(item).strip() for item in items if str(item).strip()]


def _truth(text: Any) -> bool:
    truth = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    if str(text).lower() not in truth:
        raise ValueError
    return truth[str(text).lower()]


TEXT = Parser(str, "some text", lambda text: bool(text.strip()))
COUNT = Parser(whole, "a whole number from 1", lambda n: n >= 1)
POSITIVE = Parser(float, "a number over 0", lambda x: 0 < x < math.inf)
EPOCH = Parser(whole, "a whole number from 0", lambda n: n >= 0)
SWITCH = Parser(_truth, "true or false")


def choice(*values: str) -> Parser:
    """One word out of some."""
    return Parser(str, " or ".join((", ".join(values[:-1]), values[-1])), lambda x: x in values)


def choices(*values: str) -> Parser:
    """Some words out of some, with commas between them."""
    wanted = f"some of {', '.join(values)}, with commas between them"
    return Parser(texts, wanted, lambda items: set(items) <= set(values))


SCOPE = choice("layer", "kind", "global")


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: what stands behind the dashes.
        default: its value if it is not given.
        parser: what it may be.
        help: what it means.
        is_apart: whether it changes nothing of the network that comes out.
        is_place: whether it says where that is written, which is another place in each run.
    """

    name: str
    default: Any
    parser: Parser
    help: str
    is_apart: bool = False
    is_place: bool = False


class FlagTable:
    """The flags of a command.

    Args:
        program: what is run: `python -m PROGRAM`.
        intro: the first lines of the help.
        sections: the flags, by title.
        complete: sets values that depend on others, and raises a SettingsError if values do not go
            together.
        read_by: returns the names of the flags that a run with some settings reads; None for all.
    """

    def __init__(
        self,
        program: str,
        intro: Iterable[str],
        sections: Mapping[str, Iterable[Flag]],
        complete: Callable[[Settings], None] = lambda settings: None,
        read_by: Callable[[Settings], Iterable[str]] | None = None,
    ) -> None:
        self.program = program
        self.intro = tuple(intro)
        self.sections = sections
        self.flags = {flag.name: flag for section in sections.values() for flag in section}
        self.complete = complete
        self._read_by = read_by

    def read_by(self, settings: Settings) -> set[str]:
        """Returns the names of the flags that a run with some settings reads."""
        return set(self.flags if self._read_by is None else self._read_by(settings))

    def parse(self, arguments: Iterable[str]) -> Settings:
        """Reads flags, flagfiles among them.

        Args:
            arguments: as in `sys.argv`, without the name of the program.

        Raises:
            SettingsError: something is wrong with them.
        """
        settings, rest = self.parse_with_rest(arguments)
        if rest:
            example = self._example()
            raise SettingsError(
                f"{rest[0]!r} is not a flag: each starts with --, such as {example}."
            )
        self.complete(settings)
        return settings

    def parse_text(self, text: str) -> Settings:
        """Reads the text of a flagfile.

        Raises:
            SettingsError: something is wrong with it.
        """
        return self.parse(Settings(self).lines_of(text, []))

    def parse_with_rest(self, arguments: Iterable[str]) -> tuple[Settings, list[str]]:
        """Reads flags, and returns with them the arguments that are none.

        Args:
            arguments: as in `sys.argv`, without the name of the program.

        Raises:
            SettingsError: something is wrong with the flags.
        """
        settings = self._define()
        try:
            return settings, settings([self.program, *arguments])[1:]
        except (flags.Error, ValueError) as error:
            raise SettingsError(self._sentence(error)) from error

    def help_text(self) -> str:
        """All flags, by section, with their defaults."""
        lines = list(self.intro)
        for title, section in self.sections.items():
            lines += ["", f"{title}:"]
            for flag in section:
                lines.append(f"  --{flag.name}" + _default(flag))
                indent = " " * 6
                lines += textwrap.wrap(
                    flag.help, 92, initial_indent=indent, subsequent_indent=indent
                )
        return "\n".join(lines)

    def _define(self) -> Settings:
        # Values of their own, not absl's global ones: a library has no say in its user's flags.
        settings = Settings(self)
        for flag in self.flags.values():
            defined = (
                flags.BooleanFlag(flag.name, flag.default, flag.help)
                if flag.parser is SWITCH
                else flags.Flag(flag.parser, None, flag.name, flag.default, flag.help)
            )
            defined.parser = flag.parser
            flags.DEFINE_flag(defined, flag_values=settings)
        return settings

    def _example(self) -> str:
        for flag in self.flags.values():
            if flag.parser is COUNT and flag.default:
                return f"--{flag.name}={flag.default}"
        return f"--{next(iter(self.flags))}=…"

    def _sentence(self, error: Exception) -> str:
        """What absl has to say about a flag, in one sentence."""
        if isinstance(error, flags.UnrecognizedFlagError):
            hint = did_you_mean(error.flagname, self.flags, "--{}")
            return f"Unknown flag --{error.flagname}{hint}; --help shows them all."
        return " ".join(str(error).split())


def asks_for_help(arguments: Iterable[str]) -> bool:
    """Whether one of the arguments is `--help`."""
    return not _HELP.isdisjoint(arguments)


def is_ours(error: ValueError) -> bool:
    """Whether ptkeras raised an error, whose message then is for whoever typed the command.

    What others raise is a fault of ours, and keeps its traceback.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith("ptkeras.")


def fail(sentence: str) -> int:
    """Tells what is wrong, in one line whatever it quotes; returns the exit status."""
    print(" ".join(sentence.split()), file=sys.stderr)
    return 1


def as_text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default(flag: Flag) -> str:
    return "" if flag.default in (None, []) else f"={as_text(flag.default)}"
