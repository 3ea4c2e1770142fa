"""Trains a network, makes it smaller meanwhile, and leaves a run folder.

python -m ptkeras.train --flagfile=flags/digits_resnet20.flags
python -m ptkeras.train --help
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ptkeras import settings as settings_module
from ptkeras.run_folder import RunFolder
from ptkeras.settings import Settings, SettingsError

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset


def train(settings: Settings) -> dict[str, Any]:
    """Trains one network.

    Args:
        settings: the flags.

    Returns:
        The figures that `result.json` has.
    """
    folder = RunFolder(settings.output_dir)
    folder.check(settings)
    if folder.finished:
        print(f"The run in '{folder.path}' is finished; another --output_dir repeats it.")
        return folder.read_result()

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on its own insides
    import keras

    from ptkeras import data, methods, models
    from ptkeras.record import Record, architecture
    from ptkeras.survival import Survival

    keras.config.disable_traceback_filtering()  # what goes wrong is to be told by who raised it
    _be_deterministic(settings.seed)
    dataset = data.load(
        settings.dataset,
        batch_size=settings.batch_size,
        data_dir=settings.data_dir,
        seed=settings.seed,
    )
    model = models.build(settings.model, dataset.input_shape, dataset.num_classes)
    dense = architecture(model)
    folder.open(settings)
    model, method, epochs, drops = methods.start(settings, dataset, model, folder)
    _decay_weights(model, settings.weight_decay)
    model.compile(
        keras.optimizers.SGD(settings.learning_rate, momentum=settings.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    pruning = next((one for one in method if hasattr(one, "reconfigurations")), None)
    record = Record(folder, dense, settings.interval, dataset.batch_size, pruning)
    survival = Survival(folder.last, _stateful(method, pruning, record))
    resumed = survival.resume(model)
    if resumed:
        print(f"Going on in '{folder.path}' after epoch {resumed}.")
    else:
        print(
            f"Training {settings.model} on {settings.dataset}; all of it goes to '{folder.path}'."
        )
    model.fit(
        dataset.train,
        validation_data=dataset.test,
        epochs=epochs,
        shuffle=False,  # the dataset shuffles
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            # The bar is drawn before the others add their figures, which are in history.csv.
            keras.callbacks.ProgbarLogger(),
            data.EpochSeed(dataset),
            keras.callbacks.LearningRateScheduler(
                _schedule(settings.learning_rate, drops, pruning)
            ),
            *method,
            record,
            survival,
        ],
    )

    folder.save_model(model, folder.model)
    result = _result(settings, model, dataset, dense, record.rows)
    for one in method:
        result |= one.result() if hasattr(one, "result") else {}
    folder.write_json(folder.result, result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: the flags; None for those of the process.

    Returns:
        The exit status: 0, 1 where one sentence on standard error says what is wrong, or 130 after
        Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if settings_module.asks_for_help(arguments):
        print(settings_module.help_text())
        return 0
    try:
        settings = settings_module.parse(arguments)
        result = train(settings)
    except SettingsError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"A file could not be read or written: {error}.")
    except ValueError as error:
        if not _is_ours(error):
            raise
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail("Stopped; the same command goes on from the last finished epoch.")
        return 130
    from ptkeras import _summary

    _summary.show(result)
    print(f"The run is in '{settings.output_dir}', its network in model.keras.")
    return 0


# What it is made of.


def _be_deterministic(seed: int) -> None:
    """Makes a run repeat bit for bit on a CPU."""
    import keras

    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _decay_weights(model: keras.Model, weight_decay: float) -> None:
    """L2 regularisation of every trainable variable, as PyTorch's SGD has it.

    The gradient of w gets `weight_decay * w` before the momentum is applied. Keras's own
    `SGD(weight_decay=…)` is another thing: it shrinks the weights apart from the gradient
    (Loshchilov & Hutter, 2019). The regularizer hangs on the variables, which reconfigurations
    carry over, and so is not in the configs of the layers that are saved.
    """
    import keras

    if weight_decay:
        for variable in model.trainable_variables:
            if variable.regularizer is None:
                variable.regularizer = keras.regularizers.L2(weight_decay / 2)


def _schedule(first: float, drops: list[int], pruning: Any) -> Callable[[int], float]:
    """The learning rate of an epoch: a tenth after each drop, and more for a larger batch."""

    def rate(epoch: int) -> float:
        tenths = sum(epoch >= drop for drop in drops)
        return first / 10**tenths * getattr(pruning, "batch_scale", 1.0)

    return rate


def _stateful(method: list[Any], pruning: Any, record: Any) -> list[Any]:
    from ptkeras.survival import PruningState

    states = [] if pruning is None else [PruningState(pruning)]
    return [*states, *(one for one in method if hasattr(one, "get_state")), record]


def _result(
    settings: Settings,
    model: keras.Model,
    dataset: Dataset,
    dense: dict[str, Any],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """The figures of the whole run; pairs are those of the dense network and of this one."""
    from ptkeras.record import architecture

    scores = model.evaluate(dataset.test, verbose=0, return_dict=True)
    now = architecture(model)
    pairs = {name: [dense[name], now[name]] for name in ("inference_flops", "params", "channels")}
    dense_training = dense["training_flops"] * dataset.num_train * settings.epochs
    return {
        "dataset": settings.dataset,
        "model": settings.model,
        "method": settings.method,
        "seed": settings.seed,
        "epochs": len(rows),
        "accuracy": scores["accuracy"],
        "loss": scores["loss"],
        "training_flops": [dense_training, rows[-1]["training_flops"]],
        **pairs,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def _is_ours(error: ValueError) -> bool:
    """Whether ptkeras raised an error, whose message then is for whoever typed the command.

    What others raise is a fault of ours, and keeps its traceback.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith("ptkeras.")


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
