import dataclasses
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from ptkeras import report
from ptkeras.report import plots, style
from tests.helpers.page_reader import Reader
from tests.report.conftest import EPOCHS

pytestmark = pytest.mark.thorough

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LAYERS = ("first", "second", "head")


@pytest.fixture(scope="module")
def page(pruned):
    return report.write(pruned).read_text(encoding="utf-8")


def test_the_page_has_all_that_happened(page, pruned):
    reader = Reader(page)
    assert reader.headings == [
        "digits, small, prunetrain",
        "Summary",
        "Accuracy and loss",
        "Inference FLOPs",
        "Channels of each layer over time",
        "Reconfigurations",
        "Layers, before and after",
        "How large the channels are",
        "Flags",
    ]
    result = json.loads((pruned / "result.json").read_text())
    cells = {row[0]: row[1:] for row in reader.tables}
    dense, left = result["params"]
    assert cells["parameters"] == [f"{dense:,}", f"{left:,}", f"{1 - left / dense:.1%}"]
    assert {"training FLOPs", "memory of a training step", "seconds"} <= set(cells)
    assert {"gradient traffic", "seconds of an epoch, as a median"} <= set(cells)
    assert "2" in cells  # the epoch of the first reconfiguration
    assert {"first", "spatial", "second"} <= set(reader.texts)  # the layers, in two plots
    assert " threshold 0.4" in reader.texts
    assert any(text.startswith(f"end (epoch {EPOCHS}") for text in reader.texts)
    assert "--threshold=0.4" in "".join(reader.texts)


def test_the_page_needs_no_network_and_runs_no_script(page):
    reader = Reader(page)
    assert "script" not in reader.tags
    assert all(x.startswith(("#", "data:")) for x in reader.addresses)
    assert not re.search(r"url\((?!#)", page)


def test_what_users_named_is_text_and_not_markup(page):
    assert "pruned &lt;b&gt;&amp;" in page
    assert "b" not in Reader(page).tags


def test_its_colours_are_those_of_the_reader(page):
    assert "prefers-color-scheme: dark" in page
    stand_in = re.compile(r"#(?:0[1-6]){3}\b")
    assert all(map(stand_in.fullmatch, dataclasses.astuple(style.PAGE)))
    assert not stand_in.search(page)
    assert "var(--blue)" in page and "var(--ink)" in page


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK])
def test_colours_stand_out_from_the_page_without_colour_too(palette):
    for name in ("ink", "blue", "orange", "green"):
        assert contrast(to_rgb(getattr(palette, name)), to_rgb(palette.paper)) > 4.5, name


@pytest.mark.parametrize("draw", [plots.learning, plots.flops])
def test_a_run_of_one_epoch_has_points(pruned, draw):
    run = report.read(pruned)
    first = {name: column[:1] for name, column in run.history.items()}
    figure = draw(dataclasses.replace(run, history=first))
    points = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(points) > 2 and all(line.get_marker() in ("o", "*") for line in points)


def test_cells_too_narrow_for_their_number_have_none(pruned):
    run = report.read(pruned)
    epochs = [float(n) for n in range(1, 1001)]  # the network changes in the first few
    long = dataclasses.replace(run, history={**run.history, "epoch": epochs})
    with style.styled():
        [axes] = plots.heat_map(long).axes
    wide = [cell for cell in axes.patches if cell.get_width() > 10]
    assert 0 < len(wide) == len(axes.texts) < len(axes.patches)


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK])
def test_the_numbers_of_the_heat_map_stand_out_from_their_cells(pruned, palette):
    run = report.read(pruned)
    run.reconfigurations[0]["layers"]["second"][1] = 8  # of 12, a cell of middling strength
    with style.styled():
        [axes] = plots.heat_map(run).axes
    cells = axes.patches
    assert len(cells) == len(axes.texts) > 3
    assert {text.get_color() for text in axes.texts} == {style.PAGE.ink}
    assert {to_hex(cell.get_facecolor()) for cell in cells} == {style.PAGE.blue}
    paper, ink, blue = (np.array(to_rgb(getattr(palette, n))) for n in ("paper", "ink", "blue"))
    for cell in cells:
        assert contrast(ink, paper + cell.get_alpha() * (blue - paper)) > 4.5  # as screens blend


def test_no_line_goes_through_a_number_of_the_heat_map(pruned):
    run = report.read(pruned)
    with style.styled():
        [axes] = plots.heat_map(run).axes
    assert not axes.lines
    last = {t.get_position()[1]: t for t in axes.texts}  # of each layer
    final = run.architecture["final"]["layers"]
    assert [t.get_text() for t in last.values()] == [str(final.get(n, 0)) for n in LAYERS]
    assert all(t.get_position()[0] > EPOCHS for t in last.values())
    assert max(axes.get_xticks()) == EPOCHS


def test_the_star_is_explained_outside_of_the_points(pruned):
    with style.styled():
        figure = plots.flops(report.read(pruned))
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["at the end"]
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not axes.get_window_extent().overlaps(legend.get_window_extent())


