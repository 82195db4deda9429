"""A pool in this process through which everything goes as it would to another machine."""

import pickle
from collections.abc import Generator, Iterable
from typing import Any

from dalm.scaling.pool import Worker


class Pickling:
    """Pickle what makes the work, the items and what comes back."""

    def map(self, make: Any, items: Iterable[Any]) -> Generator[Any]:
        """Yield the results."""
        worker: Worker[Any, Any] = Worker(pickle.loads(pickle.dumps(make)))
        for item in items:
            outcome = worker(pickle.loads(pickle.dumps(item)))
            yield pickle.loads(pickle.dumps(outcome)).take()
