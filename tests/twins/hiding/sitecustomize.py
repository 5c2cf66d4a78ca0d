"""On PYTHONPATH of a test's process: the packages in DBPOOL_TEST_HIDE are not found there, as if not installed."""

import os
import sys

HIDDEN = os.environ.get("DBPOOL_TEST_HIDE", "").split(",")


class Hiding:
    """A finder of modules that does not find some of them."""

    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)


sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
