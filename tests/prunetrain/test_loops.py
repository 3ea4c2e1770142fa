"""Training loops of one's own, with the gradient tape, in JAX and in PyTorch."""

import keras
import numpy as np
import pytest
from keras import ops

import ptkeras
from ptkeras import cost, lasso
from tests.conftest import BACKEND
from tests.helpers.digits_network import compiled, digits, network
from tests.helpers.forced import Forced

EPOCHS, BATCH = 3, 64


def loss_of(y, outputs):
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True))


def batches(x, y):
    return [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]


def gradient_tape(model, optimizer, pruning, x, y):
    import tensorflow as tf

    pruning.bind(model, optimizer, loss=loss_of(y[:BATCH], model(x[:BATCH])))

    def make_step():
        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True)) + pruning.penalty()
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        return step

    step, losses = make_step(), []
    for epoch in range(EPOCHS):
        losses += [float(step(*batch)) for batch in batches(x, y)]
        if pruning.end_epoch(examples=len(x), last=epoch == EPOCHS - 1):
            step = make_step()
    return losses


def stateless(model, optimizer, pruning, x, y):
    import jax

    def value_of(trainable, non_trainable, x, y):
        outputs, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
        return loss_of(y, outputs) + pruning.penalty(trainable), non_trainable

    def make_step():
        @jax.jit
        def step(state, x, y):
            trainable, non_trainable, slots = state
            slope = jax.value_and_grad(value_of, has_aux=True)
            (loss, non_trainable), slopes = slope(trainable, non_trainable, x, y)
            trainable, slots = optimizer.stateless_apply(slots, slopes, trainable)
            return loss, (trainable, non_trainable, slots)

        return step

    optimizer.build(model.trainable_variables)
    pruning.bind(model, optimizer, loss=loss_of(y[:BATCH], model(x[:BATCH])))
    step, losses = make_step(), []
    for epoch in range(EPOCHS):
        held = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        state = tuple([v.value for v in variables] for variables in held)
        for batch in batches(x, y):
            loss, state = step(state, *batch)
            losses.append(float(loss))
        for variables, values in zip(held, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        if pruning.end_epoch(examples=len(x), last=epoch == EPOCHS - 1):
            step = make_step()
    return losses


def autograd(model, optimizer, pruning, x, y):
    del optimizer  # one of PyTorch's own
    torch = pytest.importorskip("torch")
    pruning.bind(model, loss=loss_of(y[:BATCH], model(x[:BATCH])))

    def make_optimizer():
        return torch.optim.SGD(model.parameters(), 0.05)

    optimizer, losses = make_optimizer(), []
    for epoch in range(EPOCHS):
        for x_batch, y_batch in batches(x, y):
            optimizer.zero_grad()
            loss = loss_of(y_batch, model(x_batch, training=True)) + pruning.penalty()
            loss.backward()
            optimizer.step()
            pruning.after_step()
            losses.append(float(loss))  # whose graph is held, and with it what PyTorch knew
        if pruning.end_epoch(examples=len(x), last=epoch == EPOCHS - 1):
            optimizer = make_optimizer()
    return losses


train = {"tensorflow": gradient_tape, "jax": stateless, "torch": autograd}[BACKEND]


def test_a_loop_meets_a_budget():
    x, y = digits(192)
    model, optimizer = network(16), keras.optimizers.SGD(0.05, momentum=0.9)
    dense = cost.inference_flops(model)
    pruning = ptkeras.PruneTrain(target=0.6, epochs=EPOCHS, verbose=0)
    outputs = []
    reconfigure = pruning.reconfigure

    def compare(*args, **kwargs):
        outputs.append(ops.convert_to_numpy(model(x[:8])))
        changed = reconfigure(*args, **kwargs)
        outputs.append(ops.convert_to_numpy(model(x[:8])))
        return changed

    pruning.reconfigure = compare
    assert np.isfinite(train(model, optimizer, pruning, x, y)).all()
    assert cost.inference_flops(model) / dense == pytest.approx(0.6, rel=0.03)
    np.testing.assert_allclose(*outputs, atol=1e-4)
    assert [change["epoch"] for change in pruning.reconfigurations] == [2]
    assert "apply" not in vars(optimizer)


def test_a_loop_has_to_say_how_long_it_is():
    with pytest.raises(ValueError, match=r"received 0\. .*PruneTrain\(epochs=…\)"):
        ptkeras.PruneTrain(target=0.6).bind(network(16), keras.optimizers.SGD(0.05))


def test_a_loop_prunes():
    x, y = digits(192)
    model, pruning = network(), Forced(ratio=0.5, interval=2)
    flops, params = ptkeras.cost.training_flops(model), model.count_params()
    losses = train(model, keras.optimizers.SGD(0.05, momentum=0.9), pruning, x, y)
    assert [record["epoch"] for record in pruning.reconfigurations] == [2, 3]
    assert model.count_params() < params and np.isfinite(losses).all()
    assert 2 * 192 * flops < pruning.training_flops < 3 * 192 * flops
    assert pruning.figures()["params"] == model.count_params()
    assert not lasso.is_attached(model)
    assert np.isfinite(np.asarray(ops.convert_to_numpy(model(x[:2])))).all()


def test_a_loop_follows_fit():
    """λ in a loop is the ratio of the loss given, and the penalty that of the attached lasso."""
    x, y = digits(64)
    model = network()
    pruning = ptkeras.PruneTrain(ratio=0.3, verbose=0)
    loss = float(loss_of(y, model(x)))
    pruning.bind(model, loss=loss)
    penalty = float(ops.convert_to_numpy(pruning.penalty()))
    assert penalty / (loss + penalty) == pytest.approx(0.3, rel=1e-4)
    values = [ops.convert_to_tensor(v) for v in model.trainable_variables]
    assert float(ops.convert_to_numpy(pruning.penalty(values))) == pytest.approx(penalty, rel=1e-5)
    doubled = [2 * value for value in values]
    assert float(ops.convert_to_numpy(pruning.penalty(doubled))) == pytest.approx(
        2 * penalty, rel=1e-3
    )
    assert pruning.figures()["lasso"] == pytest.approx(penalty, rel=1e-4)


def test_slots_are_pruned_with_the_weights():
    if BACKEND == "torch":
        pytest.skip("its loop has an optimizer of PyTorch")
    x, y = digits(128)
    model, optimizer = network(), keras.optimizers.SGD(0.05, momentum=0.9)
    train(model, optimizer, Forced(interval=2), x, y)
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    assert [tuple(v.shape) for v in optimizer.momentums] == shapes
    assert model.optimizer is optimizer


def test_it_goes_on_in_another_process():
    x, _ = digits(128)
    model, pruning = network(), Forced(interval=3)
    pruning.bind(model, loss=2.0)
    assert not pruning.end_epoch(len(x))
    assert not pruning.end_epoch(len(x))
    later = Forced(interval=3)
    later.set_state(pruning.get_state())
    later.bind(model)
    assert later.strength == pruning.strength
    assert later.end_epoch(len(x)) and later.reconfigurations[0]["epoch"] == 3
    assert later.training_flops > pruning.training_flops


def test_what_a_loop_gets_wrong_is_named():
    model, pruning = compiled(), ptkeras.PruneTrain(ratio=0.2)
    with pytest.raises(ValueError, match=r"penalty .* no model is bound: call bind"):
        pruning.penalty()
    pruning.bind(model)
    assert float(pruning.penalty()) == 0
    with pytest.raises(ValueError, match=r"after_step needs the loss of the first step"):
        pruning.after_step()
    assert pruning.after_step(1.0) and not pruning.after_step(1.0)
    assert float(pruning.penalty()) > 0
    pruning.strength = None
    with pytest.raises(ValueError, match=r"given to PruneTrain.bind is -1.0"):
        pruning.bind(model, loss=-1.0)
    with pytest.raises(ValueError, match="must be one of Keras"):
        pruning.bind(model, "sgd", loss=1.0)
    with pytest.raises(ValueError, match="was compiled with another optimizer"):
        pruning.bind(model, keras.optimizers.Adam(), loss=1.0)
    pruning.bind(model, model.optimizer, loss=1.0)
    with pytest.raises(ValueError, match=r"trainable variables of .*; received 1"):
        pruning.penalty([1.0])
    with pytest.raises(ValueError, match=r"examples of PruneTrain.end_epoch must be 0 or more"):
        pruning.end_epoch(-1)


def test_a_network_of_open_sizes_is_not_pruned_without_an_input_shape():
    x = inputs = keras.Input((None, None, 3))
    for _ in range(2):
        x = keras.layers.Conv2D(8, 3)(x)
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    model, pruning = keras.Model(inputs, outputs), Forced(interval=1)
    pruning.bind(model, loss=1.0)
    with pytest.raises(ValueError, match="pass input_shape="):
        pruning.end_epoch(4)
    assert not pruning.reconfigurations and model.layers[1].filters == 8
