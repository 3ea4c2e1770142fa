"""How the flags of a command are read: what converts and checks each, and what is said of it."""

from __future__ import annotations

import dataclasses
import difflib
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import flags

Settings = flags.FlagValues


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


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag: its name, what it is if left out, what reads it, and what it does."""

    name: str
    default: Any
    parser: Parser
    help: str


def read(known: Mapping[str, Flag], arguments: Iterable[str]) -> Settings:
    """Reads the flags of a command, each by itself.

    Args:
        known: the command's flags, by name.
        arguments: as in `sys.argv`, without the name of the program.

    Raises:
        SettingsError: one of them is not known or out of its range.
    """
    settings = _define(known)
    try:
        rest = settings(["ptkeras", *arguments])[1:]
    except (flags.Error, ValueError) as error:
        raise SettingsError(_sentence(error, known)) from error
    if rest:
        raise SettingsError(f"{rest[0]!r} is not a flag: each starts with --, such as --epochs=60.")
    return settings


def described(section: Iterable[Flag]) -> list[str]:
    """The lines of help on some flags."""
    lines = []
    for flag in section:
        lines.append(f"  --{flag.name}" + _default(flag))
        lines += textwrap.wrap(flag.help, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def _define(known: Mapping[str, Flag]) -> Settings:
    # Values of their own, not absl's global ones: a library has no say in its user's flags.
    settings = flags.FlagValues()
    for flag in known.values():
        boolean = flag.parser.convert is truth
        defined = (
            flags.BooleanFlag(flag.name, flag.default, flag.help)
            if boolean
            else flags.Flag(flag.parser, None, flag.name, flag.default, flag.help)
        )
        defined.parser = flag.parser
        flags.DEFINE_flag(defined, flag_values=settings)
    return settings


def _sentence(error: Exception, known: Mapping[str, Flag]) -> str:
    """What absl has to say about a flag, in one sentence."""
    if isinstance(error, flags.UnrecognizedFlagError):
        close = difflib.get_close_matches(error.flagname, known, n=1)
        hint = f" (did you mean --{close[0]}?)" if close else ""
        return f"Unknown flag --{error.flagname}{hint}; --help shows them all."
    if isinstance(error, flags.CantOpenFlagFileError):
        return f"The flagfile cannot be read: {error.__cause__ or error}."
    if isinstance(error, UnicodeDecodeError):
        return "The flagfile is not a text file."
    return " ".join(str(error).split())


def _default(flag: Flag) -> str:
    return "" if flag.default in (None, []) else f"={as_text(flag.default)}"


def as_text(value: Any) -> str:
    """A value as it stands behind its flag."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def whole(text: Any) -> int:
    """A whole number in decimal digits."""
    return int(str(text), base=10)


def wholes(text: Any) -> list[int]:
    """Whole numbers with commas between them."""
    items = text.split(",") if isinstance(text, str) else text
    return [whole(item) for item in items if str(item).strip()]


def truth(text: Any) -> bool:
    """A truth value."""
    values = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    if str(text).lower() not in values:
        raise ValueError
    return values[str(text).lower()]


# What several commands read.

TEXT = Parser(str, "some text", lambda text: bool(text.strip()))
COUNT = Parser(whole, "a whole number from 1", lambda n: n >= 1)
POSITIVE = Parser(float, "a number over 0", lambda x: 0 < x < math.inf)
SWITCH = Parser(truth, "true or false")
EPOCH = Parser(whole, "a whole number from 0", lambda n: n >= 0)
SCOPE = Parser(str, "layer, kind or global", lambda text: text in ("layer", "kind", "global"))
