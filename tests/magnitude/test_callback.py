import json

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import MagnitudePruning
from ptkeras.magnitude.kernels import kernels
from tests.helpers.zeros import Zeros, zeros

pytestmark = pytest.mark.thorough

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(48, 6, 6, 2)).astype("float32")
Y = RANDOM.integers(0, 3, 48)


def network(seed=0, **options):
    init = iter(keras.initializers.HeNormal(seed + i) for i in range(9))
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, padding="same", kernel_initializer=next(init)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, depthwise_initializer=next(init), name="depthwise"),
            layers.Flatten(),
            layers.Dense(12, activation="relu", kernel_initializer=next(init), name="hidden"),
            layers.Dense(3, kernel_initializer=next(init), name="scores"),
        ],
        **options,
    )


def compiled(model=None, optimizer=None, **options):
    model = model or network()
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    return model


def fit(model, callback, epochs=1, others=(), batch_size=8):
    return model.fit(
        X,
        Y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[callback, *others],
    )


OPTIMIZERS = {
    "momentum and decay": lambda: keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "accumulation": lambda: keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=256.0
    ),
    "average": lambda: keras.optimizers.SGD(
        0.05, momentum=0.9, use_ema=True, ema_overwrite_frequency=None
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_hold_through_every_step(name):
    # Prunes half in step 2 and 80 % in step 5.
    model, seen = compiled(optimizer=OPTIMIZERS[name]()), Zeros()
    callback = MagnitudePruning({2: 0.5, 5: 0.8}.get)
    history = fit(model, callback, epochs=2, others=[seen])
    seen = np.array(seen.seen)
    assert (seen[0] == 0).all()
    np.testing.assert_allclose(seen[[1, 2]], 0.5, atol=0.02)
    np.testing.assert_allclose(seen[4:], 0.8, atol=0.02)
    np.testing.assert_allclose(zeros(model), 0.8, atol=0.02)
    assert history.history["sparsity"] == pytest.approx([0.8, 0.8], abs=0.01)
    assert callback.step == 12
    assert set(callback.thresholds) == {kernel.path for kernel in kernels(model)}


def test_zeros_hold_in_the_next_fit_until_they_are_stripped():
    model = compiled()
    fit(model, MagnitudePruning(lambda step: 0.6))
    names = [v.path for v in model.optimizer.variables]
    model.fit(X, Y, verbose=0)
    np.testing.assert_allclose(zeros(model), 0.6, atol=0.02)
    assert ptkeras.magnitude.strip(model) is model
    assert all(v.constraint is None for v in model.variables)
    np.testing.assert_allclose(zeros(model), 0.6, atol=0.02)
    model.fit(X, Y, verbose=0)
    assert max(zeros(model)) < 0.1
    assert [v.path for v in model.optimizer.variables] == names


def test_zeros_of_kernels_left_alone_hold_too():
    """What is lifted in a step before masks change is not what others have put on."""
    model = compiled()
    ptkeras.magnitude.prune(model, {"hidden": 0.75})
    callback = MagnitudePruning(lambda step: (True, 0.5), leave_alone=iter(["hidden"]))
    for _ in range(2):
        seen = Zeros()
        fit(model, callback, others=[seen])
        hidden = [kernel.layer.name for kernel in kernels(model)].index("hidden")
        np.testing.assert_allclose(np.array(seen.seen)[:, hidden], 0.75, atol=0.01)
    ptkeras.magnitude.prune(model, 0.8)
    model.fit(X, Y, verbose=0)
    np.testing.assert_allclose(zeros(model), 0.8, atol=0.02)


def test_a_fit_that_broke_off_leaves_zeros_behind_a_strip():
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, MagnitudePruning(lambda step: (True, 0.5)), others=[Break()])
    ptkeras.magnitude.strip(model)
    np.testing.assert_allclose(zeros(model), 0.5, atol=0.02)
    assert not {"mask", "lifted"} & {v.name for v in model.optimizer.variables}


def test_a_constraint_of_the_user_stays():
    model = compiled()
    (hidden,) = (k.variable for k in kernels(model) if k.layer.name == "hidden")
    hidden.constraint = keras.constraints.MaxNorm(0.5)
    fit(model, MagnitudePruning(lambda step: 0.5))
    assert np.linalg.norm(hidden.numpy(), axis=0).max() < 0.501
    assert np.mean(hidden.numpy() == 0) == pytest.approx(0.5, abs=0.01)
    ptkeras.magnitude.strip(model)
    assert isinstance(hidden.constraint, keras.constraints.MaxNorm)