def contrast(a, b):
    """WCAG's contrast of two colours; 4.5 is enough for text."""

    def luminance(colour):
        linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def test_ids_are_unique_and_what_refers_to_one_finds_it(page):
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids)) > 50
    links = [address[1:] for address in reader.addresses if address.startswith("#")]
    links += re.findall(r"url\(#(.*?)\)", page)
    assert links and set(links) <= set(reader.ids)


def test_there_is_no_pace_of_a_network_that_was_trained_for_one_epoch(pruned, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder)
    told = json.loads((folder / "architecture.json").read_text())
    told["reconfigurations"][0]["epoch"] = 1
    (folder / "architecture.json").write_text(json.dumps(told))
    before, after = report.write(pruned).read_text(), report.write(folder).read_text()
    for said in ("seconds of an epoch, as a median", "without the epoch that compiled the step"):
        assert said in before and said not in after


def test_a_dense_run_has_a_page_too(dense):
    reader = Reader(report.write(dense).read_text(encoding="utf-8"))
    assert "Accuracy and loss" in reader.headings
    assert "Channels of each layer over time" not in reader.headings
    assert ["parameters"] in [row[:1] for row in reader.tables]
    assert "removed" not in reader.tables[0]
    [pace] = [row for row in reader.tables if row[0].startswith("seconds of an epoch")]
    assert len(pace) == 2


def test_a_sparse_run_shows_its_zeros(dense, tmp_path):
    folder = tmp_path / "sparse"
    shutil.copytree(dense, folder)
    lines = (folder / "history.csv").read_text().splitlines()
    more = ["sparsity", *(str(0.1 * i) for i in range(EPOCHS))]
    (folder / "history.csv").write_text(
        "\n".join(f"{a},{b}" for a, b in zip(lines, more, strict=True)) + "\n"
    )
    result = json.loads((folder / "result.json").read_text())
    result |= {"method": "magnitude", "sparsity": 0.3, "nonzero_params": [100, 70]}
    (folder / "result.json").write_text(json.dumps(result | {"gzip_bytes": [400, 300]}))
    reader = Reader(report.write(folder).read_text(encoding="utf-8"))
    assert "Weights that are zero" in reader.headings
    assert ["parameters not zero", "100", "70", "30.0%"] in reader.tables


def test_names_of_layers_are_no_formulas(pruned, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder)
    told = (folder / "architecture.json").read_text()
    (folder / "architecture.json").write_text(told.replace('"second"', '"$x_2$<i>"'))
    page = report.write(folder).read_text(encoding="utf-8")
    assert "$x_2$<i>" in Reader(page).texts and "<i>" not in page


def test_a_layer_may_be_wider_than_the_dense_one(pruned, tmp_path):
    """Pruning from Scratch searches an expanded network."""
    folder = tmp_path / "run"
    shutil.copytree(pruned, folder)
    told = json.loads((folder / "architecture.json").read_text())
    wide = told["initial"]["layers"]["second"] + 1
    told["final"]["layers"]["second"] = wide
    for change in told["reconfigurations"]:
        change["layers"]["second"] = [wide, wide]
    (folder / "architecture.json").write_text(json.dumps(told))
    assert str(wide) in Reader(report.write(folder).read_text(encoding="utf-8")).texts


def test_a_page_is_whole_or_what_it_was(pruned, monkeypatch):
    before = report.write(pruned).read_bytes()
    assert report.write(pruned).read_bytes() == before  # the same run is the same page

    def fails(run):
        raise RuntimeError

    monkeypatch.setattr(report.plots, "norms", fails)
    with pytest.raises(RuntimeError):
        report.write(pruned)
    assert (pruned / "report.html").read_bytes() == before
    assert not list(pruned.glob(".new_*"))


def opened(path, tmp_path, *flags):
    """What a browser says on its console about a page, and a picture of it."""
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--window-size=1000,3000",
            f"--screenshot={picture}",
            *flags,
            path.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert picture.exists(), done.stderr
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return said, picture.read_bytes()


needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)"
)


@needs_browser
@pytest.mark.parametrize("kind", ["dense", "gated"])
def test_a_browser_has_no_complaint_of_other_methods(kind, request, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(request.getfixturevalue(kind), run)
    said, _ = opened(report.write(run), tmp_path)
    assert said == []


@needs_browser
def test_a_browser_shows_the_page_without_a_complaint(page, pruned, tmp_path):
    said, light = opened(pruned / "report.html", tmp_path)
    assert said == []
    said, dark = opened(pruned / "report.html", tmp_path, "--blink-settings=preferredColorScheme=0")
    assert said == []
    assert light != dark
    # What the browser would say of a page that asks for something else.
    (tmp_path / "other.html").write_text(page.replace("</body>", '<img src="x.png"></body>'))
    said, _ = opened(tmp_path / "other.html", tmp_path)
    assert "Content Security Policy" in "".join(said)
