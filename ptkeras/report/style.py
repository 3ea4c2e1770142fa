"""How plots look: drawn once, in colours that the page names, for light, dark and paper."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator

import matplotlib
from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours by what they are for; the last three tell things from each other."""

    ink: str
    faint: str
    paper: str
    blue: str
    orange: str
    green: str


# Matplotlib wants numbers for colours. These stand for what the style sheet says, and `svg` puts
# that in their place.
PAGE = Palette(*(f"#{number:02d}{number:02d}{number:02d}" for number in range(1, 7)))
# Okabe and Ito's colours, darkened: they differ for the colour blind, and in lightness.
LIGHT = Palette("#1b1b1b", "#d4d4d4", "#ffffff", "#0063a0", "#c25700", "#00805c")
DARK = Palette("#e6e6e6", "#454545", "#161616", "#66b9f0", "#f0a04b", "#3fc79d")

# What tells lines, and points, from each other where there is no colour.
DASHES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


_TAG = re.compile(r"<[^>]*>")
_ID = re.compile(r'(?<= id=")|(?<=href="#)|(?<=url\(#)')  # where an id begins


@contextlib.contextmanager
def styled(palette: Palette = PAGE) -> Iterator[None]:
    """Within it, figures are drawn in the style of the page.

    Args:
        palette: the colours.
    """
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style = {
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.6,
        "grid.color": palette.faint,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "figure.facecolor": "none" if palette is PAGE else palette.paper,
        "axes.facecolor": "none",
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "ptkeras",  # the same plot is the same file
        **dict.fromkeys(ink, palette.ink),
    }
    with matplotlib.rc_context(style):
        yield


def svg(figure: Figure, name: str) -> str:
    """A figure in the colours of `PAGE` as an element of the page.

    Args:
        figure: the figure.
        name: its own on the page; the ids in it begin with that, since matplotlib counts them
            from 1 in every figure.
    """
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    for colour, number in dataclasses.asdict(PAGE).items():
        text = text.replace(number, f"var(--{colour})")
    text = text[text.index("<svg") :].strip()
    return _TAG.sub(lambda tag: _ID.sub(f"{name}-", tag[0]), text)


def style_sheet() -> str:
    """The colours of the page: light on a light screen and on paper, dark on a dark one."""

    def rule(palette: Palette) -> str:
        pairs = dataclasses.asdict(palette).items()
        return ":root {" + " ".join(f"--{name}: {colour};" for name, colour in pairs) + "}"

    dark = f"@media screen and (prefers-color-scheme: dark) {{ {rule(DARK)} }}"
    return f":root {{ color-scheme: light dark; }}\n{rule(LIGHT)}\n{dark}\n"
