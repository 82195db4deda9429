"""Ask nothing twice: requests in, replies out, those that a journal holds and those that come."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from dalm import progress
from dalm.asking.journal import Journal
from dalm.asking.request import Ask, Reply, Request
from dalm.errors import UserError

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Request)


def ask_once(
    requests: Sequence[R], journal: Journal, ask: Ask, model: str
) -> list[tuple[R, Reply]]:
    """Ask what the journal doesn't hold, and return all replies in the order of the requests.

    Requests with the same key are one request.

    Raises:
        UserError: not one of the requests has a reply.
    """
    distinct = {request.key: request for request in requests}
    missing = [request for key, request in distinct.items() if key not in journal]
    if before := len(distinct) - len(missing):
        logger.info("journal    %d requests were answered before", before)
    failures = _ask(missing, before, journal, ask, model) if missing else Counter()
    held = [request for request in requests if request.key in journal]
    if failures:
        reason, _ = failures.most_common(1)[0]
        if not held:
            raise UserError(f"no request was answered; most often: {reason}")
        logger.warning(
            "%d of %d requests have no answer (most often: %s); the same command with "
            "--overwrite-output-dir asks them again, and nothing else",
            *(failures.total(), len(distinct), reason),
        )
    return [(request, journal.get(request.key)) for request in held]


def _ask(missing: Sequence[R], before: int, journal: Journal, ask: Ask, model: str) -> Counter[str]:
    """Ask, write each reply down, and return the reasons for which others have none."""
    failures: Counter[str] = Counter()
    began, tokens = time.perf_counter(), 0
    with progress.bar(before + len(missing), "asking", "request", initial=before) as shown:

        def answered(request: R, reply: Reply) -> None:
            nonlocal tokens
            journal.add(request, reply, model)
            tokens += reply.tokens_out
            shown.set_postfix_str(f"{tokens / (time.perf_counter() - began):.0f} tokens/s", False)
            shown.update()

        def failed(request: R, reason: str) -> None:  # noqa: ARG001
            failures[reason] += 1
            shown.update()

        ask(missing, answered, failed)
    return failures
