"""Every method keeps the contract of `ptkeras.methods.Method`; another takes a file and a line."""

import itertools
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import keras
import pytest

from ptkeras import methods
from ptkeras.cli import train
from ptkeras.data import digits
from ptkeras.methods import settings
from ptkeras.report import runs, summary
from ptkeras.runs import schema
from ptkeras.runs.run_folder import COLUMNS, RunFolder
from tests.helpers.page_reader import Reader
from tests.helpers.skipnet_networks import small

ROOT = Path(__file__).parents[2]
DATASET = types.SimpleNamespace(batch_size=7, num_train=100)
COMMON = settings._common()
OTHERS = ("cli", "report", "runs")


@pytest.fixture(params=methods.names())
def method(request):
    return methods.get(request.param)


def test_it_is_named_by_its_module(method):
    assert isinstance(method, methods.Method)
    assert type(method).__module__ == f"ptkeras.methods.{method.name}"
    assert methods.find(method.name) is method


def test_its_flags_are_its_own_or_of_a_section_that_methods_share(method):
    flags = [flag.name for section in method.flags.values() for flag in section]
    for other in methods.registered().values():
        for title, section in (COMMON | other.flags).items():
            if title in method.flags:
                assert section is method.flags[title]
            else:
                assert not {flag.name for flag in section} & set(flags)
    assert method.threshold in (None, *flags)
    assert settings.read_by(method.name)[-len(flags) :] == flags or not flags


def test_its_figures_are_none_of_those_of_all_methods(method):
    rows = [field.key for field in schema.FIELDS if field.row]
    common = {field.key for field in schema.FIELDS} | {"loss", "gradient_bytes"}
    assert not common & {field.key for field in method.fields}
    assert all(field.after in rows for field in method.fields)
    assert not set(method.columns) & set(COLUMNS)


def test_methods_agree_on_the_form_of_a_figure():
    fields = itertools.chain(*(method.fields for method in methods.registered().values()))
    by_key = {}
    assert all(by_key.setdefault(field.key, field) is field for field in fields)


RESULT = {
    "accuracy": 0.9,
    "seconds": 5.0,
    "epochs": 3,
    **{key: [4, 2] for key in ("training_flops", "inference_flops", "params", "channels")},
}


def test_a_result_of_before_that_lacks_its_figures_is_shown(method):
    result = RESULT | {"method": method.name}
    assert summary.figures(result) == {name: result[name] for name in summary.figures(result)}
    assert len(summary.rows(result)) == 7
    assert list(method.tables(result)) == []


def test_it_starts(method, tmp_path):
    folder = RunFolder(tmp_path)
    folder.search.write_text('{"removed": [], "flops": 0, "seconds": 0.0}')  # nothing is searched
    values = settings.parse([f"--method={method.name}"])
    started = method.start(values, DATASET, small(), folder)
    assert isinstance(started.model, keras.Model) and started.callbacks
    assert all(isinstance(one, keras.callbacks.Callback) for one in started.callbacks)
    assert started.epochs is None or started.epochs >= values.epochs
    assert callable(started.finish) and callable(started.result)


def test_flags_are_read_without_keras():
    code = (
        "import sys; sys.argv = ['-m']\n"  # as Python has it while it imports for `-m`
        "from ptkeras.methods import settings\n"
        "settings.table().help_text(); settings.parse(['--method=static_dynamic'])\n"
        "print({'keras', 'tensorflow', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_rest_of_the_command_line_names_no_method():
    others = {*methods.names()} - {"dense", "prunetrain", "magnitude"}  # which are words too
    for path in itertools.chain(*((ROOT / "ptkeras" / p).rglob("*.py") for p in OTHERS)):
        text = path.read_text()
        assert not re.findall(rf"{'|'.join(others)}|[\"'](?:prunetrain|magnitude)[\"']", text), path
        assert not re.search(r"method\S* [!=]= ", text), path


# One more method: that of the README.


@pytest.fixture(scope="module")
def one_shot(tmp_path_factory):
    [block] = re.findall(
        r"^```python\n([^`]*class OneShot\(Method\).*?)^```",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    folder = tmp_path_factory.mktemp("modules")
    (folder / "one_shot.py").write_text(block)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(methods, "REGISTRY", [*methods.REGISTRY, "one_shot"])
        yield methods.get("one_shot")
    sys.modules.pop("one_shot")


def test_its_flags_are_in_the_help_and_are_checked(one_shot, capsys):
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "One shot:\n  --prune_share=0.5\n      Share of the channels to remove." in text
    assert re.search(r"What prunes the network: .*magnitude, one_shot, prunetrain", text)
    assert settings.parse(["--method=one_shot"]).prune_share == 0.5
    assert train.main(["--method=one_shot", "--prune_share=2"]) == 1
    assert "--prune_share=2: must be over 0 and under 1." in capsys.readouterr().err
    assert train.main(["--method=one_shot", "--strategy=mirrored"]) == 1
    assert "which trains on one device; dense and prunetrain" in capsys.readouterr().err


def test_what_it_needs_is_checked_before_the_training(one_shot, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(type(one_shot), "packages", ("no_such_package",))
    assert train.main(["--method=one_shot", f"--output_dir={tmp_path / 'run'}"]) == 1
    says = "flag --method=one_shot: needs no_such_package; pip install no_such_package."
    assert says in capsys.readouterr().err


def tiny(name, input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, name="head")(x))


FLAGS = ["--method=one_shot", "--epochs=1", "--batch_size=32", "--prune_share=0.25"]


@pytest.fixture(scope="module")
def finished(one_shot, tmp_path_factory):
    """A run of an epoch on 64 digits, with the plots."""
    some = type(digits.load())(*(part[:64] for part in vars(digits.load()).values()))
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", lambda: some)
        patch.setattr("ptkeras.models.build", tiny)
        patch.setattr(train, "_be_deterministic", keras.utils.set_random_seed)
        assert train.main([*FLAGS, f"--output_dir={folder}"]) == 0
    return folder


@pytest.mark.tensorflow
def test_it_trains_and_its_figures_are_shown(finished, capsys):
    assert train.main([*FLAGS, f"--output_dir={finished}"]) == 0
    assert re.search(r"share that was asked for +│ +│ +25\.0%", capsys.readouterr().out)
    result = json.loads((finished / "result.json").read_text())
    dense, left = result["channels"]
    assert left == 0.75 * dense and result["asked_share"] == 0.25
    reader = Reader((finished / "report.html").read_text(encoding="utf-8"))
    assert "Inference FLOPs" in reader.headings
    assert ["share that was asked for", "25.0%"] in reader.tables


@pytest.mark.tensorflow
def test_its_figures_have_a_form(finished):
    result = json.loads((finished / "result.json").read_text())
    with pytest.raises(ValueError, match="has 2 as asked_share"):
        runs.check_result(finished, result | {"asked_share": 2})


@pytest.mark.tensorflow
def test_its_runs_are_read_where_it_is_not_known(finished, monkeypatch):
    monkeypatch.setattr(methods, "REGISTRY", methods.REGISTRY[:-1])
    run = runs.read(finished)
    assert run.title == "digits, resnet20, one_shot"
    assert "share that was asked for" not in [row[0] for row in summary.rows(run.result)]
