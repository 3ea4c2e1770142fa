"""The letters of an einsum, spelled out."""

from __future__ import annotations

import string


def spell(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Returns the letters of the operands and of the result of an einsum.

    Any `...` becomes letters that the equation does not have, and a result that is left out the
    letters that stand once, in the order of the alphabet.

    Args:
        equation: such as "...ij,jk->...ik".
        ranks: how many axes each operand has.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    spare = [c for c in string.ascii_letters if c not in equation]
    most = max([r - len(p) + 3 for p, r in zip(parts, ranks, strict=False) if "..." in p] or [0])
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        right = "..." * ("..." in left) + "".join(
            sorted(c for c in set(letters) if letters.count(c) == 1)
        )

    def full(part: str, rank: int) -> str:
        if "..." not in part:
            return part
        count = rank - len(part) + 3
        return part.replace("...", "".join(spare[most - count : most]))

    out = full(right, len(right) - 3 + most)
    return [full(p, r) for p, r in zip(parts, ranks, strict=False)], out
