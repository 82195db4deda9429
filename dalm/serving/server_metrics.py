"""Count requests, seconds and tokens for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dalm.serving.slots import Slots


class Metrics:
    """What /metrics shows."""

    def __init__(self, slots: Slots) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dalm_requests",
            "Requests",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "dalm_request_seconds", "Seconds of a request", ["path"], registry=self.registry
        )
        self.stages = Histogram(
            "dalm_stage_seconds",
            "Seconds of a stage",
            ["stage"],
            registry=self.registry,
        )
        self.tokens = Counter("dalm_generated_tokens", "Tokens generated", registry=self.registry)
        for name, text, count in (
            ("dalm_running_answers", "Questions being answered", lambda: slots.taken),
            ("dalm_waiting_answers", "Questions that wait", lambda: slots.waiting),
        ):
            Gauge(name, text, registry=self.registry).set_function(count)
