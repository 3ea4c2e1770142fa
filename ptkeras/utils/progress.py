"""What is shown while something takes long: on standard error, where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

T = TypeVar("T")


# Seconds that something takes before a bar is worth a look.
_PATIENCE = 0.5


@contextlib.contextmanager
def bar(what: str, total: int, timed: bool = False) -> Iterator[Callable[[], None]]:
    """Shows a progress bar, which vanishes in the end.

    What is done sooner than anybody would ask for how long shows none, and nor does a part of
    something that has its own.

    Args:
        what: what is done, such as "Pruning".
        total: how many steps it has.
        timed: whether the steps are timed: the bar then moves between them alone, and takes no time
            of theirs.

    Yields:
        A function to be called behind each step.
    """
    after_the_text = Progress.get_default_columns()[1:]
    with _progress(_text("{task.description}"), *after_the_text, auto_refresh=not timed) as shown:
        if shown is None:
            yield lambda: None
            return
        task = shown.add_task(what, total=total)
        begun = time.monotonic()

        def step() -> None:
            shown.advance(task)
            if not shown.live.is_started and time.monotonic() - begun > _PATIENCE:
                shown.start()
            elif timed:
                shown.refresh()

        yield step


def track(items: Sequence[T], what: str, timed: bool = False) -> Iterator[T]:
    """Iterates behind a `bar`.

    Args:
        items: what is iterated over.
        what: what is done.
        timed: as for `bar`.
    """
    with bar(what, len(items), timed) as step:
        for item in items:
            yield item
            step()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Says what is being done, where nobody knows how far it is; what is done soon is not told of.

    Args:
        what: what is done, such as "Converting to ONNX".
    """
    with _progress(SpinnerColumn(), _text("{task.description} …")) as shown:
        if shown is None:
            yield
            return
        shown.add_task(what, total=None)
        streams = sys.stdout, sys.stderr
        timer = threading.Timer(_PATIENCE, shown.start)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            if shown.live.is_started:
                # Rich puts back what it found, which was not there for long if code within `with`
                # had redirected it just then.
                shown.stop()
                sys.stdout, sys.stderr = streams


def _text(text: str) -> TextColumn:
    """Not as markup, which a path with brackets is not."""
    return TextColumn(text, markup=False)


@contextlib.contextmanager
def _progress(*columns: Any, auto_refresh: bool = True) -> Iterator[Progress | None]:
    """What may be started and is stopped in the end; None where nobody is to see it."""
    with _alone() as alone:
        console = Console(stderr=True)
        if not alone or not console.is_terminal:
            yield None
            return
        # Rich holds a terminal's lines apart from the bar, and would send a file's to it as well.
        redirect = sys.stdout.isatty()
        progress = Progress(
            *columns,
            console=console,
            auto_refresh=auto_refresh,
            transient=True,
            redirect_stdout=redirect,
        )
        try:
            yield progress
        finally:
            if progress.live.is_started:
                progress.stop()


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
