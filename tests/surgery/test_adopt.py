"""What PyTorch is told of a model's parameters, on every backend."""

import dataclasses

from ptkeras.keras_compat.torch_modules import track_parameters


@dataclasses.dataclass(eq=False)
class Variable:
    path: str
    value: object = dataclasses.field(default_factory=object)


class Module:
    """As Keras's on PyTorch, which names parameters by the paths of their variables."""

    def __init__(self, *paths):
        self.variables = [Variable(path) for path in paths]

    def _track_variables(self):
        self._torch_params = {variable.path: variable.value for variable in self.variables}


def test_parameters_of_one_path_are_all_tracked():
    # In the second place, the first of the two could be taken for the one that Keras numbered.
    module = Module("other/kernel", "dense/kernel", "dense/kernel", "dense/kernel_1")
    track_parameters(module)
    tracked = {id(parameter) for parameter in module._torch_params.values()}
    assert tracked == {id(variable.value) for variable in module.variables}
    assert not any("." in name for name in module._torch_params)  # which PyTorch refuses
