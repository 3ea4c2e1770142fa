"""The fingerprint of a training, by which no checkpoint is taken for that of another."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ptkeras.channels.graph import has_graph
from ptkeras.keras_compat.tracking import sublayers
from ptkeras.surgery.adopt import graph_config
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.surgery.twins import twin

Fingerprint = dict[str, Any]

# Keys whose values differ between two processes that build the same network.
_OF_THE_PROCESS = ("shared_object_id", "seed", "build_config", "build_input_shape")
_NAMED = ("trainable", "inbound_nodes", "seed")  # a dict with one of them has a layer's name

_of_models: weakref.WeakKeyDictionary[Any, Fingerprint] = weakref.WeakKeyDictionary()
_of_objects: weakref.WeakKeyDictionary[Any, dict] = weakref.WeakKeyDictionary()


def fingerprint_of(model: keras.Model, stateful: Sequence[Any]) -> Fingerprint:
    """Returns the fingerprint of a training.

    Args:
        model: the model, compiled. Its network is that of the first call, since it may have become
            smaller.
        stateful: the callbacks and other objects whose state is saved; those with `get_settings()`
            have to have the same settings.

    Returns:
        `names` of the layers; and `backend`, `network`, `optimizer`, `stateful` and `settings`,
        which have to be the same when the training goes on. JSON can hold it.
    """
    if model not in _of_models:
        _of_models[model] = {"network": _network(model), "names": [way for way, _ in _named(model)]}
    return _of_models[model] | {
        "backend": keras.config.backend(),
        "optimizer": _optimizer(model),
        "stateful": [type(getattr(one, "callback", one)).__name__ for one in stateful],
        "settings": [_settings(one) for one in stateful],
    }


def check_fingerprint(saved: Fingerprint | None, now: Fingerprint, path: Any) -> None:
    """Checks that a checkpoint is of this training.

    Args:
        saved: the fingerprint in it, None without one.
        now: the fingerprint of the training that is to go on.
        path: the checkpoint.

    Raises:
        ValueError: If they differ; the message says in what.
    """
    difference = _difference(saved, now) if saved else "nothing says what it was begun with"
    if difference:
        raise ValueError(
            f"'{path}' holds another training: {difference}. Go on as that was begun; or, to begin "
            "again, delete the file or choose another path."
        )


def take_names(model: keras.Model, saved: Fingerprint) -> None:
    """Gives the layers of a model the names that they had in the process that saved it.

    Keras counts on in the names that it makes up, as in a notebook whose model is built twice.
    Layers and their variables are found by them.

    Args:
        model: a model of the same network.
        saved: the fingerprint in its checkpoint.
    """
    # Older ones have no names of a model without a graph.
    theirs = dict(zip(_of_models[model]["names"], saved["names"], strict=has_graph(model)))
    for way, layer in list(_named(model)):
        if way in theirs and theirs[way] != way:
            layer.name = theirs[way].rsplit("/", 1)[-1]
    _of_models[model] = {"network": saved["network"], "names": saved["names"]}


def _difference(saved: Fingerprint, now: Fingerprint) -> str:
    if saved.get("backend", now["backend"]) != now["backend"]:  # older ones do not say
        return f"it was begun with KERAS_BACKEND={saved['backend']}, not {now['backend']}"
    if saved["network"] != now["network"]:
        return _difference_of_networks(saved["network"], now["network"])
    for kind, what in (("optimizer", "optimizer was"), ("stateful", "stateful objects were")):
        if saved[kind] != now[kind]:
            return f"its {what} {_listed(saved[kind])}, not {_listed(now[kind])}"
    for name, before, after in zip(
        now["stateful"], saved["settings"], now["settings"], strict=True
    ):
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                return f"the {key} of its {name} was {before.get(key)}, not {after.get(key)}"
    return ""


def _difference_of_networks(saved: list[str], now: list[str]) -> str:
    pairs = itertools.zip_longest(saved, now, fillvalue="")
    number, (before, after) = next((i, pair) for i, pair in enumerate(pairs, 1) if len({*pair}) > 1)
    kinds = [line.split(" ")[0] or "missing" for line in (before, after)]
    if len(set(kinds)) == 1:
        return f"part {number} of its network, {_article(kinds[0])}, has other settings than here"
    return f"part {number} of its network is {_article(kinds[0])}, here it is {_article(kinds[1])}"


def _article(kind: str) -> str:
    return kind if kind == "missing" else f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def _listed(words: list[str]) -> str:
    return ", ".join(words) or "none"


def _settings(one: Any) -> dict[str, Any]:
    if not hasattr(one, "get_settings"):
        return {}
    if one not in _of_objects:
        _of_objects[one] = one.get_settings()
    return _of_objects[one]


def _optimizer(model: keras.Model) -> list[str]:
    """Returns the kind of an optimizer, with its counters and the slots of a weight."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return []
    with scope_of(model):
        other = twin(optimizer)
        other.build([keras.Variable(np.zeros((2, 3), "float32"), name="weight")])
    slots = [re.sub(r"_\d+$", "", v.name) for v in other.variables]  # Keras numbers namesakes
    kinds = [type(optimizer).__name__]
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
        kinds.append(type(optimizer).__name__)
    return [f"{' of '.join(kinds)} ({', '.join(slots)})"]


