"""Numbers in, places on an axis and its ticks out."""

import math
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
"""A tick's distance, times a power of ten."""
HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Axis:
    """Map the values from `low` to `high` to the pixels from `start` to `end`.

    On a logarithmic axis, of values above 0, equal ratios are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return a value's pixel."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values on the axis: three to six, or 1, 2, 5, 10, 20 … on a logarithmic one."""
        span = self.high - self.low
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [step * 10.0**power for power in powers for step in STEPS[:3]]
        elif not span > 0:
            return [self.low]
        else:
            distance = _distance(span)
            first, last = math.floor(self.low / distance), math.ceil(self.high / distance)
            found = [place * distance for place in range(first, last + 1)]
        hair = HAIR * (span or 1.0)
        return [tick for tick in found if self.low - hair <= tick <= self.high + hair]


def _distance(span: float) -> float:
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(step * power for step in STEPS if step * power >= span / 5 * (1 - HAIR))


def label(tick: float) -> str:
    """Return a tick's number, as short as it can be."""
    if tick and not 1e-3 <= abs(tick) < 1e6:
        return f"{tick:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{tick:.6g}"
