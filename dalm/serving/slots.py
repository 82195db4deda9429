"""Let so many requests be worked on at once, let so many wait, and refuse the others."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dalm.serving.api_errors import ApiError


class Slots:
    """Places for requests that are worked on; those that wait are served in their order."""

    def __init__(self, places: int, waiting: int) -> None:
        self.places, self.most_waiting = places, waiting
        self.taken = self.waiting = 0
        self._free = asyncio.Semaphore(places)
        self._seconds = 1.0  # that a request takes, a moving average

    async def take(self) -> None:
        """Take a place, once one is free; `give_back` has to follow.

        Raises:
            ApiError: 429 with Retry-After if as many wait as may.
        """
        if self._free.locked() and self.waiting >= self.most_waiting:
            raise self._busy()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.taken += 1

    def give_back(self, seconds: float) -> None:
        """Give a place back that was held for so long."""
        self.taken -= 1
        self._free.release()
        self._seconds += 0.2 * (seconds - self._seconds)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a place for the block. Raises as `take` does."""
        await self.take()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.give_back(time.perf_counter() - start)

    def _busy(self) -> ApiError:
        wait = max(1, math.ceil(self._seconds * (self.waiting + 1) / self.places))
        return ApiError(
            429,
            f"{self.taken} requests are being answered and {self.waiting} wait; try again later",
            code="server_busy",
            headers={"Retry-After": str(wait)},
        )
