"""What runs have to tell: one on a page of its own, and several beside each other.

```python
ptkeras.report.write("runs/a")  # runs/a/report.html anew; every run ends with that
comparison = ptkeras.report.compare(["runs/a", "runs/b", "runs/c"])
print(comparison)
comparison.plot("comparison.png")
```

`python -m ptkeras.report RUN [RUN …]` does the same. Nothing here needs a backend of Keras.
"""

from __future__ import annotations

from pathlib import Path

from ptkeras._files import write_text
from ptkeras.report.comparison import Comparison, compare
from ptkeras.report.page import page
from ptkeras.report.runs import Run, read
from ptkeras.run_folder import RunFolder

__all__ = ["Comparison", "Run", "compare", "read", "write"]


def write(folder: str | Path) -> Path:
    """Writes the page of a finished run, as a whole or not at all.

    The page needs nothing but itself: no network, no script.

    Args:
        folder: the run folder, of `python -m ptkeras.train`.

    Returns:
        The file, `report.html` in the folder.

    Raises:
        ValueError: the folder holds no finished run.
    """
    path = RunFolder(folder).report
    write_text(path, page(read(folder)))
    return path
