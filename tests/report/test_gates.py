import dataclasses
import json
import math
import shutil

import pytest

from ptkeras import methods, report
from ptkeras.methods.pages import gate_plots, gates, networks
from ptkeras.report import style, summary
from ptkeras.runs import schema
from ptkeras.utils.text import large
from tests.helpers.page_reader import Reader

NETWORKS = [
    {
        "network": name,
        "accuracy": accuracy,
        "params": params,
        "inference_flops": flops,
        "milliseconds": milliseconds,
    }
    for name, accuracy, params, flops, milliseconds in (
        ("dense", 0.9917, 273_754, 5_065_984, 0.0561),
        ("static", 0.9861, 96_202, 3_398_272, 0.0606),
        ("static and dynamic", 0.9944, 43_674, 1_800_960, 0.0297),
    )
]
KEYS = (*(field.key for field in methods.get("skipnet").fields), "comparison")
FORMS = schema.forms_of(methods.get("static_dynamic").fields)


@pytest.fixture(scope="module")
def run(gated):
    return report.read(gated)


@pytest.fixture(scope="module")
def page(gated):
    return report.write(gated).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


def copied(gated, folder, **changed):
    """A folder of a run with another result."""
    shutil.copytree(gated, folder)
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | changed))
    return folder


def drawn(run, **changed):
    """The sections of a run of which the result is another one; None takes a figure away."""
    result = {k: v for k, v in (run.result | changed).items() if v is not None}
    changed = dataclasses.replace(run, result=result)
    assert summary.rows(result)
    with style.styled():
        return Reader("".join([*networks.sections(changed), *gates.sections(changed)]))


def test_the_page_says_what_the_gates_decide(run, reader):
    assert "Gates" in reader.headings
    said = " ".join(reader.texts)
    assert 1 / 3 < run.result["blocks_run"] < 1  # not all alike
    assert f"A test image takes {run.result['blocks_run']:.1%} of the residual branches" in said
    assert run.result["gates"] == [3, 2]
    assert "Gates that still decide by the image: 2 of 3. The others answered alike" in said
    by_block = run.result["blocks_run_by_block"]
    assert by_block["block0_add"] == 1 and len(by_block) == 3
    by_class = run.result["blocks_run_by_class"]
    assert {*by_block, *by_class} <= set(reader.texts)
    for shares in (by_block, by_class, run.result["images_by_blocks_run"]):
        assert {f"{share:.1%}" for share in shares.values()} <= set(reader.texts)
    assert len({*by_class.values()}) > 1  # the strength of images decides


def test_its_tables_have_the_costs(run, reader):
    names = ["least", "first quartile", "median", "third quartile", "most", "mean"]
    row = reader.tables[reader.tables.index(names) + 1]
    quartiles = run.result["flops_quartiles"]
    assert quartiles[0] < quartiles[-1]
    assert row == [*map(large, [*quartiles, run.result["mean_inference_flops"]])]
    heads = ["all branches", "with skipping", "removed"]
    at = reader.tables.index(heads)  # the cell before them is empty
    assert reader.tables[at + 1] == ["Keras", "2.000", "1.500", "25.0%"]
    assert reader.tables[at + 2] == ["onnxruntime", "0.500", "0.600", "−20.0%"]


def test_what_users_named_is_neither_markup_nor_a_formula(page, reader):
    assert "<b> $x_1$" in reader.texts and "<b>" not in page


def test_ids_are_unique(reader):
    assert len(reader.ids) == len(set(reader.ids))
    for name in ("branches_run", "images_by_branches", "branches_over_epochs"):
        assert any(each.startswith(f"{name}-") for each in reader.ids)


def test_bars_are_as_long_as_shares(run):
    with style.styled():
        figure = gate_plots.branches_run(run)
        [axes] = gate_plots.images_by_branches(run).axes
    for each, key in zip(figure.axes, ("blocks_run_by_block", "blocks_run_by_class"), strict=True):
        outlines, bars = each.containers
        shares = list(run.result[key].values())
        assert [bar.get_width() for bar in bars] == pytest.approx(shares)
        assert {bar.get_width() for bar in outlines} == {1}
        assert not any(bar.get_fill() for bar in outlines)
    heights = {round(bar.get_center()[0]): bar.get_height() for bar in axes.patches}
    assert {str(n): h for n, h in heights.items()} == pytest.approx(
        run.result["images_by_blocks_run"]
    )
    assert axes.get_xlim() == (-0.5, 3.5)
    assert axes.get_xlabel() == "branches, of 3"


def test_lines_part_the_stages(run, reader):
    assert gate_plots.stages(run) == [
        ("supervised pre-training", 4),
        ("hybrid reinforcement learning", 6),
    ]
    assert "supervised pre-training to epoch 4, hybrid" in " ".join(reader.texts)
    with style.styled():
        [axes] = gate_plots.branches_over_epochs(run).axes
    shares, line = axes.lines
    assert list(shares.get_ydata()) == pytest.approx([1 - 0.1 * i for i in range(6)])
    assert list(line.get_xdata()) == [4.5, 4.5]


