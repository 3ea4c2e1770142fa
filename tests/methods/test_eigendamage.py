import json
import shutil

import keras
import numpy as np
import pytest

from ptkeras import cost
from ptkeras.cli import train
from ptkeras.methods import settings
from ptkeras.methods.callbacks.eigendamage import first_images
from ptkeras.models import build
from tests.helpers.same_run import assert_same_weights, stopped_in

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]

SHORT = [
    "--method=eigendamage",
    "--model=tests.helpers.small_network:build",
    "--epochs=2",
    "--batch_size=256",
    "--learning_rate=0.05",
    "--learning_rate_drops=1",
    "--weight_decay=1e-3",
    "--prune_ratio=0.4,0.3",
    "--prune_ratio_limit=0.6",
    "--fisher_images=64",
    "--finetune_epochs=2",
    "--finetune_learning_rate=0.01",
]


def run(folder, *flags):
    return train.main([*SHORT, f"--output_dir={folder}", *flags])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(folder) == 0
    return folder


def told(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_run_trains_prunes_and_fine_tunes(finished):
    dense = build("tests.helpers.small_network:build", (8, 8, 1), 10)
    model = keras.models.load_model(finished / "model.keras")
    result = told(finished, "result")
    assert result["inference_flops"] == [cost.inference_flops(dense), cost.inference_flops(model)]
    assert result["params"] == [dense.count_params(), model.count_params()]
    assert result["epochs"] == 2 + 2 * 2
    assert result["inference_flops"][1] < result["inference_flops"][0]
    changes = told(finished, "architecture")["reconfigurations"]
    assert [change["epoch"] for change in changes] == [2, 4]
    assert changes[0]["inference_flops"][1] == changes[1]["inference_flops"][0]
    assert changes[1]["inference_flops"][1] == result["inference_flops"][1]
    assert any(before != after for before, after in changes[0]["layers"].values())
    rows = [row.split(",") for row in (finished / "history.csv").read_text().splitlines()]
    rates = [float(row[rows[0].index("learning_rate")]) for row in rows[1:]]
    assert rates == pytest.approx([0.05, 0.005, 0.01, 0.001, 0.01, 0.001])
    # An epoch costs what the network that it trained costs, and a pruning two passes over images.
    spent = [int(row[rows[0].index("training_flops")]) for row in rows[1:]]
    first = cost.training_flops(dense)
    assert spent[1] == 2 * 1437 * first
    small = 3 * changes[0]["inference_flops"][1]
    assert spent[2] - spent[1] == 2 * 64 * first + 1437 * small


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_like_one_that_was_not(finished, tmp_path):
    # Behind a pruning that is not saved yet, behind one that is, and in a fine-tuning.
    for at, saved in ((1, False), (1, True), (2, True)):
        with stopped_in(at, saved):
            assert run(tmp_path / "stopped") == 130
    assert run(tmp_path / "stopped") == 0
    assert_same_weights(finished, tmp_path / "stopped")
    whole, stopped = (
        told(folder, "architecture")["reconfigurations"]
        for folder in (finished, tmp_path / "stopped")
    )
    assert [one | {"seconds": 0} for one in whole] == [one | {"seconds": 0} for one in stopped]


def test_a_finished_run_may_be_asked_for_an_export(finished, tmp_path):
    import onnx

    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    assert run(folder, "--export=onnx") == 0
    told = {one.key: one.value for one in onnx.load(folder / "model.onnx").metadata_props}
    assert (told["method"], told["network"]) == ("eigendamage", "tests.helpers.small_network:build")


def test_the_images_are_as_many_as_asked_for_and_always_the_same():
    for count in (100, 300):
        flags = settings.parse(["--method=eigendamage", f"--fisher_images={count}"])
        first, second = first_images(flags), first_images(flags)
        assert first.shape == (count, 8, 8, 1)
        np.testing.assert_array_equal(first, second)


def test_flags_go_round():
    flags = settings.parse(["--method=eigendamage", "--prune_ratio=0.5,0.25"])
    assert flags.prune_ratio == [0.5, 0.25]
    assert "--prune_ratio=0.5,0.25\n" in flags.to_text()


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_flagfiles_have_the_authors_schedule(dataset):
    """Of their Ekfacf_eigen_base.json: second moments measured in the eigenbasis, as here."""
    values = settings.parse([f"--flagfile=flags/{dataset}_resnet32_eigendamage.flags"])
    assert values.prune_ratio == [0.55, 0.5, 0.45, *[0.4] * 6, 0.35, 0.35, 0.3]
    assert (values.finetune_epochs, values.prune_ratio_limit) == (120, 0.5)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--prune_ratio=", "numbers over 0 and under 1, such as"),
        ("--prune_ratio=0.5,1", "numbers over 0 and under 1, such as"),
        ("--prune_ratio=half", "numbers over 0 and under 1, such as"),
        ("--prune_ratio_limit=1", "over 0 and under 1"),
        ("--fisher_images=0", "a whole number from 1"),
        ("--finetune_epochs=0", "a whole number from 1"),
        ("--finetune_learning_rate=0", "a number over 0"),
    ],
)
def test_flags_that_cannot_be_followed(flag, says):
    with pytest.raises(settings.SettingsError, match=says):
        settings.parse(["--method=eigendamage", flag])
