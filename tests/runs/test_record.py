import csv
import json

import keras
import numpy as np

from ptkeras import cost
from ptkeras.runs.record import Record, architecture, gradient_traffic
from ptkeras.runs.run_folder import RunFolder


def network():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name="first")(inputs)
    x = keras.layers.Conv2D(6, 3, name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_an_architecture_has_channels_and_costs():
    model = network()
    told = architecture(model, batch_size=5)
    assert told["layers"] == {"first": 4, "second": 6, "head": 3}
    assert told["channels"] == 10
    assert told["params"] == model.count_params()
    assert told["inference_flops"] == cost.inference_flops(model)
    assert told["training_memory"] == cost.training_memory(model, 5)
    assert told["gradient_bytes"] == cost.gradient_bytes(model, 2)
    assert told["macs"] == {"first": 6 * 6 * 9 * 4, "second": 4 * 4 * 9 * 4 * 6, "head": 18}


def test_gradients_are_those_of_what_is_trained():
    model = network()
    assert architecture(model, 5)["gradient_bytes"] == 4 * model.count_params()
    model.get_layer("first").trainable = False
    assert architecture(model, 5)["gradient_bytes"] == 4 * (4 * 6 * 9 + 6 + 6 * 3 + 3)


def test_gradient_traffic_is_that_of_every_step():
    rows = [{"gradient_bytes": 400, "batch_size": 5}, {"gradient_bytes": 100, "batch_size": 8}]
    assert gradient_traffic(rows, 12) == 3 * 400 + 2 * 100


def test_any_fit_leaves_rows_and_checkpoints(tmp_path):
    model, folder = network(), RunFolder(tmp_path)
    record = Record(folder, architecture(model, 5), interval=2, batch_size=5)
    x, y = np.zeros((10, 8, 8, 1), "float32"), np.zeros(10, "int32")
    model.fit(x, y, epochs=3, batch_size=5, verbose=0, callbacks=[record])
    with folder.history.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["batch_size"]) for row in rows] == [
        ("1", "5"),
        ("2", "5"),
        ("3", "5"),
    ]
    assert float(rows[0]["loss"]) > float(rows[2]["loss"]) > 0
    assert [path.name for path in sorted(tmp_path.glob("checkpoints/*"))] == ["epoch_0002.keras"]
    assert json.loads(folder.architecture.read_text())["reconfigurations"] == []


def test_rows_of_another_process_come_first(tmp_path):
    record = Record(RunFolder(tmp_path), {}, interval=5, batch_size=5)
    record.set_model(network())
    record.set_state({"rows": [{"epoch": 1, "loss": 0.5}], "spent": 0.0})
    record.on_epoch_begin(1)
    record.on_epoch_end(1, {"loss": np.float32(0.1)})
    assert [row["loss"] for row in record.rows] == [0.5, 0.1]
    assert record.get_state() == {"rows": record.rows, "spent": 0.0}
