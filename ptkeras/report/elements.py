"""What pages are made of."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ptkeras.report.style import svg

if TYPE_CHECKING:
    from ptkeras.report.runs import Run

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def text(value: object) -> str:
    """A value as text, whatever characters it has; a question mark for those that no page has."""
    there = str(value).encode("utf-8", "replace").decode()
    return html.escape(_CONTROL.sub("?", there))


def paragraph(says: str) -> str:
    """A paragraph of text."""
    return f"<p>{text(says)}</p>"


def section(title: str, body: str) -> str:
    """A part of the page under a heading.

    Args:
        title: the heading, as text.
        body: what is under it, as HTML.
    """
    return f"<section>\n<h2>{text(title)}</h2>\n{body}\n</section>"


def figure(draw: Callable[[Run], Figure], run: Run, says: str) -> str:
    """A plot of a run.

    Args:
        draw: what draws it; the ids in the plot begin with its name.
        run: the run.
        says: what the plot shows, for those who cannot see it.
    """
    drawn = svg(draw(run), draw.__name__)
    return f'<figure role="img" aria-label="{text(says)}">\n{drawn}\n</figure>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""

    def line(cells: Sequence[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{text(cell)}</{kind}>" for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    head = f"<thead>{line(heads, 'th')}</thead>"
    return f'<div class="table"><table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'
