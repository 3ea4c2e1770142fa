import json
import shutil

import pytest

from ptkeras.cli import sweep, train
from ptkeras.runs.run_folder import RunFolder

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    flags = [
        "--method=dense",
        "--model=tests.helpers.small_network:build",
        "--epochs=2",
        "--learning_rate=0.02",
    ]
    flags += ["--batch_size=128", "--weight_decay=3e-4"]
    assert train.main([*flags, f"--output_dir={folder}"]) == 0
    return folder


def test_the_table_of_a_run(finished, capsys):
    flags = [f"--run={finished}", "--ratios=0.3,0.9", "--finetune_epochs=1"]
    assert sweep.main(flags) == 0
    told = json.loads((finished / "sweep.json").read_text())
    low, high = told["rows"]["0.3"], told["rows"]["0.9"]
    result = json.loads((finished / "result.json").read_text())
    assert told["dense"] == pytest.approx(result["accuracy"])
    assert low["accuracy"] >= high["accuracy"]
    assert high["finetuned"] is not None
    assert low["conv_threshold"] < high["conv_threshold"]
    assert high["conv_sparsity"] == pytest.approx(0.9, abs=0.01)
    assert "fine-tuned" in capsys.readouterr().out
    before = (finished / "sweep.json").stat().st_mtime_ns
    assert sweep.main(flags) == 0  # all of it is there
    assert (finished / "sweep.json").stat().st_mtime_ns == before


def test_the_weights_decay_as_in_the_run(finished, monkeypatch):
    import keras

    fit, seen = keras.Model.fit, []

    def watched(model, *args, **options):
        seen.append({round(float(v.regularizer.l2), 8) for v in model.trainable_variables})
        return fit(model, *args, **options)

    monkeypatch.setattr(keras.Model, "fit", watched)
    assert sweep.main([f"--run={finished}", "--ratios=0.4", "--finetune_epochs=1"]) == 0
    assert seen == [{1.5e-4}]


def test_kernels_by_themselves(finished, capsys):
    assert sweep.main([f"--run={finished}", "--ratios=0.8", "--sensitivity"]) == 0
    told = json.loads((finished / "sweep.json").read_text())
    assert "block1_conv1" in told["sensitivity"]["accuracies"]
    assert "0.3" not in told["rows"]  # those were of other flags
    assert "predictions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "--run: must name"),
        (["--run=/nowhere/at/all"], "there is no finished run"),
        (["--run=x", "--ratios=1.5"], "--ratios=1.5: must be shares from 0 to under 1"),
        (["--run=x", "--ratio=0.5"], "did you mean --ratios?"),
    ],
)
def test_what_cannot_be_followed_is_told_of(flags, says, capsys):
    assert sweep.main(flags) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_data_that_is_not_there_is_told_of(finished, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    flags = RunFolder(run).flags
    flags.write_text(flags.read_text().replace("--dataset=digits", "--dataset=cifar10"))
    assert sweep.main([f"--run={run}", f"--data_dir={tmp_path / 'nowhere'}"]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_help_shows_the_flags(capsys):
    assert sweep.main(["--help"]) == 0
    assert "--finetune_epochs=0" in capsys.readouterr().out
