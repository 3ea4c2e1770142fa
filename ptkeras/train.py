"""One training run of the command line, described by flags."""

import sys

from ptkeras.cli.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
