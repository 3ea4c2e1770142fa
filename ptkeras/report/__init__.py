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

import os
from pathlib import Path

from ptkeras.report.comparison import Comparison, compare
from ptkeras.report.page import END, page
from ptkeras.report.runs import Run, check_result, read
from ptkeras.runs.run_folder import RunFolder
from ptkeras.utils.files import fault_of, read_text, write_text

__all__ = ["Comparison", "Run", "check_result", "compare", "is_whole", "read", "write"]


def write(folder: str | Path) -> Path:
    """Writes the page of a finished run, as a whole or not at all.

    The page needs nothing but itself: no network, no script.

    Args:
        folder: the run folder, of `python -m ptkeras.train`.

    Returns:
        The file, `report.html` in the folder.

    Raises:
        ValueError: the folder holds no finished run, or one that is damaged; or something else
            than a file is in the place of the page.
    """
    path = RunFolder(folder).report
    text = page(read(folder))
    if os.path.lexists(path) and (fault := fault_of(path)):
        raise ValueError(f"'{path}' {fault}: move it away, and the report can be written.")
    write_text(path, text)
    return path


def is_whole(folder: str | Path) -> bool:
    """Says whether the page of a run is there, to its end."""
    try:
        return read_text(RunFolder(folder).report).endswith(END)
    except ValueError:
        return False
