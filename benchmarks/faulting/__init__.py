"""The probes of faults.py; the servers and the interrupts that they need are the tests' own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
