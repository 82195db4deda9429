"""How long to wait before asking again: a busy server's answer in, seconds out."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60.0  # seconds between two tries, where the server names no time


def backed_off(tries: int, first: float, chance: float) -> float:
    """Return the seconds to wait after so many failed tries: doubled each time, then spread.

    first · 2^(tries - 1), at most a minute, times ½ to 1 by `chance` in [0, 1): requests that
    failed together don't come back together.
    """
    return min(LONGEST, first * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for: a number, or a date (RFC 9110)."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        seconds = _until(header, now or datetime.now(UTC))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str, now: datetime) -> float:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now.timestamp()
