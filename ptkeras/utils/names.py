"""Names that a user got wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def close(name: object, known: Iterable[str], most: int = 1) -> list[str]:
    """Returns the names that are most like another one, the nearest first; maybe none."""
    return difflib.get_close_matches(str(name), list(known), n=most, cutoff=0.5)


def did_you_mean(name: object, known: Iterable[str], form: str = "{}", most: int = 1) -> str:
    """Returns a remark for the end of a clause, " (did you mean …?)"; "" if nothing is like it.

    Args:
        name: what the user wrote.
        known: the names that there are.
        form: how a name is written, with {} for it.
        most: how many to name.
    """
    found = " or ".join(form.format(one) for one in close(name, known, most))
    return f" (did you mean {found}?)" if found else ""