def _network(model: keras.Model) -> list[str]:
    """Returns the kind and a digest of each layer, and a line for the edges of the graph."""
    if not has_graph(model):
        return [f"weight of {v.dtype} {tuple(v.shape)}" for v in model.weights]
    config = _nameless(graph_config(model), {})
    lines = [f"{layer['class_name']} {_digest(layer)}" for layer in config.pop("layers")]
    return [*lines, f"output {_digest(config)}"]


def _digest(config: Any) -> str:
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()[:16]


def _nameless(part: Any, numbers: Mapping[str, int]) -> Any:
    """Returns a config without the names of layers; edges have their numbers instead.

    Args:
        part: any part of a config.
        numbers: the positions of the layers around it by their names.
    """
    if isinstance(part, (list, tuple)):
        return [_nameless(each, numbers) for each in part]
    if not isinstance(part, dict):
        return part
    if _are_layers(part.get("layers")):
        numbers = {layer["config"].get("name"): i for i, layer in enumerate(part["layers"])}
        part = part | {"layers": [_without_name(layer) for layer in part["layers"]]}
    found = {}
    for key, value in part.items():
        if key in ("keras_history", "input_layers", "output_layers"):
            found[key] = _numbered(value, numbers)
        elif key == "batch_shape":  # of data that a Sequential was built on
            found[key] = value and list(value[1:])
        elif key not in _OF_THE_PROCESS and not (key == "name" and any(k in part for k in _NAMED)):
            found[key] = _nameless(value, numbers)
    return found


def _are_layers(part: Any) -> bool:
    return isinstance(part, (list, tuple)) and all(
        isinstance(one, dict) and isinstance(one.get("config"), dict) for one in part
    )


def _without_name(layer: dict) -> dict:
    config = {key: value for key, value in layer["config"].items() if key != "name"}
    return layer | {"config": config}


def _numbered(part: Any, numbers: Mapping[str, int]) -> Any:
    if isinstance(part, (list, tuple)):
        return [_numbered(each, numbers) for each in part]
    if isinstance(part, dict):
        return {key: _numbered(each, numbers) for key, each in part.items()}
    return numbers.get(part, part) if isinstance(part, str) else part


def _named(model: Any, way: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the layers of the graphs in a model, by the names on the way to them."""
    if has_graph(model):
        for layer in model.layers:
            yield f"{way}{layer.name}", layer
            if has_graph(layer):
                yield from _named(layer, f"{way}{layer.name}/")
    else:  # other layers go by their number, as in `by_place`
        for number, layer in enumerate(sublayers(model)):
            yield from _named(layer, f"{way}{number}/")
