"""What scripts that fork begin with: in_child(work) does the work in a child, and insists that it succeeds."""

from __future__ import annotations

IN_CHILD = """
import gc, os, sys, traceback

def in_child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            gc.collect()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.exit(0)  # with all that an interpreter does at its end
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
"""
