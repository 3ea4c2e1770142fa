"""What cannot be exported, written or proved: one sentence, and nothing left behind."""

import contextlib
import errno
import os
import subprocess
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from export import to_litert, to_onnx, to_saved_model
from ptkeras import export
from ptkeras.export import exporting, litert, onnx, runtimes, saved_model
from tests.helpers import exported_networks as networks

pytestmark = pytest.mark.tensorflow

WRITERS = [
    (export.to_onnx, onnx, "a.onnx"),
    (export.to_saved_model, saved_model, "a"),
    (export.to_litert, litert, "a.tflite"),
]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


@pytest.mark.parametrize(("write", "module", "name"), WRITERS)
def test_an_export_that_answers_otherwise_is_not_left(write, module, name, model, tmp_path):
    """What is written is another model: the numbers of the comparison are real ones."""
    right = module.write

    def wrong(served, request, path):
        other = keras.models.clone_model(model)
        other.set_weights([1.01 * weights for weights in model.get_weights()])
        right(exporting.Served(other, request.serving), request, path)

    def wrongly(*arguments, **keywords):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "write", wrong)
            return write(*arguments, **keywords)

    with pytest.raises(export.ExportError) as error:
        wrongly(model, tmp_path / "made" / name)
    assert "does not answer as 'small' does" in one_sentence(error)
    assert list(tmp_path.iterdir()) == []
    artifact = wrongly(model, tmp_path / name, check=False)
    assert artifact.verification is None
    report = export.verify(artifact, model)
    assert not report.passed and 1e-4 < report.max_relative < 0.2


@pytest.mark.parametrize(("write", "module", "name"), WRITERS)
def test_an_export_that_its_runtime_refuses_is_not_left(
    write, module, name, model, tmp_path, monkeypatch
):
    def broken(served, request, path):
        (path / "saved_model.pb" if path.is_dir() else path).write_bytes(b"not at all")

    monkeypatch.setattr(module, "write", broken)
    with pytest.raises(export.ExportError) as error:
        write(model, tmp_path / name)
    assert "refuses" in one_sentence(error) and "Nothing was written" in str(error.value)
    assert ".new_" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("write", "module", "name"), WRITERS)