def test_a_file_of_the_middle_of_training_is_plain_keras(tmp_path):
    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save(tmp_path / "model.keras")

    model = compiled()
    fit(model, MagnitudePruning(lambda step: 0.5), others=[Save()])
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert all(v.constraint is None for v in loaded.variables)
    np.testing.assert_allclose(zeros(loaded), 0.5, atol=0.02)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert "ptkeras" not in loaded.to_json()


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has one step there")
@pytest.mark.parametrize("steps", [1, 3, 4, 6])
def test_several_steps_an_execution(steps):
    asked = []
    schedule = {2: 0.3, 5: 0.6, 12: 0.8}
    model = compiled(steps_per_execution=steps)
    callback = MagnitudePruning(lambda step: asked.append(step) or schedule.get(step))
    history = fit(model, callback, epochs=2)
    np.testing.assert_allclose(zeros(model), 0.8, atol=0.02)
    assert history.history["sparsity"] == pytest.approx([0.6, 0.8], abs=0.01)
    assert callback.step == 12
    assert asked == list(range(1, 13))  # each step once, and none that never comes


def test_a_callback_ahead_saves_zeros(tmp_path):
    path = tmp_path / "last.weights.h5"
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    pruning = MagnitudePruning(lambda step: (True, 0.5))
    model = compiled()
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[save, pruning])
    saved = network()
    saved.load_weights(path)
    np.testing.assert_allclose(zeros(saved), 0.5, atol=0.02)


@pytest.mark.parametrize("ahead", [True, False])
def test_weights_that_came_back_keep_their_zeros(ahead):
    best = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=9, restore_best_weights=True
    )  # the first epoch
    pruning = MagnitudePruning({3: 0.3, 13: 0.9}.get)
    model, says = compiled(), r"set to other numbers.*30.0% and not 90.0%.*start_from_epoch"
    order = [best, pruning] if ahead else [pruning, best]

    def train():
        model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=order)

    if ahead:
        with pytest.warns(UserWarning, match=says):
            train()
        masks = pruning._masks.read()
        for kernel, mask in zip(kernels(model), masks, strict=True):
            np.testing.assert_array_equal(kernel.values != 0, mask)
        ptkeras.magnitude.strip(model)
    else:
        train()
        with pytest.warns(UserWarning, match=says):
            ptkeras.magnitude.strip(model)
    np.testing.assert_allclose(zeros(model), 0.3, atol=0.02)


def test_the_weights_of_an_epoch_behind_the_schedule_come_back_silently(recwarn):
    best = keras.callbacks.EarlyStopping(
        "loss", patience=0, restore_best_weights=True, start_from_epoch=1
    )
    model = compiled()
    fit(model, MagnitudePruning({3: 0.8}.get), epochs=3, others=[best])
    ptkeras.magnitude.strip(model)
    np.testing.assert_allclose(zeros(model), 0.8, atol=0.02)
    assert not any("other numbers" in str(w.message) for w in recwarn)


