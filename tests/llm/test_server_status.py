from datetime import UTC, datetime

import pytest

from dalm.llm.server_status import backoff, retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_waits_double_up_to_a_minute_and_are_spread():
    assert [backoff(tries, 0.5, 0.999999) for tries in (1, 2, 3, 4)] == pytest.approx(
        [0.5, 1, 2, 4], rel=1e-5
    )
    assert backoff(3, 0.5, 0.0) == 1.0
    assert backoff(5000, 0.5, 0.0) == 30.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 03:04:00 GMT", 0.0),
        ("Fri, 02 Jan 2026 03:04:15 -0000", 10.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after(header, NOW) == seconds
