"""Lets ``python -m dbpool`` run the command line."""

import sys

from dbpool.cli import main

if __name__ == "__main__":
    sys.exit(main())