@pytest.mark.parametrize("ahead", [True, False])
def test_averages_are_validated_with_the_masks_on(ahead):
    class Validated(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            self.zeros = zeros(self.model)

    model, seen = compiled(optimizer=OPTIMIZERS["average"]()), Validated()
    swap = keras.callbacks.SwapEMAWeights()
    pruning = MagnitudePruning({2: 0.8}.get)
    order = [swap, pruning] if ahead else [pruning, swap]
    model.fit(X, Y, batch_size=8, verbose=0, validation_data=(X, Y), callbacks=[*order, seen])
    np.testing.assert_allclose(seen.zeros, 0.8, atol=0.02)
    np.testing.assert_allclose(zeros(model), 0.8, atol=0.02)


def test_two_callbacks_prune_kernels_of_their_own(tmp_path):
    model = compiled()
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    callbacks = [
        MagnitudePruning({2: 0.8}.get, leave_alone="dense"),
        MagnitudePruning({2: 0.4}.get, leave_alone="conv"),
        save,
    ]
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    np.testing.assert_allclose(zeros(model), [0.8, 0.8, 0.4, 0.4], atol=0.02)
    held = np.concatenate([kernel.values.ravel() for kernel in kernels(model)])
    assert history.history["sparsity"][-1] == pytest.approx(np.mean(held == 0))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_schedule_may_end_with_the_steps():
    model, sparsities = compiled(), np.linspace(0.1, 0.8, 12)
    fit(model, MagnitudePruning(lambda step: list(sparsities)[step - 1]), epochs=2)
    np.testing.assert_allclose(zeros(model), 0.8, atol=0.02)


def test_a_number_prunes_whenever_it_changes():
    class Masks(MagnitudePruning):
        pruned = ()

        def _prune(self, sparsity):
            self.pruned += (sparsity,)
            super()._prune(sparsity)

    callback = Masks(lambda step: 0.2 * ((step + 1) // 2))  # 0.2, 0.4, 0.4, 0.6, 0.6, 0.6…
    callback.schedule = lambda step: [0.2, 0.2, 0.4, 0.4, 0.4, 0.6][step - 1] if step < 7 else 0.6
    fit(compiled(), callback)
    assert callback.pruned == (0.2, 0.4, 0.6)


def test_two_of_four():
    model = compiled(
        keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                layers.Conv2D(8, 3),
                layers.Conv2D(4, 3),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
    )
    fit(model, MagnitudePruning(sparsity_m_by_n=(2, 4), leave_alone=["conv2d"]), epochs=2)
    _, second, dense = (kernel.values for kernel in kernels(model))
    for values in (second, dense):
        rows = np.moveaxis(values, -1, 0).reshape(-1, 4)
        assert (np.count_nonzero(rows, axis=1) == 2).all()
    assert zeros(model)[0] == 0


def test_two_of_four_go_along_the_inputs():
    x = keras.Input((6, 6, 8))
    y = layers.DepthwiseConv2D(3, name="depthwise")(x)
    y = layers.SeparableConv2D(8, 2, name="separable")(y)
    y = layers.Conv2DTranspose(4, 3, name="transposed")(y)
    model = compiled(keras.Model(x, layers.Dense(3)(layers.Flatten()(y))))
    callback = MagnitudePruning(sparsity_m_by_n=(2, 4))
    model.fit(RANDOM.normal(size=(8, 6, 6, 8)), Y[:8], verbose=0, callbacks=[callback])
    kernel = model.get_layer("transposed").kernel.numpy()
    assert kernel.shape == (3, 3, 4, 8)
    assert (np.count_nonzero(kernel.reshape(3, 3, 4, 2, 4), axis=-1) == 2).all()
    assert model.get_layer("depthwise").kernel.numpy().all()
    assert model.get_layer("separable").depthwise_kernel.numpy().all()
    assert np.mean(model.get_layer("separable").pointwise_kernel.numpy() == 0) == 0.5
    body = [keras.Input((6, 6, 8)), layers.DepthwiseConv2D(6), layers.Flatten()]
    alone = compiled(keras.Sequential(body))
    with pytest.raises(ValueError, match="are all depthwise: give MagnitudePruning a schedule"):
        alone.fit(np.ones((8, 6, 6, 8)), Y[:8], verbose=0, callbacks=[callback])


def test_every_kind_of_kernel_is_found():
    x = keras.Input((8, 6))
    y = layers.SeparableConv1D(6, 3)(x)
    y = layers.Conv1DTranspose(4, 3)(y)
    y = layers.MultiHeadAttention(2, 3)(y, y)
    y = layers.EinsumDense("btc,cd->btd", (8, 5), bias_axes="d")(y)
    y = layers.LayerNormalization(axis=[1, 2])(y)
    y = layers.Bidirectional(layers.GRU(3))(y)
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)], name="inner")
    found = kernels(keras.Model(x, inner(y)))
    assert sorted(kernel.kind for kernel in found) == ["conv"] * 3 + ["dense"] * 11
    assert len({kernel.path for kernel in found}) == len(found)
    tokens = keras.Input((4,), dtype="int32")
    model = keras.Model(tokens, layers.Embedding(5, 3)(tokens))
    with pytest.raises(ValueError, match="has no kernels"):
        kernels(model)


