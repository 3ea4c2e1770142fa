"""Shows one run, or several beside each other.

python -m ptkeras.report runs/a                     writes runs/a/report.html anew
python -m ptkeras.report runs/a runs/b runs/c       a table, and a plot in comparison.png
python -m ptkeras.report --plot=methods.svg runs/*  the plot there, of one run too
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ptkeras.utils.files import fault_of
from ptkeras.utils.flagging import (
    TEXT,
    Flag,
    FlagTable,
    SettingsError,
    asks_for_help,
    fail,
    is_ours,
)

_TABLE = FlagTable(
    "ptkeras.report",
    __doc__.strip().splitlines(),
    {
        "Flags": (
            Flag(
                "plot",
                "comparison.png",
                TEXT,
                "Where the plot goes, in a folder that is there; the ending says which kind: .png, "
                ".svg or .pdf.",
            ),
        ),
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: the run folders and flags; None for those of the process.

    Returns:
        The exit status: 0, or 1 where one sentence on standard error says what is wrong.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if asks_for_help(arguments):
        print(_TABLE.help_text())
        return 0
    try:
        settings, folders = _TABLE.parse_with_rest(arguments)
        if not folders:
            raise SettingsError("Name one run folder or more, such as runs/a; --help says more.")
        if len(folders) == 1 and not settings["plot"].present:
            _write(folders[0])
        else:
            _compare(folders, settings.plot)
    except SettingsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"The report cannot be written ({error}): mend that, and it can be made again.")
    except ValueError as error:
        if not is_ours(error):
            raise
        return fail(str(error))
    return 0


def _write(folder: str) -> None:
    from ptkeras import report
    from ptkeras.report import summary
    from ptkeras.runs.run_folder import RunFolder

    path = report.write(folder)
    summary.show(RunFolder(folder).read_result())
    print(f"The report is in '{path}'.")


def _compare(folders: Sequence[str], plot: str) -> None:
    from rich.console import Console

    from ptkeras import report
    from ptkeras.report.comparison import check_plot

    check_plot(plot)
    comparison = report.compare(_finished(folders))
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(comparison)
    comparison.plot(plot)
    print(f"The plot is in '{plot}'.")


def _finished(folders: Sequence[str]) -> Sequence[str]:
    """The runs that are finished; says what else there is, since runs/* has all that lies there."""
    from ptkeras.runs.run_folder import RunFolder

    runs = [f for f in folders if not fault_of(RunFolder(f).flags)]
    going_on = [f for f in runs if not RunFolder(f).finished]
    files = [f for f in folders if not fault_of(Path(f))]
    left = [folder for folder in folders if folder not in (*going_on, *files)]
    if not left:
        return folders  # which is an error
    for why, which in (("it is not finished", going_on), ("it is no folder", files)):
        for folder in which:
            print(f"Left out, since {why}: '{folder}'.", file=sys.stderr)
    return left


if __name__ == "__main__":
    sys.exit(main())
