"""Show progress in what a person counts, on the terminal or in a log; time a run's stages."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from dalm import display

T = TypeVar("T")

DELAY = 2.0  # seconds; what is done sooner shows nothing
WAIT = 5.0  # seconds after which a line says what is waited for
LOG_EVERY = 15.0  # seconds between lines of a log at first; later a tenth of the time so far
_open: list["Bar"] = []
"""The bars that are open, the innermost last."""


class Bar:
    """Count questions, passages or the like on a bar with the time left.

    In a log it writes a line now and then. Inside an open bar of the same unit it shows nothing of
    its own and moves that one: a stage of several batches of work has one bar. Of several processes
    the first shows what it does.
    """

    def __init__(
        self, total: int, description: str, unit: str, *, initial: int = 0, delay: float = DELAY
    ) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.initial = self.done = initial
        self.delay, self.note = delay, ""
        self._outer: Bar | None = None
        self._bar: Any = None
        self._shown, self._start = 0, time.monotonic()
        self._next_line = self._start + LOG_EVERY

    def __enter__(self) -> Self:
        self._outer = next((bar for bar in reversed(_open) if bar.unit == self.unit), None)
        _open.append(self)
        self._show(self.done)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _open.remove(self)
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int = 1) -> None:
        """Count what was done."""
        self.done += done
        self._show(self.done)

    def ahead(self, done: float) -> None:
        """Show what is done of the next update, such as a batch of which half is generated."""
        self._show(self.done + int(done))

    def _show(self, done: int) -> None:
        if self._outer is not None:
            self._outer.ahead(done - self.initial)
            return
        now = time.monotonic()
        if now - self._start < self.delay or os.environ.get("RANK", "0") != "0":
            return
        if not sys.stderr.isatty():
            self._write_line(done, now)
            return
        if self._bar is None:
            self._bar = self._on_terminal(now)
        self._bar.set_postfix_str(self.note, refresh=False)
        self._bar.update(max(0, done - self.initial - self._shown))
        self._shown = max(self._shown, done - self.initial)

    def _on_terminal(self, now: float) -> Any:
        from tqdm import tqdm

        bar = tqdm(
            total=self.total,
            initial=self.initial,
            desc=self.description,
            unit=self.unit,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} "
            "[{elapsed}<{remaining}, {rate_fmt}{postfix}]",
            leave=None,  # a bar within another disappears
            file=sys.stderr,
            **_shape(),
            mininterval=0.2,
            smoothing=0.1,
            unit_scale=self.unit == "B",  # bytes are shown as kB, MB or GB
        )
        bar.start_t = bar.last_print_t = bar._time() - (now - self._start)
        return bar

    def _write_line(self, done: int, now: float) -> None:
        """Write a line of a log: what is done, how fast, and about how long the rest takes."""
        if now < self._next_line:
            return
        seconds = now - self._start
        self._next_line = now + max(LOG_EVERY, seconds / 10)
        counts, size, unit = f"{done:,} of {self.total:,}", 1.0, self.unit
        if unit == "B":
            counts, size, unit = f"{done / 1e6:,.1f} of {self.total / 1e6:,.1f}", 1e6, "MB"
        left = ""
        if done > self.initial and self.total >= done:
            speed = (done - self.initial) / size / seconds
            left = f", {_rounded(speed)} {unit}/s"
            left += f", about {_clock((self.total - done) / size / speed)} left"
        note = f", {self.note}" if self.note else ""
        display.show_beside(f"{self.description}: {counts} {unit} in {_clock(seconds)}{left}{note}")


def _shape() -> dict[str, Any]:
    """Return tqdm's options of width and height; a terminal that says 0 would show nothing."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except (AttributeError, ValueError, OSError):
        columns = lines = 0
    return {"dynamic_ncols": True} if columns and lines else {"ncols": 80, "nrows": 24}


def _rounded(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def track(
    items: Iterable[T],
    total: int,
    description: str,
    unit: str,
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Yield `items`, with a bar of `total` units if they take more than two seconds.

    `size` is how many units an item has: that of a batch of passages is their number.
    """
    with Bar(total, description, unit) as bar:
        for item in items:
            yield item
            bar.update(size(item))


def ahead(done: float) -> None:
    """Show on the innermost bar what is done of its next update; without a bar do nothing."""
    if _open:
        _open[-1].ahead(done)


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Hide the bars of transformers and datasets for loading and saving; those of downloads stay.

    A library that isn't imported has no bars to hide.
    """
    with ExitStack() as shown_again:
        if "datasets" in sys.modules:
            _hide_bars_of_datasets(shown_again)
        if "transformers" in sys.modules:
            _hide_bars_of_transformers(shown_again)
        yield


def _hide_bars_of_datasets(shown_again: ExitStack) -> None:
    import datasets

    if datasets.is_progress_bar_enabled():
        _switch(datasets.disable_progress_bars)
        shown_again.callback(_switch, datasets.enable_progress_bars)


def _hide_bars_of_transformers(shown_again: ExitStack) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    downloads = not are_progress_bars_disabled()
    if logging.is_progress_bar_enabled():
        shown_again.callback(_switch, logging.enable_progress_bar)
    _switch(logging.disable_progress_bar)
    if downloads:  # transformers switches those of the hub, too
        _switch(enable_progress_bars)


def _switch(bars: Callable[[], None]) -> None:
    """Switch bars on or off without a library's warning that the environment decides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        bars()


@contextmanager
def waiting(description: str) -> Iterator[None]:
    """Write a line now and then for as long as the block takes, when it takes `WAIT` seconds.

    For work in a library that doesn't say how far it is.
    """
    start, over = time.monotonic(), Event()

    def write() -> None:
        seconds = WAIT
        while not over.wait(seconds):
            passed = time.monotonic() - start
            display.show_beside(f"{description}: {_clock(passed)} so far")
            seconds = max(LOG_EVERY, passed / 10)

    thread = Thread(target=write, name=description, daemon=True)
    if os.environ.get("RANK", "0") == "0":
        thread.start()
    try:
        yield
    finally:
        over.set()


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
