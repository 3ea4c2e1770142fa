"""One training on several machines: what its workers agree upon, and what Keras leaves undone.

Under `tf.distribute.MultiWorkerMirroredStrategy` every worker runs the same program on a part of
each batch, and the gradients are summed over all of them, so that all hold the same weights after
each step. Everything here is called by all of the workers, in the same order: each call waits for
the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.keras_compat.trainers import set_symbolic_build, symbolic_build
from ptkeras.multi_worker.replicas import per_replica

_Answer = TypeVar("_Answer")

_DIGEST_WORDS = 4  # a SHA-256, as int64
_BLOCK = 2**26  # bytes of one message
_NO_GATES: Mapping[int, Any] = {}


class WorkersDifferError(ValueError):
    """The workers of one training hold different weights, or would do different things."""


class ChiefStoppedError(ValueError):
    """The chief has met an error while the other workers waited for it."""


class WorkerLostError(ValueError):
    """A worker has stopped, and the others cannot go on without it."""


def strategy_of(model: keras.Model) -> Any | None:
    """The strategy of a model that several workers train; None for any other model."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy if number_of_workers(strategy) > 1 else None


def number_of_workers(strategy: Any) -> int:
    """The number of processes that train together, 1 under every other strategy than this one."""
    if strategy is None:
        return 1
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    return max(1, len(_addresses(strategy)))


def index_of_worker(strategy: Any) -> int:
    """The place of this process among the workers; that of the chief is 0."""
    if number_of_workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    jobs = resolver.cluster_spec().as_dict()
    is_behind_chief = resolver.task_type == "worker" and "chief" in jobs
    return resolver.task_id + is_behind_chief


def is_chief(model: keras.Model) -> bool:
    """Whether this process is the one that writes files."""
    strategy = strategy_of(model)
    return strategy is None or index_of_worker(strategy) == 0


def _addresses(strategy: Any) -> list[str]:
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [address for job in ("chief", "worker") for address in jobs.get(job, [])]


# What the workers tell each other.


def from_chief(strategy: Any, ask: Callable[[], _Answer]) -> _Answer:
    """Has the chief find something out, or do it, and tells all workers what came of it.

    Args:
        strategy: their strategy; None where one process trains alone.
        ask: returns what JSON can hold. Run on the chief, while the others wait.

    Raises:
        ChiefStoppedError: on the others, where `ask` has raised something on the chief.
    """
    if number_of_workers(strategy) == 1:
        return ask()
    answer: dict[str, Any] = {}
    failure: BaseException | None = None
    if index_of_worker(strategy) == 0:
        try:
            answer = {"value": ask()}
        except BaseException as error:  # Ctrl-C too, or the others would wait for a time-out
            answer, failure = {"error": str(error) or type(error).__name__}, error
    answer = json.loads(_send(strategy, json.dumps(answer).encode()))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise ChiefStoppedError(f"The chief has stopped: {answer['error']}")
    return answer["value"]


@contextlib.contextmanager
def file_of_chief(strategy: Any, find: Callable[[], Path | None]) -> Iterator[Path | None]:
    """Gives every worker a file that the chief has, so that they need no folder in common.

    Args:
        strategy: their strategy; None where one process trains alone.
        find: returns the file, or None if there is none. Run on the chief.

    Yields:
        The file on the chief, elsewhere a copy for the time being; None if there is none.

    Raises:
        ChiefStoppedError: on the others, where `find` has raised something on the chief.
    """
    if number_of_workers(strategy) == 1:
        yield find()
        return
    found = from_chief(strategy, lambda: (path := find()) and str(path))
    if found is None:
        yield None
    elif index_of_worker(strategy) == 0:
        with Path(found).open("rb") as file:
            for _ in _send_blocks(strategy, Path(found).stat().st_size, file.read):
                pass
        yield Path(found)
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "of_chief.keras"
            with copy.open("wb") as file:
                file.writelines(_send_blocks(strategy, 0, lambda size: b""))
            yield copy


@contextlib.contextmanager
def telling_of_losses() -> Iterator[None]:
    """Says in a sentence that another worker has stopped, where TensorFlow has a page on it.

    Raises:
        WorkerLostError: in the `with` block a step, or whatever else waits for all workers, failed.
    """
    import tensorflow as tf

    ends = (
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.UnavailableError,
    )
    try:
        yield
    except tf.errors.OpError as error:
        if not isinstance(error, ends) and "ollective" not in str(error):
            raise
        raise WorkerLostError(
            "Another worker has stopped, and none can go on alone: its own output says why. Start "
            "all of them again with the same commands; they go on from the chief's last checkpoint."
        ) from error


