"""What is shown while something takes long: on standard error, where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")


# Seconds that something takes before a bar is worth a look.
_PATIENCE = 0.5


@contextlib.contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a progress bar, which vanishes in the end.

    What is done sooner than anybody would ask for how long shows none, and nor does a part of
    something that has its own.

    Args:
        what: what is done, such as "Pruning".
        total: how many steps it has.

    Yields:
        A function to be called behind each step.
    """
    with _alone() as alone:
        console = Console(stderr=True)
        if not alone or not console.is_terminal:
            yield lambda: None
            return
        # Rich holds a terminal's lines apart from the bar, and would send a file's to it as well.
        redirect = sys.stdout.isatty()
        progress = Progress(console=console, transient=True, redirect_stdout=redirect)
        task = progress.add_task(what, total=total)
        begun = time.monotonic()

        def step() -> None:
            progress.advance(task)
            if not progress.live.is_started and time.monotonic() - begun > _PATIENCE:
                progress.start()

        try:
            yield step
        finally:
            if progress.live.is_started:
                progress.stop()


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
    with _alone() as alone:
        console = Console(stderr=True)
        seen = alone and console.is_terminal
        with console.status(f"{what} …") if seen else contextlib.nullcontext():
            yield


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Whether nothing else is being shown: a terminal has room for one, and so has Rich."""
    alone = not _showing
    _showing.append(None)
    try:
        yield alone
    finally:
        _showing.pop()


_showing: list[None] = []
