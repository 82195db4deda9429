"""Define the errors of a server: busy, unreachable, refusing, without quota or answer."""

from dalm.llm.language_model import ModelError


class BusyError(ModelError):
    """No reply this time: try again, after `wait` seconds if the server named a time.

    `most` bounds the retries of what seldom passes, below the endpoint's `max_retries`.
    """

    def __init__(self, reason: str, wait: float | None = None, most: int | None = None) -> None:
        super().__init__(reason)
        self.wait, self.most = wait, most


class TimedOutError(BusyError):
    """No reply within the time limit."""


class UnreachableError(BusyError):
    """Nothing at the address speaks the protocol.

    Before a first reply that is the address, and nothing to wait for; later, a server that
    restarts. `remedy` says what to change; `{url}` in it stands for the option with the address.
    """

    def __init__(self, reason: str, remedy: str = "check {url}", most: int = 2) -> None:
        super().__init__(reason, None, most)
        self.remedy = remedy


class RefusedError(ModelError):
    """The server rejects this request, now and later; others may succeed."""


class TruncatedError(ModelError):
    """The reply ends before its answer: at the limit that was set, or at one of the server's."""

    def __init__(self, limit: int | None, *, thinking: bool) -> None:
        self.limit, self.thinking = limit, thinking
        place = "at a limit of the server's" if limit is None else f"at {limit:,} tokens"
        thought = ", while the model was still reasoning" if thinking else ""
        super().__init__(f"the reply was cut off {place}{thought}")


class NoAnswerError(ModelError):
    """The reply holds no answer: a refusal, a filter, a tool call, or nothing."""


class ServerError(ModelError):
    """No request to this server will succeed."""


class StatusError(ServerError):
    """The server rejects every request with the same status code, such as 401 or 404."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.status = status


class QuotaError(ServerError):
    """The account behind the key has no credit left."""


class NoServerError(ServerError):
    """There was never a reply from the address."""

    def __init__(self, url: str, last: UnreachableError) -> None:
        self.remedy = last.remedy
        super().__init__(f"{url}: {last}")


class UnavailableError(ServerError):
    """So many requests in a row failed that it is the server and not the request."""

    def __init__(self, url: str, failures: int, last: ModelError) -> None:
        self.url, self.failures, self.last = url, failures, last
        super().__init__(self.described(str(last)))

    def described(self, last: str) -> str:
        """Return the message with another text for the last failure."""
        failed = f"{self.url} failed {self.failures} times in a row"
        if isinstance(self.last, TruncatedError | NoAnswerError):
            failed = f"{self.url} gave no answer to {self.failures} requests in a row"
        return f"{failed}, most recently: {last}"
