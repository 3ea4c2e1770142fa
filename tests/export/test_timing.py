"""Timing artifacts side by side, and the tools."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from export import benchmark as benchmark_tool
from export import to_litert, to_onnx, to_saved_model
from ptkeras import export
from ptkeras.export import runtimes, timing
from ptkeras.regularizers import GroupLasso
from tests.helpers import exported_networks as networks

pytestmark = pytest.mark.tensorflow


def test_a_larger_network_takes_longer_and_more_memory(tmp_path):
    paths = []
    for width in (8, 1500):
        model = keras.Sequential(
            [keras.Input((256,)), layers.Dense(width), layers.Dense(width), layers.Dense(2)]
        )
        paths.append(export.to_onnx(model, tmp_path / f"{width}.onnx"))
    timings = export.benchmark(paths, batch_sizes=(1, 16), threads=(1,), rounds=3)
    assert [(one.path, one.batch_size) for one in timings] == [
        (str(path), size) for path in paths for size in (1, 16)
    ]
    small, _, large, batch = timings
    assert large.latency > 2 * small.latency
    assert batch.latency > large.latency and batch.throughput == 16 / batch.latency
    assert large.memory > small.memory + 4 * 1500 * 1500
    # A process of its own, and nothing in it but the runtime.
    assert 1e7 < small.memory < 2e8
    assert large.size == (tmp_path / "1500.onnx").stat().st_size
    low, high = large.quartiles
    assert len(large.seconds) == 3 and low <= large.latency <= high


def test_what_does_not_run_is_told(model, tmp_path):
    fixed = export.to_onnx(model, tmp_path / "a.onnx", batch_size=2)
    with pytest.raises(export.ExportError, match="takes batches of 2 alone"):
        export.benchmark([fixed], batch_sizes=(1,), threads=(1,), rounds=1)
    (tmp_path / "b.onnx").write_bytes(b"nothing")
    with pytest.raises(export.ExportError, match="refuses"):
        export.benchmark([tmp_path / "b.onnx"], batch_sizes=(1,), threads=(1,), rounds=1)
    with pytest.raises(ValueError, match="rounds must be whole numbers from 1"):
        export.benchmark([fixed], rounds=0)
    with pytest.raises(ValueError, match="a list of artifacts, at least one"):
        export.benchmark([])
    with pytest.raises(ValueError, match="a list of artifacts"):
        export.benchmark(str(fixed))
    with pytest.raises(ValueError, match="is not there"):
        timing.benchmark([tmp_path / "c.onnx"])


@pytest.mark.parametrize("name", ["a.onnx", pytest.param("a.tflite", marks=pytest.mark.slow)])
def test_the_tool_prints_a_row_for_each(name, model, tmp_path, capsys):
    write = {"a.onnx": export.to_onnx, "a.tflite": export.to_litert}[name]
    path = write(model, tmp_path / name)
    flags = [f"--artifacts={path}", "--batch_sizes=1,2", "--threads=1", "--rounds=1"]
    assert benchmark_tool.main(flags) == 0
    out = capsys.readouterr().out
    assert "peak memory" in out and "examples/s" in out
    assert benchmark_tool.main(["--artifacts=none.onnx"]) == 1
    assert capsys.readouterr().err == "'none.onnx' is not there.\n"
    assert benchmark_tool.main([]) == 1
    assert "--artifacts: must be given" in capsys.readouterr().err


@pytest.fixture
def run_folder(tmp_path):
    """What the tools need of a run: a network with GroupLasso for the digits, and its figures."""
    x = keras.Input((8, 8, 1), name="image")
    y = layers.Conv2D(4, 3, kernel_regularizer=GroupLasso(0.1))(x)
    y = layers.BatchNormalization()(y)
    model = networks.shaken(keras.Model(x, layers.Dense(10)(layers.Flatten()(y))))
    folder = tmp_path / "run"
    folder.mkdir()
    model.save(folder / "model.keras")
    result = {"method": "prunetrain", "accuracy": 0.75, "model": "resnet20", "dataset": "digits"}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def metadata(path):
    return {one.key: one.value for one in onnx.load(path).metadata_props}


def test_a_tool_takes_the_figures_of_the_run_and_the_labels_of_the_data(run_folder, capsys):
    output = run_folder / "out" / "a.onnx"
    flags = [f"--model={run_folder / 'model.keras'}", f"--output={output}", "--opset=15"]
    assert to_onnx.main([*flags, "--dataset=digits", "--softmax", "--mean=5", "--std=6"]) == 0
    assert "within" in capsys.readouterr().out
    told = metadata(output)
    assert (told["method"], told["accuracy"], told["network"]) == ("prunetrain", "0.75", "resnet20")
    assert json.loads(told["labels"]) == [str(n) for n in range(10)]
    assert "mean" not in told  # it takes raw pixels
    [answer] = runtimes.load(output)({"image": np.ones((2, 8, 8, 1))}).values()
    np.testing.assert_allclose(answer.sum(-1), 1, rtol=1e-5)


def test_a_tool_calibrates_on_a_data_set(run_folder, capsys):
    output = run_folder / "a.onnx"
    flags = [f"--model={run_folder / 'model.keras'}", f"--output={output}", "--precision=int8"]
    assert to_onnx.main([*flags, "--dataset=digits", "--examples=50"]) == 0
    assert "at batch 50" in capsys.readouterr().out
    # What scaled the images that it was trained on, which the README's lines read.
    told = metadata(output)
    assert 0 < json.loads(told["mean"])[0] < json.loads(told["std"])[0] < 16
    assert to_onnx.main([*flags, "--dataset=digitz"]) == 1
    assert "Unknown dataset 'digitz'" in capsys.readouterr().err


def test_an_export_that_scales_by_itself_is_calibrated_on_pixels(monkeypatch, run_folder):
    seen = []

    def to_see(*_, **options):
        seen.append(options)
        return SimpleNamespace(summary="")

    monkeypatch.setattr(export, "to_onnx", to_see)
    model = f"--model={run_folder / 'model.keras'}"
    flags = [model, "--output=a.onnx", "--precision=int8", "--dataset=digits"]
    assert to_onnx.main([*flags, "--mean=5", "--std=6"]) == 0
    assert to_onnx.main(flags) == 0
    pixels, scaled = (options["calibration"] for options in seen)
    assert len(pixels) == 256 and pixels.min() >= -1e-5 and 15 < pixels.max() < 16 + 1e-5
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-5)
    assert scaled.min() < -0.5


def test_the_other_tools_and_labels_in_a_file(run_folder, capsys):
    model = f"--model={run_folder / 'model.keras'}"
    names = run_folder / "names.txt"
    names.write_text("\n".join("abcdefghij") + "\n")
    litert, folder = run_folder / "a.tflite", run_folder / "saved"
    assert to_litert.main([model, f"--output={litert}", f"--labels={names}"]) == 0
    assert to_saved_model.main([model, f"--output={folder}", "--labels=a,b"]) == 1
    assert capsys.readouterr().err.endswith(
        "There are 2 labels for 10 classes; give one for each.\n"
    )
    assert to_saved_model.main([model, f"--output={folder}", "--batch_size=2"]) == 0
    assert runtimes.load(folder).inputs["image"][0] == (2, 8, 8, 1)


@pytest.mark.slow
def test_int8_keeps_the_accuracy_of_a_trained_network(tmp_path):
    """Within half a point of float32 on the digits' test images."""
    from ptkeras import data, models

    dataset = data.load("digits", batch_size=64, augment=False)
    model = models.build("resnet20", dataset.input_shape, dataset.num_classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    model.fit(dataset.train, epochs=6, shuffle=False, verbose=0)
    calibration = np.concatenate([x for x, _ in dataset.train.as_numpy_iterator()])
    batches = list(dataset.test.as_numpy_iterator())
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    accuracy = {}
    for precision, examples in (("float32", None), ("int8", calibration)):
        path = tmp_path / f"{precision}.onnx"
        artifact = export.to_onnx(model, path, precision=precision, calibration=examples)
        [logits] = runtimes.load(artifact)({"image": images}).values()
        accuracy[precision] = (logits.argmax(-1) == labels).mean()
    assert accuracy["float32"] > 0.9
    assert abs(accuracy["int8"] - accuracy["float32"]) <= 0.005