def test_what_was_there_stays_when_an_export_fails(
    write, module, name, model, tmp_path, monkeypatch
):
    path = tmp_path / name
    write(model, path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def broken(served, request, path):
        raise RuntimeError("the converter gave up\nfor reasons of its own")

    monkeypatch.setattr(module, "write", broken)
    with pytest.raises(
        export.ExportError, match=r"could not be converted to \w+: the converter gave"
    ):
        write(model, path)
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before


@contextlib.contextmanager
def tiny_disk(path):
    """A file system of 64 kB."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(("write", "module", "name"), WRITERS)
def test_a_disk_that_is_full(write, module, name, tmp_path):
    model = keras.Sequential([keras.Input((200,)), layers.Dense(200)])
    with tiny_disk(tmp_path / "disk") as disk:
        with pytest.raises(export.ExportError) as error:
            write(model, disk / name)
        assert "No space left on device" in one_sentence(error)
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize(("write", "module", "name"), WRITERS)
def test_a_disk_that_says_it_is_full(write, module, name, model, tmp_path, monkeypatch):
    def full(served, request, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write", full)
    with pytest.raises(export.ExportError, match=r"cannot be written \(No space left on device\)"):
        write(model, tmp_path / "new" / name)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_told_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "write", lambda *_: pytest.fail("it went to work"))
    (tmp_path / "file").touch()
    with pytest.raises(export.ExportError, match="is a file"):
        export.to_onnx(model, tmp_path / "file" / "a.onnx")
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(export.ExportError, match="is a folder"):
        export.to_onnx(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"must end with \.onnx"):
        export.to_onnx(model, tmp_path / "a.tflite")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(export.ExportError, match="is no SavedModel"):
        export.to_saved_model(model, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(export.ExportError, match="is not writable"):
        export.to_onnx(model, tmp_path / "b.onnx")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"opset": 12}, "opset must be from 13 to 18; received 12"),
        ({"opset": 19}, "received 19"),
        ({"opset": 17.0}, "received 17.0"),
        ({"precision": "int4"}, "precision must be one of"),
        ({"precision": "int8"}, "needs calibration"),
        ({"calibration": np.zeros((1, 8, 8, 3))}, "needs calibration"),
        ({"precision": "int8", "calibration": np.zeros((4, 7, 8, 3))}, "array of shape"),
        (
            {"precision": "int8", "calibration": np.full((4, 8, 8, 3), np.nan)},
            "'image' received numbers that are not finite",
        ),
        ({"precision": "int8", "calibration": np.full((4, 8, 8, 3), "a")}, "takes numbers"),
        ({"metadata": {"when": object()}}, "metadata must be text, or what JSON can hold"),
        ({"metadata": {1: "one"}}, "by name; received 1: 'one'"),
        ({"metadata": {"a": "\ud800"}}, "received 'a'"),
        ({"labels": ["a"]}, "1 labels for 4 classes"),
        ({"mean": [1, 2]}, "one for each of the 3 channels"),
        ({"std": [0]}, "std over 0"),
        ({"input_shape": (9, 9, 3)}, "does not fit input 'image'"),
        ({"input_shape": {"images": (8, 8, 3)}}, "the inputs are image"),
        ({"batch_size": 0}, "a whole number from 1"),
        ({"batch_size": 2.5}, "a whole number from 1; received 2.5"),
    ],
)
def test_arguments_out_of_range(options, says, model, tmp_path):
    with pytest.raises(ValueError) as error:
        export.to_onnx(model, tmp_path / "a.onnx", **options)
    assert says in one_sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_known(tmp_path):
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="does not say what it is called on"):
        export.to_onnx(Own(), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"Expected a Keras model, received 'model\.keras'"):
        export.to_onnx("model.keras", tmp_path / "a.onnx")
    softmax = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match="softmax already"):
        export.to_onnx(softmax, tmp_path / "a.onnx", softmax=True)


def test_a_saved_model_that_no_other_process_could_load(tmp_path):
    import tensorflow as tf

    class Outside(layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), x.shape)

        def compute_output_shape(self, shape):
            return shape

    x = keras.Input((3,))
    with pytest.raises(export.ExportError, match="calls Python functions"):
        export.to_saved_model(keras.Model(x, Outside()(x)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_the_converters_cannot_do_is_told_in_a_sentence(tmp_path, caplog):
    x = keras.Input((None, None, 3))
    y = layers.UpSampling2D()(layers.MaxPooling2D()(x))
    model = keras.Model(x, layers.Conv2D(2, 1)(layers.Concatenate()([x, y])))
    with pytest.raises(export.ExportError, match=r"no operations for Conv2D .* input_shape fixes"):
        export.to_litert(model, tmp_path / "a.tflite")
    x = keras.Input((3,))
    model = keras.Model(x, keras.ops.argmax(x, axis=-1))
    with pytest.raises(export.ExportError) as error:
        export.to_onnx(model, tmp_path / "a.onnx")
    assert "Bitcast" in one_sentence(error)
    assert not [record for record in caplog.records if record.name.startswith("tf2onnx")]
    assert list(tmp_path.iterdir()) == []


def test_verify_notices_another_network_and_no_artifact(model, tmp_path):
    artifact = export.to_onnx(model, tmp_path / "a.onnx")
    other = networks.small(normalised=False)
    assert not export.verify(artifact, other).passed
    x = keras.Input((8, 8, 3), name="picture")
    with pytest.raises(ValueError, match=r"an input 'image', and the model has none .*\(picture\)"):
        export.verify(artifact, keras.Model(x, layers.Dense(4, name="logits")(x)))
    x = keras.Input((9, 8, 3), name="image")
    with pytest.raises(ValueError, match="made of another one"):
        export.verify(artifact, keras.Model(x, layers.Dense(4, name="logits")(x)))
    with pytest.raises(ValueError, match="is not there"):
        export.verify(tmp_path / "b.onnx", model)
    with pytest.raises(ValueError, match="neither"):
        (tmp_path / "b.txt").touch()
        export.verify(tmp_path / "b.txt", model)
    with pytest.raises(ValueError, match=r"no SavedModel"):
        export.verify(tmp_path, model)
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:-100])
    with pytest.raises(export.ExportError, match="refuses"):
        runtimes.load(tmp_path / "a.onnx")


def saved(model, path):
    model.save(path)
    return path


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_weights(path):
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)


@pytest.mark.parametrize("tool", [to_onnx, to_saved_model, to_litert])
def test_a_tool_that_lacks_its_file(tool, tmp_path, capfd):
    flags = [f"--model={tmp_path / 'none.keras'}", f"--output={tmp_path / 'out' / 'a'}"]
    assert tool.main(flags) == 1
    out, err = capfd.readouterr()
    assert err == f"The model '{tmp_path / 'none.keras'}' is not there.\n" and not out
    assert tool.main(["--model=a.keras"]) == 1
    assert "--output: must be given" in capfd.readouterr().err
    assert tool.main(["--help"]) == 0
    assert "--softmax=false" in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [truncated, without_weights])
def test_a_model_file_that_is_damaged(damage, model, tmp_path, capfd):
    path = saved(model, tmp_path / "model.keras")
    damage(path)
    assert to_onnx.main([f"--model={path}", f"--output={tmp_path / 'a.onnx'}"]) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert str(path) in line and "Traceback" not in line
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_a_file_with_code_in_it_is_refused(tmp_path, capfd):
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: 2 * x)])
    path = saved(model, tmp_path / "model.keras")
    assert to_onnx.main([f"--model={path}", f"--output={tmp_path / 'a.onnx'}"]) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert "has a Lambda layer" in line and "refused" in line
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--opset=19", "flag --opset=19: must be a whole number from 13 to 18."),
        ("--opset=x", "must be a whole number from 13 to 18."),
        ("--precision=int4", "must be float32, float16 or int8."),
        ("--precision=int8", "needs --dataset to calibrate on"),
        ("--batch_size=0", "must be a whole number from 1."),
        ("--input_shape=3,0", "must be whole numbers from 1 with commas"),
        ("--mean=a", "must be numbers with commas"),
        ("--modle=a", "Unknown flag --modle (did you mean --model?)"),
    ],
)
def test_flags_out_of_range(flag, says, capsys):
    assert to_onnx.main(["--model=a.keras", "--output=a.onnx", flag]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_the_tools_know_the_range_of_the_library():
    parser = to_onnx.TABLE.flags["opset"].parser
    assert [n for n in range(40) if parser.right(n)] == list(onnx.OPSETS)
    assert to_onnx.TABLE.flags["opset"].default == onnx.OPSET
    right = to_onnx.TABLE.flags["precision"].parser.right
    assert all(map(right, exporting.PRECISIONS))
