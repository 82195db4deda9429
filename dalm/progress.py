"""Show progress bars on the terminal, and occasional lines in a log file."""

import sys
from collections.abc import Iterable, Iterator
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
