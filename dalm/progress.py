"""Show progress bars on the terminal, and occasional lines in a log file; time a run's stages."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def bar(
    total: int, description: str, unit: str = "it", *, initial: int = 0, delay: float = 0.0
) -> Any:
    """Return a bar with the time left; in a log file it writes a line every 15 seconds."""
    from tqdm import tqdm

    to_file = not sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        delay=delay,
        dynamic_ncols=not to_file,
        mininterval=15.0 if to_file else 0.2,
        maxinterval=15.0,
        smoothing=0.1,
        unit_scale=unit == "B",  # bytes are shown as kB, MB or GB
    )


def track(items: Iterable[T], total: int, description: str, unit: str = "it") -> Iterator[T]:
    """Yield `items`, with a bar if they take more than two seconds."""
    with bar(total, description, unit, delay=2.0) as progress:
        for item in items:
            yield item
            progress.update()


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
