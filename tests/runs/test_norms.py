import json

import keras
import numpy as np

from ptkeras.channels import trace
from ptkeras.importance import channel_magnitudes
from ptkeras.runs.norms import HIGHEST, LOWEST, PER_DECADE, ChannelNorms, histogram
from ptkeras.runs.run_folder import RunFolder


def network(units=4):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


def place(magnitude):
    return int(np.floor((np.log10(magnitude) - LOWEST) * PER_DECADE))


def test_a_histogram_counts_the_channels_that_may_go():
    model = network()
    first, second = np.zeros((3, 4), "float32"), np.zeros((4, 2), "float32")
    first[0] = [0.05, -0.05, 0.0, 3.0]
    second[1, 0] = 0.5  # the larger of a channel's groups counts
    model.layers[0].kernel.assign(first)
    model.layers[1].kernel.assign(second)
    counts = histogram(trace(model), "max")
    assert len(counts) == (HIGHEST - LOWEST) * PER_DECADE
    found = {i: n for i, n in enumerate(counts) if n}
    assert found == {0: 1, place(0.05): 1, place(0.5): 1, place(3.0): 1}


def test_weights_that_are_no_numbers_are_in_no_class():
    model = network()
    model.layers[0].kernel.assign(np.full((3, 4), np.nan, "float32"))
    assert sum(histogram(trace(model), "max")) == 0
    model.layers[0].kernel.assign(np.full((3, 4), 1e9, "float32"))
    assert histogram(trace(model), "max")[-1] == 4


def fit(model, norms, epochs, initial_epoch=0):
    x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
    model.fit(x, y, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=[norms])


def test_start_middle_and_end_are_written(tmp_path):
    model, norms = network(), ChannelNorms(RunFolder(tmp_path), "max")
    fit(model, norms, epochs=5)
    told = json.loads((tmp_path / "norms.json").read_text())
    found = [(moment["name"], moment["epoch"]) for moment in told["moments"]]
    assert found == [("start", 0), ("middle", 3), ("end", 5)]
    assert told["moments"][-1]["counts"] == histogram(trace(model), "max")
    edges = 10.0 ** (told["lowest"] + np.arange(161) / told["per_decade"])
    sizes = channel_magnitudes(trace(model))[trace(model).prunable]
    assert told["moments"][-1]["counts"] == np.histogram(sizes, edges)[0].tolist()


def test_a_training_that_goes_on_keeps_its_start(tmp_path):
    model, norms = network(), ChannelNorms(RunFolder(tmp_path), "max")
    fit(model, norms, epochs=2)
    again = ChannelNorms(RunFolder(tmp_path), "max")
    again.set_state({"moments": norms.get_state()["moments"][:1]})
    model.layers[0].kernel.assign(np.full((3, 4), 7.0, "float32"))
    fit(model, again, epochs=4, initial_epoch=2)
    assert again.moments[0] == norms.moments[0]
    assert [moment["epoch"] for moment in again.moments] == [0, 4]
