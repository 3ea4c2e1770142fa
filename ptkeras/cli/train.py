"""Trains a network, makes it smaller meanwhile, and leaves a run folder.

python -m ptkeras.train --flagfile=flags/digits_resnet20.flags
python -m ptkeras.train --help
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ptkeras import methods
from ptkeras.cli import baseline, distribution
from ptkeras.cli.distribution import Devices
from ptkeras.export import formats
from ptkeras.methods.method import checkpoint_interval
from ptkeras.methods.settings import parse, table
from ptkeras.runs.run_folder import RunFolder
from ptkeras.utils.flagging import Settings, SettingsError, asks_for_help, fail, is_ours

if TYPE_CHECKING:
    import keras

    from ptkeras.runs.record import Reconfiguring
    from ptkeras.runs.schema import Network, Result


def train(settings: Settings) -> dict[str, Any]:
    """Trains one network.

    Args:
        settings: the flags.

    Returns:
        The figures that `result.json` has; none on workers beside the chief, which has the files.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on its own insides
    if settings.strategy == "none":
        _check_files(settings)  # which takes less time than to import a backend
    baseline.train(settings)
    devices = distribution.start(settings)
    folder = RunFolder(settings.output_dir, writes=devices.is_chief)
    with contextlib.ExitStack() as stack:
        stack.enter_context(devices.telling_of_losses())
        devices.check_same("their flags", _common_flags(settings))
        devices.from_chief(lambda: _check_files(settings))
        against = devices.from_chief(lambda: baseline.figures(settings))
        if devices.from_chief(lambda: stack.enter_context(folder).finished):
            devices.from_chief(lambda: folder.check_whole(folder.result, folder.model))
            print(f"The run in '{folder.path}' is finished; another --output_dir repeats it.")
        else:
            from ptkeras.keras_compat.fused_batch_norm import fused_batch_norm

            with fused_batch_norm():
                _train(settings, folder, devices, against)
        result = devices.from_chief(lambda: _finish(settings, folder)) | against
    return result if devices.is_chief else {}


def _common_flags(settings: Settings) -> str:
    """The flags that all workers have to have in common: their data may lie elsewhere."""
    lines = settings.to_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("--data_dir="))


def _check_files(settings: Settings) -> None:
    RunFolder(settings.output_dir).check(settings)
    _check_installed(settings)
    if not settings.compare_dense:  # which is still to train it
        baseline.figures(settings)


def _finish(settings: Settings, folder: RunFolder) -> dict[str, Any]:
    from ptkeras import report

    result = folder.read_result()
    report.check_result(folder.path, result)
    if not report.is_whole(folder.path):
        report.write(folder.path)
    _export(settings, folder)
    return result