def test_a_layer_names_its_own_kernels():
    class Own(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 3), name="table")
            self.other = self.add_weight(shape=(shape[-1], 3), name="other_kernel")

        def get_prunable_weights(self):
            return [self.table]

        def call(self, x):
            return x @ self.table + x @ self.other

    layer = Own()
    model = keras.Sequential([keras.Input((4,)), layer])
    assert [kernel.variable for kernel in kernels(model)] == [layer.table]


def test_a_run_goes_on_in_another_process():
    whole, seen = compiled(), Zeros()
    schedule = {3: 0.3, 6: 0.5, 7: 0.6, 10: 0.8}.get
    fit(whole, MagnitudePruning(schedule), epochs=2, others=[seen])

    model, first = compiled(), MagnitudePruning(schedule)
    fit(model, first)
    state = first.get_state()
    ptkeras.magnitude.strip(model)
    second = MagnitudePruning(schedule)
    second.set_state(json.loads(json.dumps(state)))
    fit(model, second)
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(ours == 0, theirs == 0)


def test_a_run_that_lost_its_masks_is_told_of(tmp_path, recwarn):
    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), MagnitudePruning({2: 0.5}.get), epochs=2, others=[backup(), Break()])
    assert not any("Survival" in str(w.message) for w in recwarn)
    with pytest.warns(UserWarning, match=r"epoch 2, and (49|50).\d% .* no mask .*Survival\(path"):
        fit(compiled(), MagnitudePruning({2: 0.5}.get), epochs=2, others=[backup()])


