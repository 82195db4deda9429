"""Progress on the terminal for whatever takes more than a moment."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def bar(total: int, what: str, unit: str = "it", *, initial: int = 0, delay: float = 0.0) -> Any:
    """Return a bar with the time left; in a log file it writes a line now and then instead."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=what,
        unit=unit,
        delay=delay,
        dynamic_ncols=not quiet,
        mininterval=15.0 if quiet else 0.2,
        maxinterval=15.0,
        smoothing=0.1,
        unit_scale=unit == "B",  # bytes are shown as kB, MB or GB
    )


def track(items: Iterable[T], total: int, what: str, unit: str = "it") -> Iterator[T]:
    """Pass `items` through and show a bar once they have taken two seconds."""
    with bar(total, what, unit, delay=2.0) as shown:
        for item in items:
            yield item
            shown.update()