def _train(
    settings: Settings, folder: RunFolder, devices: Devices, against: dict[str, float]
) -> None:
    import keras

    from ptkeras import data, models
    from ptkeras.cli.weight_decay import decay_weights
    from ptkeras.runs.norms import ChannelNorms
    from ptkeras.runs.record import Record, architecture
    from ptkeras.survival import Survival

    keras.config.disable_traceback_filtering()  # what goes wrong is to be told by who raised it
    _be_deterministic(settings.seed)
    dataset = data.load(
        settings.dataset,
        batch_size=settings.batch_size,
        data_dir=settings.data_dir,
        seed=settings.seed,
        shard=devices.shard,
    )
    devices.check(dataset)
    if devices.workers > 1:
        devices.check_same("their data", dataset.facts())
    with devices.scope():
        model = models.build(settings.model, dataset.input_shape, dataset.num_classes)
        dense = architecture(model, settings.batch_size)
        method = methods.get(settings.method)
        started = method.start(settings, dataset, model, folder)
        model = started.model
        devices.from_chief(lambda: folder.open(settings))  # nothing is written if that refuses
        model.compile(
            keras.optimizers.SGD(settings.learning_rate, momentum=settings.momentum),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    devices.prepare(model, dataset)
    test = devices.batches(dataset.test)
    pruning = next((one for one in started.callbacks if hasattr(one, "reconfigurations")), None)
    batch_size = dataset.batch_size
    record = Record(
        folder, dense, checkpoint_interval(settings), batch_size, pruning, method.columns
    )
    norms = ChannelNorms(folder, settings.measure)
    stateful = [*(one for one in started.callbacks if hasattr(one, "get_state")), record, norms]
    survival = Survival(folder.last, stateful, dataset)
    survival.resume(model)
    decay_weights(model, settings.weight_decay)
    if survival.progress:
        print(f"Going on in '{folder.path}' after {survival.progress}.")
    else:
        place = f"'{folder.path}'" if devices.is_chief else "the chief's --output_dir"
        print(f"Training {settings.model} on {settings.dataset}; all of it goes to {place}.")
    model.fit(
        devices.batches(dataset.train),
        validation_data=test,
        epochs=started.epochs or settings.epochs,
        shuffle=False,  # the dataset shuffles
        verbose=(1 if sys.stdout.isatty() else 2) if devices.is_chief else 0,
        callbacks=[
            # The bar is drawn before the others add their figures, which are in history.csv.
            *([keras.callbacks.ProgbarLogger()] if devices.is_chief else []),
            data.EpochSeed(dataset),
            keras.callbacks.LearningRateScheduler(_schedule(settings, started, pruning)),
            norms,  # ahead of the method, whose reconfigurations take the smallest channels away
            *started.callbacks,
            record,
            *_tensorboard(settings, folder),
            survival,
        ],
    )

    model = started.finish(model)
    folder.save_model(model, folder.model)
    scores = model.evaluate(test, verbose=0, return_dict=True)
    now = architecture(model, settings.batch_size)
    record.finish(now)
    result = _result(settings, scores, dataset.num_train, (dense, now), record.rows)
    estimate = baseline.dense_estimate(record.rows, getattr(pruning, "reconfigurations", []))
    folder.write_result({**result, **estimate, **against, **started.result()})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: the flags; None for those of the process.

    Returns:
        The exit status: 0, 1 where one sentence on standard error says what is wrong, 130 after
        Ctrl-C, or 143 after SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if asks_for_help(arguments):
        print(table().help_text())
        return 0
    try:
        settings = parse(arguments)
        result = train(settings)
    except SettingsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(
            f"A file could not be read or written ({error}): mend that, and the same command goes "
            "on from what was saved before."
        )
    except ValueError as error:
        if not is_ours(error):
            raise
        return fail(str(error))
    except KeyboardInterrupt as stop:
        fail(str(stop) or "Stopped; the same command goes on from the last finished epoch.")
        return 128 + getattr(stop, "signal", signal.SIGINT)
    from ptkeras.report import summary

    if result:
        summary.show(result)
        print(
            f"The run is in '{settings.output_dir}': its network in model.keras, and all that "
            "happened in report.html."
        )
    return 0


# What it is made of.


def _be_deterministic(seed: int) -> None:
    """Makes a run repeat bit for bit on a CPU."""
    import keras

    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _schedule(
    settings: Settings, started: methods.Start, pruning: Reconfiguring | None
) -> Callable[[int], float]:
    """The learning rate of an epoch, which is higher for a larger batch."""
    from ptkeras.cli.schedule import learning_rate

    drops = started.learning_rate_drops
    drops = settings.learning_rate_drops if drops is None else drops
    epochs = started.epochs or settings.epochs
    warmup = settings.warmup_epochs

    def rate(epoch: int) -> float:
        peak = settings.learning_rate * getattr(pruning, "batch_scale", 1.0)
        return learning_rate(settings.schedule, peak, epoch, epochs, drops, warmup)

    return rate


def _tensorboard(settings: Settings, folder: RunFolder) -> list[keras.callbacks.Callback]:
    """With --tensorboard, Keras's own callback; a resumed run adds to what is there."""
    import keras

    if not settings.tensorboard or not folder.writes:
        return []
    return [
        keras.callbacks.TensorBoard(
            folder.tensorboard, histogram_freq=checkpoint_interval(settings), write_graph=False
        )
    ]


def _result(
    settings: Settings,
    scores: dict[str, float],
    num_train: int,
    networks: tuple[Network, Network],
    rows: list[dict[str, Any]],
) -> Result:
    """The figures of the whole run; pairs are those of the dense network and of this one."""
    from ptkeras.runs.record import gradient_traffic

    dense, now = networks
    dense_training = dense["training_flops"] * num_train * settings.epochs
    steps = -(-num_train // settings.batch_size) * settings.epochs
    return {
        "dataset": settings.dataset,
        "model": settings.model,
        "method": settings.method,
        "seed": settings.seed,
        "epochs": len(rows),
        "dense_epochs": settings.epochs,
        "accuracy": scores["accuracy"],
        "loss": scores["loss"],
        "training_flops": [dense_training, rows[-1]["training_flops"]],
        "gradient_traffic": [dense["gradient_bytes"] * steps, gradient_traffic(rows, num_train)],
        "inference_flops": [dense["inference_flops"], now["inference_flops"]],
        "params": [dense["params"], now["params"]],
        "channels": [dense["channels"], now["channels"]],
        "training_memory": [dense["training_memory"], now["training_memory"]],
        "gradient_bytes": [dense["gradient_bytes"], now["gradient_bytes"]],
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def _check_installed(settings: Settings) -> None:
    """Finds out, ahead of the training, whether what some flags need is installed."""
    needed = {
        **{f"--export={name}": formats.named(name).packages for name in settings.export},
        f"--method={settings.method}": methods.get(settings.method).packages,
        "--tensorboard": ("tensorboard",) * settings.tensorboard,
    }
    for flag, packages in needed.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            raise SettingsError(
                f"flag {flag}: needs {', '.join(missing)}; pip install {' '.join(missing)}."
            )


def _export(settings: Settings, folder: RunFolder) -> None:
    """Writes the formats that are asked for and not there yet."""
    wanted = []
    for kind in map(formats.named, settings.export):
        path = folder.exported(kind)
        if not os.path.lexists(path):
            wanted.append(kind)
        elif fault := folder.fault_of(path):
            raise SettingsError(
                f"'{path}' {fault}: delete it, and the same command writes it again."
            )
    if not wanted:
        return
    from ptkeras import data, export
    from ptkeras.export.run import metadata

    # As it was saved, so that what is exported is what the folder holds.
    model = export.load_model(folder.model)
    dataset = data.load(
        settings.dataset, batch_size=1, data_dir=settings.data_dir, seed=settings.seed
    )
    told = metadata(folder.path) | {"mean": dataset.mean, "std": dataset.std}
    for kind in wanted:
        path = folder.exported(kind)
        try:
            artifact = kind.write(model, path, labels=dataset.labels, metadata=told)
            folder.note_checksums(path)
            print(artifact.summary)
        except export.ExportError as error:
            raise SettingsError(
                f"{error} The run itself is finished; the same command tries again."
            ) from error


if __name__ == "__main__":
    sys.exit(main())
