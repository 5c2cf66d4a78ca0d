"""Stands for _thread.start_new_thread: coverage sees the threads that it starts, and it can refuse to start any."""

from __future__ import annotations

import threading
from typing import Any, Callable


class Starter:
    """Remembers the threads that it started; while *refuses* is set it starts none."""

    def __init__(self, refuses: bool = False) -> None:
        self.started: list[threading.Thread] = []
        self.refuses = refuses

    def __call__(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.refuses:
            raise RuntimeError("can't start new thread")
        thread = threading.Thread(target=work, args=args, daemon=True)
        self.started.append(thread)
        thread.start()

    @property
    def alive(self) -> list[threading.Thread]:
        return [thread for thread in self.started if thread.is_alive()]
