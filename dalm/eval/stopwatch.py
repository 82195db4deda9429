"""Where an evaluation's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Add up seconds and what was done in them, stage by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._done: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside to the stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def count(self, name: str, done: int) -> None:
        """Say how many things a stage has worked through."""
        self._done[name] = self._done.get(name, 0) + done

    @property
    def speed(self) -> dict[str, float]:
        """Things per second of each stage that counts something."""
        return {
            name: done / self.seconds[name]
            for name, done in self._done.items()
            if self.seconds.get(name)
        }

    def __str__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        shares = (f"{name} {s:.1f} s ({s / total:.0%})" for name, s in self.seconds.items())
        return ", ".join(shares)
