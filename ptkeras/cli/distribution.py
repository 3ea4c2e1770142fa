"""`--strategy`: the devices that a run trains on, and the machines.

A batch is always the global one: its images are shared out over all devices, so that a run on
several does in a step what a run on one does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ptkeras import methods
from ptkeras.utils.flagging import Settings, SettingsError

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset, Shard

_Answer = TypeVar("_Answer")

_BACKENDS = {"data_parallel": "jax"}  # of all others, tensorflow
_PARTS = ("cluster", "task")
_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run trains on.

    Attributes:
        strategy: the `tf.distribute.Strategy`, or None.
        replicas: the number of devices, over all workers.
        workers: the number of processes that train together.
        worker: which of them this one is; the chief is 0.
    """

    strategy: Any = None
    replicas: int = 1
    workers: int = 1
    worker: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.worker == 0

    @property
    def shard(self) -> Shard:
        """The part of each batch that this process trains with."""
        from ptkeras.data import Shard

        return Shard(self.worker, self.workers, self.replicas)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """What a model has to be built and compiled in."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def check(self, dataset: Dataset) -> None:
        """Finds out whether a data set can be shared out over the devices.

        Raises:
            SettingsError: JAX, which wants parts of the same size, cannot test with all images.
        """
        if self.strategy is None and dataset.num_test % self.replicas:
            raise SettingsError(
                f"flag --strategy=data_parallel: the {dataset.num_test} test images of "
                f"{dataset.name} cannot be shared out evenly over {self.replicas} devices; name "
                "fewer in --devices."
            )

    def prepare(self, model: keras.Model, dataset: Dataset) -> None:
        """Makes a compiled model ready for `fit`."""
        if self.workers > 1:
            from ptkeras import multi_worker

            multi_worker.enable_fit(model, dataset.train.element_spec)

    def batches(self, dataset: Any) -> Any:
        """What `fit` takes for the batches of this process."""
        if self.workers == 1:
            return dataset  # Keras shares each batch out over the devices
        from ptkeras.data.shard import split

        here = self.replicas // self.workers
        parts = self.strategy.distribute_datasets_from_function(lambda _: split(dataset, here))
        # TensorFlow cannot know it, and Keras would warn at the end of each epoch.
        parts._cardinality = dataset.cardinality()
        return parts

    def from_chief(self, ask: Callable[[], _Answer]) -> _Answer:
        """What the chief finds out, or does, while other workers wait; see `multi_worker`."""
        if self.workers == 1:
            return ask()
        from ptkeras import multi_worker

        return multi_worker.from_chief(self.strategy, ask)

    def telling_of_losses(self) -> contextlib.AbstractContextManager[None]:
        """Where a worker stops, the others say so in one sentence."""
        if self.workers == 1:
            return contextlib.nullcontext()
        from ptkeras import multi_worker

        return multi_worker.telling_of_losses()

    def check_same(self, what: str, text: str) -> None:
        """Finds out whether a text is the same on all workers.

        Raises:
            WorkersDifferError: it is not.
        """
        if self.workers > 1:
            from ptkeras import multi_worker

            multi_worker.check_same(self.strategy, what, text)


def start(settings: Settings) -> Devices:
    """Takes the devices that the flags name. To be called before anything else of the backend.

    Args:
        settings: the flags.

    Raises:
        SettingsError: they are not there, or the batch cannot be shared out over them.
    """
    if settings.strategy == "none":
        return Devices()
    _check_backend(settings.strategy)
    starts = {
        "mirrored": _start_mirrored,
        "multi_worker": _start_multi_worker,
        "tpu": _start_tpu,
        "data_parallel": _start_data_parallel,
    }
    devices = starts[settings.strategy](settings)
    _check_batch(settings, devices.replicas)
    return devices


def _check_backend(strategy: str) -> None:
    import keras

    needed, backend = _BACKENDS.get(strategy, "tensorflow"), keras.config.backend()
    if backend != needed:
        raise SettingsError(
            f"flag --strategy={strategy}: needs Keras on {needed}, and this is {backend}; set "
            f"KERAS_BACKEND={needed}."
        )


def _check_batch(settings: Settings, replicas: int) -> None:
    size = settings.batch_size
    if size % replicas:
        raise SettingsError(
            f"flag --batch_size={size}: must be a multiple of {replicas}, the devices of "
            f"--strategy={settings.strategy} that share each batch."
        )
    methods.get(settings.method).check_devices(settings, replicas)


# The strategies.


def _start_mirrored(settings: Settings) -> Devices:
    import tensorflow as tf

    names = [name.upper() for name in settings.devices]
    if names and all(name.startswith("CPU:") for name in names):
        _make_logical_cpus(1 + max(int(name[len("CPU:") :]) for name in names))
    there = [device.name[len("/device:") :] for device in tf.config.list_logical_devices()]
    there = [name for name in there if name.startswith(("CPU:", "GPU:"))]
    missing = [name for name in names if name not in there]
    if missing:
        raise SettingsError(
            f"flag --devices={','.join(settings.devices)}: {missing[0]} is not here; there are "
            f"{', '.join(there)}."
        )
    names = names or [name for name in there if name.startswith("GPU:")]
    if not names:
        raise SettingsError(
            "flag --strategy=mirrored: no GPU is here; --devices=CPU:0,CPU:1 tries it on two "
            "parts of the CPU."
        )
    return devices_of(tf.distribute.MirroredStrategy(names))


def _make_logical_cpus(number: int) -> None:
    """Cuts the CPU into so many devices, if TensorFlow has not begun with another number yet."""
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(number)]
    with contextlib.suppress(RuntimeError):
        tf.config.set_logical_device_configuration(cpu, parts)


def _start_multi_worker(settings: Settings) -> Devices:
    addresses, index = read_cluster(os.environ.get("TF_CONFIG"))
    _check_batch(settings, len(addresses))
    import tensorflow as tf

    print(f"Worker {index} of {len(addresses)} at {addresses[index]} waits for the others.")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise SettingsError(
            f"flag --strategy=multi_worker: worker {index} cannot begin at {addresses[index]} "
            f"({_first_line(error)})."
        ) from error
    return devices_of(strategy)


def _start_tpu(settings: Settings) -> Devices:
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise SettingsError(
            f"flag --strategy=tpu: no TPU is here ({_first_line(error).rstrip('.')}); on a "
            "Cloud TPU, set TPU_NAME to its name, or to local."
        ) from error
    return devices_of(tf.distribute.TPUStrategy(resolver))


def _start_data_parallel(settings: Settings) -> Devices:
    import keras

    there = keras.distribution.list_devices()
    names = [name.lower() for name in settings.devices] or there
    missing = [name for name in names if name not in there]
    if missing:
        raise SettingsError(
            f"flag --devices={','.join(settings.devices)}: {missing[0]} is not here; there are "
            f"{', '.join(there)}."
        )
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
    return Devices(replicas=len(names))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def devices_of(strategy: Any) -> Devices:
    """The devices of a `tf.distribute.Strategy`."""
    from ptkeras import multi_worker

    return Devices(
        strategy,
        strategy.num_replicas_in_sync,
        multi_worker.number_of_workers(strategy),
        multi_worker.index_of_worker(strategy),
    )


def read_cluster(text: str | None) -> tuple[list[str], int]:
    """The workers that `TF_CONFIG` names.

    Args:
        text: its value, None where it is not set.

    Returns:
        Their addresses, that of the chief first, and the place of this process among them.

    Raises:
        SettingsError: it is missing, or not what TensorFlow could follow.
    """
    if not text:
        raise _refused("is not set", None)
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _refused(f"is no JSON ({error})", text) from error
    jobs, task = (config.get(key) if isinstance(config, dict) else None for key in _PARTS)
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        raise _refused("must have a cluster and a task", text)
    if not set(jobs) <= {"chief", "worker"} or not jobs:
        raise _refused("must have a chief and workers in its cluster, or workers alone", text)
    addresses = [address for job in ("chief", "worker") for address in _listed(jobs, job, text)]
    if len(set(addresses)) < len(addresses):
        raise _refused("names an address twice", text)
    kind, index = task.get("type"), task.get("index")
    number = len(jobs.get(kind, ())) if isinstance(kind, str) else 0
    if type(index) is not int or not 0 <= index < number:
        raise _refused(f"has no {kind} {index} in its cluster, which its task names", text)
    return addresses, index + (kind == "worker") * len(jobs.get("chief", ()))


def _listed(jobs: dict[str, Any], job: str, text: str) -> list[str]:
    addresses = jobs.get(job, [])
    if not isinstance(addresses, list) or not all(map(_is_address, addresses)):
        raise _refused(f"must list the addresses of its {job} as HOST:PORT", text)
    if job == "chief" and len(addresses) > 1:
        raise _refused("must name one chief at most", text)
    return addresses


def _is_address(address: Any) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def _refused(fault: str, text: str | None) -> SettingsError:
    found = "TF_CONFIG" if text is None else f"TF_CONFIG='{' '.join(text.split())}'"
    return SettingsError(
        f"flag --strategy=multi_worker: {found} {fault}; on the first of two machines it may be "
        f"'{_EXAMPLE}'."
    )
