"""Runs the quick benchmarks, and writes the README's tables from all results.

    python -m benchmarks            # under 10 minutes on two quiet cores
    python -m benchmarks lasso_step reconfiguration

Each runs in a process of its own, as `python -m benchmarks.NAME`, whose --help says more; one that
fails is named in the end. A result that is there already stays where more was measured for it, of
the same code, on this machine and with the same settings. The others take longer, or need packages
and data of their own; the README lists them.
"""

import argparse
import os
import subprocess
import sys
import time

from benchmarks import measuring, tables

QUICK = {
    "lasso_step": ["--rounds=7", "--steps=1"],
    "reconfiguration": ["--rounds=3"],
    "pruned_step": ["--rounds=7", "--steps=2"],
    "magnitude_step": ["--rounds=5", "--steps=5", "--frequency=5"],  # each round prunes once
    "memory": ["--rounds=1", "--epochs=5", "--b7_rounds=1"],  # hardly differs between rounds
}


def main(arguments=None):
    """Returns the exit status: 0, or 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(QUICK))
    names = parser.parse_args(arguments).names or list(QUICK)
    for name in names:
        if name not in QUICK:
            parser.error(f"{name} is none of the quick ones: {', '.join(QUICK)}")
    failed = []
    for name in names:
        print(f"\n{name}", flush=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", *QUICK[name]]
        environment = os.environ | {measuring.KEEP: "1"}
        if subprocess.run(command, cwd=tables.ROOT, env=environment, check=False).returncode:
            failed.append(name)
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)
    tables.main()
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