@pytest.mark.parametrize(
    "flags",
    [
        {"rl_epochs": "3"},  # of a fit that was longer
        {"rl_epochs": "many"},
        {"epochs": "0", "rl_epochs": "0"},
    ],
)
def test_flags_that_are_not_those_of_the_history_part_nothing(run, flags):
    other = dataclasses.replace(run, flags=run.flags | flags)
    assert gate_plots.stages(other) == []
    assert gate_plots.stages(dataclasses.replace(run, flags={})) == []


def test_a_run_without_reinforcement_has_one_stage(run):
    flags = run.flags | {"epochs": "6", "rl_epochs": "0"}
    alone = dataclasses.replace(run, flags=flags)
    assert gate_plots.stages(alone) == [("supervised pre-training", 6)]
    with style.styled():
        [axes] = gate_plots.branches_over_epochs(alone).axes
    assert len(axes.lines) == 1
    with style.styled():
        assert "The stages" not in "".join(gates.sections(alone))


def test_a_run_of_both_prunings_compares_three_networks(gated, tmp_path):
    folder = copied(gated, tmp_path / "run", method="static_dynamic", comparison=NETWORKS)
    with (folder / "flags.txt").open("a") as flags:  # the last of a flag counts
        flags.write("--epochs=1\n--pretraining_epochs=1\n--prune_ratio=0.3,0.3\n")
        flags.write("--finetune_epochs=1\n--rl_epochs=2\n")
    reader = Reader(report.write(folder).read_text(encoding="utf-8"))
    at = reader.headings.index("Static and dynamic pruning")
    assert reader.headings[at + 1] == "Gates"
    at = reader.tables.index(["network", "test accuracy", "parameters", "inference FLOPs", "ms"])
    assert reader.tables[at + 1 : at + 4] == [
        ["dense", "99.17%", "273,754", "5.07 M", "0.056"],
        ["static", "98.61%", "96,202", "3.40 M", "0.061"],
        ["static and dynamic", "99.44%", "43,674", "1.80 M", "0.030"],
    ]
    ends = [end for _, end in gate_plots.stages(report.read(folder))]
    assert ends == [1, 2, 4, 6]


def test_a_figure_that_was_not_measured_is_an_empty_cell(run):
    rows = [{k: v for k, v in row.items() if k != "milliseconds"} for row in NETWORKS]
    rows[1]["accuracy"] = None
    reader = drawn(run, comparison=rows)
    assert ["dense", "99.17%", "273,754", "5.07 M"] in reader.tables
    assert ["static", "96,202", "3.40 M"] in reader.tables


@pytest.mark.parametrize("key", KEYS)
def test_a_run_that_lacks_a_figure_is_shown_without_it(run, key):
    whole, lacking = (
        drawn(run, comparison=NETWORKS),
        drawn(run, **{"comparison": NETWORKS, key: None}),
    )
    assert len("".join(lacking.texts)) < len("".join(whole.texts))
    assert "Gates" in lacking.headings


def test_a_run_without_gates_has_no_such_section(run, dense):
    assert "Gates" not in Reader(report.write(dense).read_text(encoding="utf-8")).headings
    old = dataclasses.replace(run, history={**run.history, "blocks_run": [math.nan] * 6})
    assert drawn(old, **dict.fromkeys(KEYS)).headings == []


DAMAGE = (None, "many", -1, math.nan, math.inf, 10**400, [1], {"x": 2}, [{}], True)


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
def test_what_is_damaged_is_named(run, damage):
    schema.check("result.json", run.result, FORMS)
    for key in KEYS:
        with pytest.raises(ValueError, match=rf"result\.json has .* as {key}$"):
            schema.check("result.json", run.result | {key: damage}, FORMS)


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("gates", [2, 3]),
        ("gates", [2.5, 1]),
        ("images_by_blocks_run", {"some": 1.0}),
        ("images_by_blocks_run", {"9" * 40: 1.0}),
        ("blocks_run_by_class", {"cat": 1.5}),
        ("flops_quartiles", [1, 2, 3, 4]),
        ("comparison", [*NETWORKS, {"network": "static", "accuracy": "high"}]),
        ("comparison", [{"network": 3}]),
    ],
)
def test_damage_is_found_within_a_figure(run, key, damage):
    with pytest.raises(ValueError, match=rf"result\.json has .* as {key}$"):
        schema.check("result.json", run.result | {key: damage}, FORMS)


def test_a_damaged_run_is_refused(gated, tmp_path):
    folder = copied(gated, tmp_path / "run", mean_inference_flops="many")
    with pytest.raises(ValueError, match=r"result\.json has 'many' as mean"):
        report.write(folder)