@pytest.mark.filterwarnings("ignore:.*ran out of data")
@pytest.mark.parametrize("steps", [None, 6], ids=["what is left", "the epoch"])
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_goes_on_in_the_middle_of_an_epoch(stop, steps):
    """Behind step 3, before masks change, what the last update has put in place of zeros counts."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 == stop:
                self.state = first.get_state()
                self.weights = self.model.get_weights()
                self.slots = [v.numpy() for v in self.model.optimizer.variables]

    asked = []

    def schedule(step):
        asked.append(step)
        return {2: 0.5, 4: 0.6}.get(step)

    x, y = X[: 8 * stop], Y[: 8 * stop]
    whole, first, behind = compiled(), MagnitudePruning(schedule), Stop()
    fit(whole, first, others=[behind])

    model = compiled()
    model.fit(x, y, batch_size=8, verbose=0)  # makes the slots
    model.set_weights(behind.weights)
    for variable, value in zip(model.optimizer.variables, behind.slots, strict=False):
        variable.assign(value)
    second = MagnitudePruning(schedule)
    second.set_state(json.loads(json.dumps(behind.state)))
    left = ((X[i : i + 8], Y[i : i + 8]) for i in range(8 * stop, len(X), 8))
    # Keras may take the steps of the whole epoch for those that are left.
    model.fit(left, steps_per_epoch=steps or 6 - stop, verbose=0, callbacks=[second])
    assert second.step == first.step == max(asked) == 6
    for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(ours == 0, theirs == 0)


def prunable():
    return compiled(
        keras.Sequential(
            [keras.Input((6, 6, 2)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(3)]
        )
    )


def test_channels_and_weights_are_not_pruned_in_one_fit():
    magnitude, train = MagnitudePruning(lambda step: 0.5), ptkeras.PruneTrain(ratio=0.2, interval=1)
    model = prunable()
    with pytest.raises(ValueError, match=r"PruneTrain has its lasso on .* one after the other"):
        fit(model, train, others=[magnitude])
    ptkeras.lasso.detach(model)
    with pytest.raises(ValueError, match=r"held by MagnitudePruning.*magnitude.strip"):
        fit(model, magnitude, others=[train])


def test_channels_go_once_masks_are_stripped():
    model = prunable()
    fit(model, MagnitudePruning(lambda step: 0.5))
    with pytest.raises(ValueError, match=r"call ptkeras.magnitude.strip\(model\) first"):
        ptkeras.prune(model, 0.5)
    ptkeras.prune(ptkeras.magnitude.strip(model), 0.5)
    assert model.layers[0].filters == 4
    # More than the zeros left over: where they are a half, the threshold is 0, as TF-MOT has it.
    fit(model, MagnitudePruning(lambda step: 0.75))
    np.testing.assert_allclose(zeros(model), 0.75, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "takes a schedule or sparsity_m_by_n"),
        ({"schedule": 0.5}, "lambda step: 0.5"),
        ({"schedule": dict}, "made from its class"),
        ({"schedule": len, "leave_alone": 3}, "leave_alone must be names .*; received 3"),
        ({"schedule": len, "leave_alone": [3]}, r"received \[3\]"),
        ({"schedule": len, "sparsity_m_by_n": (2, 4)}, "one of them"),
        ({"sparsity_m_by_n": (4, 2)}, r"received \(4, 2\)"),
        ({"sparsity_m_by_n": 2}, "two whole numbers"),
        ({"schedule": len, "scope": "model"}, "received 'model'"),
    ],
)
def test_what_is_out_of_range_is_told_of(arguments, says):
    with pytest.raises(ValueError, match=says):
        MagnitudePruning(**arguments)


def test_what_fit_cannot_follow_is_told_of():
    with pytest.raises(ValueError, match=r"asks for a sparsity of 1.5 in step 1"):
        fit(compiled(), MagnitudePruning(lambda step: 1.5))
    with pytest.raises(ValueError, match=r"goes by 'hiden'.*'hidden'"):
        fit(compiled(), MagnitudePruning(lambda step: 0.5, leave_alone=["hiden"]))
    with pytest.raises(ValueError, match=r"leave_alone=\['conv', 'dense'\] leaves no kernel"):
        fit(compiled(), MagnitudePruning(lambda step: 0.5, leave_alone=["conv", "dense"]))
    x = keras.Input((4, 6))
    attention = compiled(keras.Model(x, layers.MultiHeadAttention(2, 3, name="heads")(x, x)))
    with pytest.raises(ValueError, match=r"'heads/\w+' has the shape \(\d, \d, \d\)"):
        attention.fit(
            np.zeros((4, 4, 6)),
            np.zeros((4, 4)),
            verbose=0,
            callbacks=[MagnitudePruning(sparsity_m_by_n=(2, 4))],
        )


ANSWERS = [(True,), (True, 0.5, 0.1), "a", "0.5", (True, None), np.array([0.5]), {}, True]


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_what_is_no_sparsity_is_told_of(answer):
    with pytest.raises(ValueError, match=r"returns .* for step 1: it must be \(should_prune"):
        fit(compiled(), MagnitudePruning(lambda step: answer))


@pytest.mark.parametrize("answer", [np.float32(0.5), np.array(0.5), (1, 0.5), [np.bool_(1), 0.5]])
def test_what_is_a_sparsity_is_followed(answer):
    model = compiled()
    model.fit(
        X[:16], Y[:16], batch_size=8, verbose=0, callbacks=[MagnitudePruning(lambda step: answer)]
    )
    np.testing.assert_allclose(zeros(model), 0.5, atol=0.02)


@pytest.mark.tensorflow
def test_replicas_hold_the_same_zeros():
    from tests.helpers.two_devices import mirrored_strategy

    for optimizer in (lambda: keras.optimizers.SGD(0.05, momentum=0.9), OPTIMIZERS["loss scale"]):
        with mirrored_strategy().scope():
            model = compiled(network(), optimizer())
        callback = MagnitudePruning({2: 0.5, 4: 0.75}.get)
        seen = Zeros()
        fit(model, callback, epochs=2, others=[seen])
        np.testing.assert_allclose(np.array(seen.seen)[3:], 0.75, atol=0.02)
        for variable in model.trainable_variables:
            np.testing.assert_array_equal(*[v.numpy() for v in variable.value.values])


# Beside TF-MOT


def test_a_schedule_of_tfmot_serves_every_backend():
    sparsity = pytest.importorskip("tensorflow_model_optimization").sparsity.keras
    model, seen = compiled(), Zeros()
    schedule = sparsity.PolynomialDecay(0.2, 0.8, begin_step=2, end_step=8, frequency=3)
    fit(model, MagnitudePruning(schedule), epochs=2, others=[seen])
    wanted = [0, *[0.2] * 3, *[0.8 - 0.6 * 0.5**3] * 3, *[0.8] * 5]
    held = [step for step in range(12) if step + 2 not in (2, 5, 8)]  # before masks change: lifted
    for step in held:
        np.testing.assert_allclose(seen.seen[step], wanted[step], atol=0.03)


def tf_keras_twin(model):
    """The same network with the same weights in Keras 2."""
    import tf_keras

    keras2 = tf_keras.layers
    twin = tf_keras.Sequential(
        [
            keras2.InputLayer((6, 6, 2)),
            keras2.Conv2D(8, 3, padding="same"),
            keras2.BatchNormalization(),
            keras2.ReLU(),
            keras2.Flatten(),
            keras2.Dense(12, activation="relu"),
            keras2.Dense(3),
        ]
    )
    twin.set_weights(model.get_weights())
    return twin


def keras3_network():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(3),
        ]
    )


def tfmot_masks(twin, epochs, optimizer=None, validation_data=None, **options):
    """Trains the twin with TF-MOT; returns the masks that each step computed with."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    pruned = tfmot.sparsity.keras.prune_low_magnitude(twin, **options)
    pruned.compile(
        optimizer or tf_keras.optimizers.SGD(0.05, momentum=0.9),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    seen = []

    def record(batch, logs):
        seen.append(
            [mask.numpy() != 0 for layer in pruned.layers for _, mask, _ in layer.pruning_vars]
        )

    pruned.fit(
        X,
        Y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=validation_data,
        callbacks=[
            tfmot.sparsity.keras.UpdatePruningStep(),
            tf_keras.callbacks.LambdaCallback(on_train_batch_end=record),
        ],
    )
    return seen, tfmot.sparsity.keras.strip_pruning(pruned)


class MasksSeen(keras.callbacks.Callback):
    def __init__(self, pruning):
        super().__init__()
        self.pruning = pruning
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.pruning._masks.read())


