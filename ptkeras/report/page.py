"""A run as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable

from ptkeras.report import plots, summary
from ptkeras.report.elements import figure, paragraph, section, table, text
from ptkeras.report.runs import Run
from ptkeras.report.style import style_sheet, styled
from ptkeras.utils.text import removed
from ptkeras.version import __version__

_STYLE = """
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.15rem; margin-top: 2.5rem; border-bottom: 1px solid var(--faint); }
figure, .table { margin: 0; overflow-x: auto; }
figure svg { width: 100%; min-width: 36rem; height: auto; }
svg text { font-family: system-ui, sans-serif; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .9rem .15rem 0; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
td { font-weight: normal; }
code, .flags { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
.flags { columns: 3 15rem; list-style: none; padding: 0; }
footer { margin-top: 3rem; font-size: .85rem; }
@media print { h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""
END = "</html>\n"
# Nothing may be loaded from anywhere: a browser would say so on its console.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(run: Run) -> str:
    """The page of a run; it needs nothing but itself.

    Args:
        run: a finished run.
    """
    with styled():
        sections = "\n".join(_sections(run))
    title = text(run.title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{title}: {text(run.name)}</title>
<style>
{style_sheet()}{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>Seed {text(run.result["seed"])}, run folder <code>{text(run.name)}</code></p>
{sections}
<footer>Made by ptkeras {text(__version__)}. FLOPs are twice the multiply-accumulates; training
FLOPs are those of the whole run, inference FLOPs those of one image.</footer>
</body>
{END}"""


def _sections(run: Run) -> Iterable[str]:
    yield section("Summary", paragraph(summary.sentence(run.result)) + _summary_table(run))
    yield section(
        "Accuracy and loss",
        figure(plots.learning, run, "Accuracy and loss over the epochs"),
    )
    yield from run.method.sections(run)
    if "final" in run.architecture:
        drawn = figure(plots.layers, run, "Each layer's channels and multiply-accumulates")
        yield section("Layers, before and after", drawn)
    if run.norms:
        drawn = figure(plots.norms, run, "Distribution of the magnitudes of channels")
        yield section("How large the channels are", drawn)
    yield section("Flags", _flags(run))


def _summary_table(run: Run) -> str:
    rows = summary.rows(run.result)
    paces = run.epoch_seconds()
    if paces:
        first, last = paces
        before = (f"{first:.3g}", removed(first, last)) if run.reconfigurations else ("", "")
        rows.append(("seconds of an epoch, as a median", before[0], f"{last:.3g}", before[1]))
    method = run.result["method"]
    if not run.method.is_pruning:
        return table(("", method), [(name, now) for name, _, now, _ in rows])
    heads = ("", "dense", method, "removed")
    note = ""
    if paces and run.reconfigurations:
        note = (
            "<p>The seconds of an epoch are those of the first network that was trained and of the "
            "last, each without the epoch that compiled the step.</p>"
        )
    return table(heads, rows) + note


def _flags(run: Run) -> str:
    flags = (text(f"--{name}={value}") for name, value in run.flags.items())
    return '<ul class="flags">\n' + "\n".join(f"<li>{flag}</li>" for flag in flags) + "\n</ul>"
