"""Several runs of the command line, and the table of what came out."""

import sys

from ptkeras.cli.sweep import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