def _schedules():
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

    return [
        {"pruning_schedule": ConstantSparsity(0.5, begin_step=0, frequency=1)},
        {"pruning_schedule": ConstantSparsity(0.7, begin_step=3, end_step=9, frequency=2)},
        {"pruning_schedule": PolynomialDecay(0.1, 0.8, begin_step=0, end_step=15, frequency=1)},
        {"pruning_schedule": PolynomialDecay(0.2, 0.9, begin_step=2, end_step=12, frequency=5)},
        {"pruning_schedule": ConstantSparsity(0.5, 0), "sparsity_m_by_n": (2, 4)},
    ]


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", range(5))
def test_masks_are_those_of_tfmot_step_by_step(case):
    pytest.importorskip("tensorflow_model_optimization")
    options = _schedules()[case]
    model = compiled(keras3_network())
    theirs, twin = tfmot_masks(tf_keras_twin(model), 3, **options)
    if "sparsity_m_by_n" in options:
        callback = MagnitudePruning(sparsity_m_by_n=options["sparsity_m_by_n"])
    else:
        callback = MagnitudePruning(options["pruning_schedule"])
    record = MasksSeen(callback)
    fit(model, callback, epochs=3, others=[record])
    assert len(theirs) == len(record.seen) == 18
    for step, (ours, other) in enumerate(zip(record.seen, theirs, strict=True), start=1):
        for a, b in zip(ours, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"step {step}")
    assert len({tuple(m.tobytes() for m in masks) for masks in record.seen}) > 1 or case == 4
    for a, b in zip(model.trainable_variables, twin.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", [1, 3])
def test_masks_are_those_of_tfmot_with_adam_and_weight_decay(case):
    pytest.importorskip("tensorflow_model_optimization")
    import tf_keras

    options = _schedules()[case]
    adam = {"learning_rate": 0.005, "weight_decay": 0.05}
    model = compiled(keras3_network(), keras.optimizers.Adam(**adam))
    theirs, twin = tfmot_masks(
        tf_keras_twin(model), 3, tf_keras.optimizers.Adam(**adam), (X[:16], Y[:16]), **options
    )
    callback = MagnitudePruning(options["pruning_schedule"])
    record = MasksSeen(callback)
    model.fit(
        X,
        Y,
        batch_size=8,
        epochs=3,
        shuffle=False,
        verbose=0,
        validation_data=(X[:16], Y[:16]),
        callbacks=[callback, record],
    )
    assert len(theirs) == len(record.seen) == 18
    for step, (ours, other) in enumerate(zip(record.seen, theirs, strict=True), start=1):
        for a, b in zip(ours, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"step {step}")
    # Of the bias before batch norm the gradient is rounding alone, of which Adam makes full steps.
    for a, b in zip(model.trainable_variables, twin.trainable_variables, strict=True):
        if len(a.shape) > 1:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-4)
