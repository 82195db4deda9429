"""Measure the seconds and the throughput of an evaluation's stages."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Add up seconds and processed items by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self._units: dict[str, str] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as part of the stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def count(self, name: str, done: int, unit: str) -> None:
        """Add processed items, called `unit`, to a stage."""
        self._done[name] = self._done.get(name, 0) + done
        self._units[name] = unit

    @property
    def speed(self) -> dict[str, dict[str, float]]:
        """Items per second of each stage, by unit."""
        return {
            name: {self._units[name]: done / self.seconds[name]}
            for name, done in self._done.items()
            if self.seconds.get(name)
        }

    def __str__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        parts = []
        for name, seconds in self.seconds.items():
            speeds = (
                f", {speed:,.0f} {unit}/s" for unit, speed in self.speed.get(name, {}).items()
            )
            parts.append(f"{name} {seconds:.1f} s ({seconds / total:.0%}{''.join(speeds)})")
        return ", ".join(parts)
