import keras
import numpy as np
import pytest

from ptkeras.survival import Survival
from ptkeras.utils.models import check_model


def test_a_model_of_keras_3_is_taken():
    check_model(keras.Sequential([keras.layers.Dense(1)]))


@pytest.mark.parametrize("model", [None, "model.keras", keras.layers.Dense(1), keras.Model])
def test_what_is_no_model_is_named(model):
    with pytest.raises(ValueError, match="Expected a Keras model, received"):
        check_model(model)


@pytest.mark.tensorflow
def test_a_model_of_keras_2_is_told_how_to_become_one_of_keras_3(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    model.compile("sgd", "mse")
    x = np.ones((4, 3), "float32")
    with pytest.raises(ValueError, match=r"is a model of tf_keras \(Keras 2\): save it to a \.h5"):
        check_model(model)
    survival = Survival(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="is a model of tf_keras"):
        model.fit(x, np.ones((4, 2)), verbose=0, callbacks=[survival])
    with pytest.warns(UserWarning):
        model.save(tmp_path / "a.h5")
        same = keras.models.load_model(tmp_path / "a.h5", compile=False)  # as it was told
    check_model(same)
    np.testing.assert_allclose(same(x), model(x), rtol=1e-6)
