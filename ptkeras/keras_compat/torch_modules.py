"""Layers as modules of PyTorch, on that backend."""

from __future__ import annotations

import keras


def renew_parameters(layer: keras.layers.Layer) -> None:
    """Has Keras tell PyTorch of the variables of a layer, as it does after `build`.

    All of Keras 3.12 to 3.15. Variables that a built layer gets are not told of; if they were, this
    would be needless.
    """
    layer._track_variables()


def track_parameters(model: keras.Model) -> None:
    """Tells PyTorch of the parameters of a module, whose gradients each step begins by clearing.

    `_torch_params`, all of Keras 3.12 to 3.15, names parameters by their paths. Of several with one
    path, as layers of nested models from a file may have, PyTorch would know the last. Names that
    differ for each parameter would make all but the first line needless.
    """
    renew_parameters(model)
    known = {id(parameter) for parameter in model._torch_params.values()}
    for number, variable in enumerate(model.variables):
        if id(variable.value) not in known:
            # Behind the slash, in which no path of Keras ends, it takes no other variable's place.
            model._torch_params[f"{variable.path}_{number}/"] = variable.value
