"""What the page of a run says of gates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ptkeras.methods.pages import gate_plots
from ptkeras.report.elements import figure, paragraph, section, table
from ptkeras.utils.text import large, milliseconds, percent, removed

if TYPE_CHECKING:
    from ptkeras.report.runs import Run

_RUNTIMES = {"Keras": "milliseconds_keras", "onnxruntime": "milliseconds_onnxruntime"}
_QUARTILES = ("least", "first quartile", "median", "third quartile", "most")


def sections(run: Run) -> Iterator[str]:
    """Returns the section of a run with gates; none if it tells nothing of them.

    Args:
        run: a finished run. What it does not tell, is left out.
    """
    parts = [*_decisions(run), *_costs(run), *_epochs(run)]
    if parts:
        yield section("Gates", "\n".join(parts))


def _decisions(run: Run) -> Iterator[str]:
    sentences = [*_sentences(run)]
    if sentences:
        yield paragraph(" ".join(sentences))
    if run.result.get("blocks_run_by_block") or run.result.get("blocks_run_by_class"):
        says = "Share of branches that are run, by block and by class"
        yield figure(gate_plots.branches_run, run, says)
    if run.result.get("images_by_blocks_run"):
        says = "Share of the test images by the number of branches that they take"
        yield figure(gate_plots.images_by_branches, run, says)


def _sentences(run: Run) -> Iterator[str]:
    if "blocks_run" in run.result:
        share = percent(run.result["blocks_run"])
        yield f"A test image takes {share} of the residual branches with gates, in mean."
    if "gates" in run.result:
        gates, left = run.result["gates"]
        yield f"Gates that still decide by the image: {left} of {gates}."
        if left < gates:
            yield (
                "The others answered alike for all training images; they are gone from the "
                "finished network, and so are the branches that none of those takes."
            )


def _costs(run: Run) -> Iterator[str]:
    if "flops_quartiles" in run.result:
        yield paragraph(
            "Inference FLOPs of the test images, with those of the gates that are left:"
        )
        yield _flops(run)
    pairs = {name: run.result[key] for name, key in _RUNTIMES.items() if key in run.result}
    if pairs:
        yield paragraph("Milliseconds of one test image at a time (onnxruntime on one thread):")
        rows = [
            (name, milliseconds(dense), milliseconds(now), removed(dense, now))
            for name, (dense, now) in pairs.items()
        ]
        yield table(("", "all branches", "with skipping", "removed"), rows)


def _flops(run: Run) -> str:
    cells = dict(zip(_QUARTILES, run.result["flops_quartiles"], strict=True))
    if "mean_inference_flops" in run.result:
        cells["mean"] = run.result["mean_inference_flops"]
    return table([*cells], [[large(value) for value in cells.values()]])


def _epochs(run: Run) -> Iterator[str]:
    if not any(map(math.isfinite, run.history.get("blocks_run", []))):
        return
    stages = gate_plots.stages(run)
    if len(stages) > 1:
        told = ", ".join(f"{name} to epoch {end}" for name, end in stages)
        yield paragraph(f"The stages, parted by lines in the plot: {told}.")
    says = "Share of branches that the test images take over the epochs"
    yield figure(gate_plots.branches_over_epochs, run, says)
