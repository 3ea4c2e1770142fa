import io

from rich.console import Console

from ptkeras.methods.pages import networks
from ptkeras.report import summary
from ptkeras.utils.text import removed

RESULT = {
    "dataset": "digits",
    "model": "resnet20",
    "method": "prunetrain",
    "epochs": 60,
    "accuracy": 0.99444,
    "training_flops": [1_310_400_000_000, 786_240_000_000],
    "gradient_traffic": [2_915_000_000, 1_311_750_000],
    "inference_flops": [5_065_984, 1_013_196],
    "params": [273_754, 27_375],
    "channels": [448, 112],
    "seconds": 1234.5,
}
GATED = RESULT | {"method": "skipnet"}


def shown(result):
    out = io.StringIO()
    summary.show(result, Console(file=out, width=80))
    lines = (line.strip("│ ").split("│") for line in out.getvalue().splitlines() if "│" in line)
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_a_pruned_run_is_shown_beside_the_dense_network():
    rows = shown(RESULT)
    assert rows["test accuracy"] == ["", "99.44%"]
    assert rows["training FLOPs"] == ["1.31 T", "786.24 G", "40.0%"]
    assert rows["inference FLOPs"] == ["5.07 M", "1.01 M", "80.0%"]
    assert rows["gradient traffic"] == ["2.92 GB", "1.31 GB", "55.0%"]
    assert rows["parameters"] == ["273,754", "27,375", "90.0%"]
    assert rows["channels"] == ["448", "112", "75.0%"]
    assert rows["seconds"] == ["", "1,234"]
    assert rows["epochs"] == ["", "60"]  # results of before do not say how long the dense run is
    assert shown(RESULT | {"dense_epochs": 40})["epochs"] == ["40", "60"]


def test_what_is_rounded_to_nothing_has_no_sign():
    assert removed(1e6, 1e6 + 2) == "0.0%"
    assert removed(100, 150) == "−50.0%"


def test_a_dense_run_is_shown_alone():
    rows = shown(RESULT | {"method": "dense"})
    assert rows["training FLOPs"] == ["786.24 G"]
    assert rows["parameters"] == ["27,375"]


def test_a_run_with_gates_tells_of_the_milliseconds():
    gates = {"blocks_run": 0.4, "mean_inference_flops": 900_000}
    rows = shown(GATED | gates | {"milliseconds_keras": [2.0, 1.5]})
    assert rows["ms of an image, Keras"] == ["2.000", "1.500", "25.0%"]
    assert "ms of an image, onnxruntime" not in rows


def test_figures_are_those_that_methods_can_be_compared_by():
    plain = summary.figures(RESULT)
    assert plain == {name: RESULT[name] for name in plain}
    sparse = summary.figures(RESULT | {"method": "magnitude", "nonzero_params": [273_754, 17_331]})
    assert sparse["params"] == [273_754, 17_331]
    gated = summary.figures(GATED | {"mean_inference_flops": 900_000})
    assert gated["inference_flops"] == [5_065_984, 900_000]


def test_seconds_are_with_those_of_the_search():
    searched = RESULT | {"method": "pruning_from_scratch", "search_seconds": 100.5}
    assert summary.figures(searched)["seconds"] == 1335.0
    rows = shown(searched)
    assert rows["seconds"] == ["", "1,335"]
    assert rows["… of the search"] == ["", "100"]


def test_figures_of_gates_are_shown_each_for_itself():
    """Older runs lack some of them."""
    assert shown(GATED | {"blocks_run": 0.4})["residual branches run"] == ["", "40.0%"]
    mean = shown(GATED | {"mean_inference_flops": 900_000})["… of an image, in mean"]
    assert mean == ["5.07 M", "900.00 k", "82.2%"]


def test_networks_beside_each_other_lack_what_was_not_measured():
    row = {"network": "static", "accuracy": 0.5, "params": 1234, "inference_flops": 2e6}
    cells = ("static", "50.00%", "1,234", "2.00 M", "")
    assert networks.rows([row, row | {"milliseconds": None}]) == [cells, cells]
    compared = RESULT | {"method": "static_dynamic", "comparison": [row]}
    assert shown(compared)["static"] == list(cells[1:-1])


def test_a_run_in_a_sentence():
    pruned = "99.44% of the test images are right, 80.0% fewer inference FLOPs, 40.0% fewer"
    assert summary.sentence(RESULT) == f"{pruned} training FLOPs."
    against = {"dense_accuracy": 0.99, "dense_seconds": 1000.0}
    assert summary.sentence(RESULT | against) == (
        "99.44% of the test images are right (dense: 99.00%), 80.0% fewer inference FLOPs, 40.0% "
        "fewer training FLOPs, 23.4% more time."
    )
    paced = summary.sentence(RESULT | {"dense_estimate": 1800.0})
    assert paced.endswith("31.4% less time than at the pace of its own dense epochs.")
    assert summary.sentence(RESULT | {"method": "dense"}) == "99.44% of the test images are right."


def test_a_dense_run_stands_beside_the_accuracy_and_the_seconds():
    rows = shown(RESULT | {"dense_accuracy": 0.99, "dense_seconds": 2000.0})
    assert rows["test accuracy"] == ["99.00%", "99.44%"]
    assert rows["seconds"] == ["2,000", "1,234", "38.3%"]
