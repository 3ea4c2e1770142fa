"""A log of changes to living objects, so that they can be undone whatever is raised on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_ABSENT = object()


class Changes:
    """Changes attributes and lists of objects, and restores every one of them on `undo`.

    The former value is noted before the new one is set, so that an exception between any two
    statements, `KeyboardInterrupt` among them, finds a log that is whole.
    """

    def __init__(self) -> None:
        self._undo: list[tuple[Callable, tuple]] = []

    def __len__(self) -> int:
        return len(self._undo)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute, past the tracking and the locks of Keras."""
        own = vars(owner)
        self._undo.append((_restore, (own, name, own.get(name, _ABSENT))))
        own[name] = value

    def set_item(self, container: Any, key: Any, value: Any) -> None:
        """Sets an item of a dict."""
        self._undo.append((_restore, (container, key, container.get(key, _ABSENT))))
        container[key] = value

    def set_list(self, values: list, new: Iterable[Any]) -> None:
        """Replaces what a list holds; the list stays the object that it is."""
        self._undo.append((_refill, (values, list(values))))
        _refill(values, list(new))

    def on_undo(self, function: Callable, *args: Any) -> None:
        """Has `undo` call a function, for changes that no attribute says."""
        self._undo.append((function, args))

    def forget_values(self) -> None:
        """Lets go of the numbers of variables, in place of which `undo` puts zeros."""
        for function, _ in self._undo:
            if hasattr(function, "forget"):
                function.forget()

    def undo(self) -> None:
        """Restores everything, the last change first."""
        while self._undo:
            function, args = self._undo[-1]
            function(*args)
            self._undo.pop()


def _restore(own: dict, name: Any, value: Any) -> None:
    if value is _ABSENT:
        own.pop(name, None)
    else:
        own[name] = value


def _refill(values: list, new: list) -> None:
    # Past the methods of tracked lists: Keras's would track and untrack again, and TensorFlow's
    # compare the variables in them. TensorFlow's hold the list that they wrap beside their own.
    storage = vars(values).get("_storage") if hasattr(values, "__dict__") else None
    if storage is not None:
        list.__setitem__(storage, slice(None), new)
    list.__setitem__(values, slice(None), new)
