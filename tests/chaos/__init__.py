"""Chaos soak: load on a real server, a fault every few seconds, and a history that is checked: `make chaos`."""

import sys
from pathlib import Path

TESTS = str(Path(__file__).resolve().parent.parent)
if TESTS not in sys.path:  # as pytest has it: the helpers of all tests are top-level modules
    sys.path.insert(0, TESTS)
