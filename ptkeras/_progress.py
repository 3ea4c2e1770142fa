"""What is shown while something takes long: on standard error, where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")


@contextlib.contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar, which vanishes in the end.

    Args:
        what: what is done, such as "Pruning".
        total: how many steps it has.

    Yields:
        A function to be called behind each step.
    """
    console = Console(stderr=True)
    # Rich holds a terminal's lines apart from the bar, and would send a file's to it as well.
    redirect = sys.stdout.isatty()
    with Progress(
        console=console, transient=True, redirect_stdout=redirect, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """Iterates behind a `bar`.

    Args:
        items: what is iterated over.
        what: what is done.
    """
    with bar(what, len(items)) as step:
        for item in items:
            yield item
            step()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Says what is being done, where nobody knows how far it is.

    Args:
        what: what is done, such as "Converting to ONNX".
    """
    console = Console(stderr=True)
    with console.status(f"{what} …") if console.is_terminal else contextlib.nullcontext():
        yield
