"""The sections of the page about what a method removed, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ptkeras.report import plots
from ptkeras.report.elements import figure, section, table
from ptkeras.utils.text import large, whole

if TYPE_CHECKING:
    from ptkeras.report.runs import Run


def sections(run: Run) -> Iterator[str]:
    """Returns the sections of a run that removed channels.

    Args:
        run: a finished run.
    """
    yield section(
        "Inference FLOPs",
        figure(plots.flops, run, "Inference FLOPs over the epochs, and accuracy against them"),
    )
    yield section(
        "Channels of each layer over time",
        "<p>The numbers are the channels that a layer has; the stronger the colour, the more of "
        "its first ones are left.</p>"
        + figure(plots.heat_map, run, "Channels of each layer over the epochs"),
    )
    if run.reconfigurations:
        yield section("Reconfigurations", _reconfigurations(run))


def _reconfigurations(run: Run) -> str:
    rows = [
        (
            str(change["epoch"]),
            " → ".join(map(whole, change["channels"])),
            " → ".join(map(whole, change["params"])),
            " → ".join(map(large, change["inference_flops"])),
            f"{change['seconds']:.2f}",
        )
        for change in run.reconfigurations
    ]
    return table(("epoch", "channels", "parameters", "inference FLOPs", "seconds"), rows)