def check_same(strategy: Any, what: str, *parts: Any) -> None:
    """Finds out whether all workers have the same bits.

    Args:
        strategy: their strategy.
        what: completes "the workers differ in …".
        parts: arrays, variables or text. Only their SHA-256 travels.

    Raises:
        WorkersDifferError: on all of them, if they differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(keras.ops.convert_to_numpy(part).tobytes())
    table = np.zeros((number_of_workers(strategy), _DIGEST_WORDS), np.int64)
    table[index_of_worker(strategy)] = np.frombuffer(digest.digest(), np.int64)
    table = _sum(strategy, table)
    others = np.flatnonzero((table != table[0]).any(axis=1))
    if others.size:
        raise WorkersDifferError(
            f"The workers differ in {what}: worker {', '.join(map(str, others))} from worker 0. "
            "Start all of them again with the same flags and the same versions of everything; they "
            "go on from the chief's last checkpoint."
        )


def largest(strategy: Any, number: int) -> int:
    """The largest of the numbers, from 0, that the workers ask about."""
    numbers = np.zeros(number_of_workers(strategy), np.int64)
    numbers[index_of_worker(strategy)] = number
    return int(_sum(strategy, numbers).max())


def check_decision(
    model: keras.Model, epoch: int, keep: np.ndarray, gates: Mapping[int, Any] = _NO_GATES
) -> None:
    """Finds out whether all workers would remove the same channels, from the same weights.

    Args:
        model: the model. All devices of a worker are to have the same weights too.
        epoch: the number of epochs trained.
        keep: the mask that this worker has come to.
        gates: the `Gate` that it has come to for the `id` of each layer that gets one.

    Raises:
        WorkersDifferError: on all of them, if they would not.
    """
    strategy = strategy_of(model)
    if strategy is None:
        return
    devices = "" if _devices_agree(strategy, model) else f"worker {index_of_worker(strategy)}"
    check_same(strategy, f"their weights after epoch {epoch}", devices, *model.weights)
    masks: list[Any] = []
    for number, layer in enumerate(flatten_layers(model)):  # an id is another one elsewhere
        if id(layer) in gates:
            masks += [f"{number}", gates[id(layer)].inputs, gates[id(layer)].outputs]
    check_same(strategy, f"the channels to remove after epoch {epoch}", keep, *masks)


def _devices_agree(strategy: Any, model: keras.Model) -> bool:
    """Whether the devices of this process hold the same bits."""
    for variable in model.weights:
        first, *others = (v.numpy() for v in strategy.experimental_local_results(variable.value))
        if any(other.tobytes() != first.tobytes() for other in others):
            return False
    return True


def _send(strategy: Any, content: bytes) -> bytes:
    """The bytes that the chief has, on all workers."""
    if index_of_worker(strategy) > 0:
        content = b""
    return b"".join(_send_blocks(strategy, len(content), io.BytesIO(content).read))


def _send_blocks(strategy: Any, size: int, read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The bytes that the chief has, on all workers, block by block: no message may have 2 GB.

    Args:
        strategy: their strategy.
        size: the number of bytes on the chief, 0 on the others.
        read: returns the next so many bytes on the chief, none on the others.
    """
    left = int(_sum(strategy, np.array([size], np.int64))[0])
    while left:
        length = min(left, _BLOCK)
        words = np.zeros(-(-length // 8), np.int64)
        part = read(length)
        words.view(np.uint8)[: len(part)] = np.frombuffer(part, np.uint8)
        yield _sum(strategy, words).tobytes()[:length]
        left -= length


def _sum(strategy: Any, values: np.ndarray) -> np.ndarray:
    """The sum of one array of each worker, exact."""
    import tensorflow as tf

    # One device of each worker speaks for it.
    each = per_replica(
        strategy, lambda replica: tf.constant(values if replica == 0 else 0 * values)
    )
    return strategy.reduce("SUM", each, axis=None).numpy()


# What Keras leaves undone.


def enable_fit(model: keras.Model, batch: Any) -> None:
    """Lets `fit` and `evaluate` of a compiled model run on several workers.

    Keras 3 (3.15 at least) cannot do so by itself, for two reasons:

    - Before the first step it takes the mean of a batch over all replicas, to learn its shapes. No
      worker has the other's replicas, and their batches may differ in size. Here the shapes are
      told.
    - It reduces the figures of each step "along axis 0", which scalars lack. Here they come as
      vectors of one number, which reduce to the scalars that were meant.

    Both are done to this one object, nothing to Keras; they outlast a reconfiguration, which keeps
    the object. Under any other strategy nothing is done.

    ```python
    with strategy.scope():
        model = …
        model.compile(…)
    ptkeras.multi_worker.enable_fit(model, dataset.element_spec)
    model.fit(dataset, callbacks=[ptkeras.PruneTrain()])
    ```

    Args:
        model: the model, compiled under the strategy.
        batch: the structure of a batch, `(x, y)`, of anything with shape and dtype: the
            `element_spec` of a `tf.data.Dataset` will do.
    """
    strategy = strategy_of(model)
    if strategy is None:
        return

    def build(iterator: Any = None, data_batch: Any = None) -> None:
        with strategy.scope():
            symbolic_build(model, batch)

    set_symbolic_build(model, build)
    model.train_step = _with_vectors(model, "train_step")
    model.test_step = _with_vectors(model, "test_step")


def _with_vectors(model: keras.Model, name: str) -> Any:
    def step(data: Any) -> Any:
        # Looked up anew each time: a reconfiguration may give the model another class.
        figures = getattr(type(model), name)(model, data)
        return keras.tree.map_structure(lambda value: keras.ops.reshape(value, (1,)), figures)

    return step
