"""Numbers as text, for tables and pages."""

from __future__ import annotations

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def large(value: float) -> str:
    """Returns a number with a prefix: 1.31 T."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.2f} {prefix}"
    return f"{value:.0f}"


def in_bytes(value: float) -> str:
    """Returns a number of bytes with a prefix: 1.31 MB."""
    return f"{large(value)}B"


def whole(value: float) -> str:
    """Returns a number without decimals: 1,234."""
    return f"{value:,.0f}"


def percent(value: float) -> str:
    """Returns a share with one decimal: 12.5%."""
    return f"{value:.1%}"


def milliseconds(value: float) -> str:
    """Returns milliseconds to the microsecond: 1.234."""
    return f"{value:.3f}"


def removed(dense: float, now: float) -> str:
    """Returns the share that has gone; nothing of nothing."""
    # Without the sign of a share that is rounded to nothing.
    return percent(round(1 - now / dense, 3) + 0.0).replace("-", "−") if dense else ""
