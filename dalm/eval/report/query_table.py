"""Collect the data of the report's table of questions."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dalm.eval.comparison import aligned, changes
from dalm.eval.metrics import BOUNDS, FOUND, higher_is_better, is_variant, label, metric_of
from dalm.eval.results import Results
from dalm.records import Hit, JudgedQuery, Passage

SHOWN_HITS = 5
"""Hits per question in the report, besides the relevant ones further down."""
LONGEST_TEXT = 2_000
"""Maximum characters of a passage; passages.jsonl in the run's folder has the rest."""
MOST_TEXT = 16_000_000
"""Maximum characters of a page's passages; those of the questions that changed most come first."""


def table_data(
    systems: Sequence[Results], baseline: Results | None, room: int = MOST_TEXT
) -> dict[str, Any]:
    """Return what the table needs, the baseline's columns first, in the first system's order.

    Each passage is included once. Beyond `room` characters those of the questions that changed
    least are left out; the report says so.
    """
    first = systems[0]
    all_systems = [*([baseline] if baseline else []), *systems]
    names = [name for name in first.measures if not is_variant(name)]
    data = [_system(results, aligned(first, results), names) for results in all_systems]
    return {
        "baseline": baseline is not None,
        "contexts": {"found": FOUND, **BOUNDS},
        "measures": {name: _measure(name) for name in names},
        "queries": [_query(query) for query in first.queries],
        "systems": data,
        "passages": _passages(all_systems, _wanted(first, data, _by_change(first, baseline)), room),
    }


def _measure(name: str) -> dict[str, Any]:
    metric = metric_of(name)
    return {
        "label": label(name),
        "higher_is_better": higher_is_better(name),
        "failures": metric.failures if metric else "",
    }


def _query(query: JudgedQuery) -> dict[str, Any]:
    return {
        "id": query.id,
        "text": query.query,
        "group": query.group if query.group != query.id else "",
        "relevant": dict(query.relevant),
        "references": list(query.references),
        "answerable": query.answerable,
    }


def _system(results: Results, order: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    columns = {name: results.measures[name] for name in names if name in results.measures}
    return {
        "name": results.name,
        "ranks": [results.rank(i) for i in order],
        "measures": {
            name: [_rounded(column[i]) for i in order] for name, column in columns.items()
        },
        "answers": {read: [texts[i] for i in order] for read, texts in results.answers.items()},
        "verdicts": _verdicts(results),
        "hits": [_hits(results.rankings[i], results.queries[i]) for i in order],
        "reranked": [_hits(results.reranked[i], results.queries[i]) for i in order]
        if results.reranked
        else [],
    }


def _verdicts(results: Results) -> dict[str, list[list[Any]]]:
    """Return each query's verdicts: what was judged, the value, both orders' words, the reason."""
    found: dict[str, list[list[Any]]] = {}
    for verdict in results.verdicts:
        orders = [verdict[order] for order in ("first", "swapped") if verdict[order]]
        words = " / ".join(order["word"] for order in orders)
        reason = orders[0]["reason"] if orders else ""
        row = [verdict["asked"], _rounded(verdict["value"]), words, reason]
        found.setdefault(verdict["query"], []).append(row)
    return found


def _hits(ranking: Sequence[Hit], query: JudgedQuery) -> list[list[Any]]:
    """Return a query's hits as [rank, passage, score]: the first ones, and the relevant ones."""
    relevant = set(query.gold)
    return [
        [rank, hit.passage.id, float(f"{hit.score:.3g}")]
        for rank, hit in enumerate(ranking, start=1)
        if rank <= SHOWN_HITS or hit.passage.id in relevant
    ]


def _by_change(first: Results, baseline: Results | None) -> list[int]:
    """Order the queries by how much the first measure changed; without a baseline, worst first."""
    name = next(iter(first.measures), None)
    keys: dict[int, float] = {}
    if name and baseline and name in baseline.measures:
        keys = {i: -abs(gain) for i, gain in changes(first, baseline, name)}
    elif name:
        sign = 1 if higher_is_better(name) else -1
        column = enumerate(first.measures[name])
        keys = {i: sign * value for i, value in column if value is not None}
    return sorted(range(len(first.queries)), key=lambda i: keys.get(i, 0.0))


def _wanted(
    first: Results, systems: Sequence[Mapping[str, Any]], order: Sequence[int]
) -> Iterator[str]:
    """Yield the ids of the passages shown with each question, in this order of the questions."""
    for i in order:
        for system in systems:
            for hits in (system["hits"], system["reranked"] or system["hits"]):
                yield from (name for _, name, _ in hits[i])
        yield from first.queries[i].gold


def _passages(systems: Sequence[Results], wanted: Iterable[str], room: int) -> dict[str, list[Any]]:
    """Return title, text, source and page of the wanted passages, as far as there is room."""
    known: dict[str, Passage] = {}
    for results in systems:
        known |= results.passages
    found: dict[str, list[Any]] = {}
    for passage in (known[name] for name in dict.fromkeys(wanted) if name in known):
        text = passage.text[:LONGEST_TEXT] + " …" * (len(passage.text) > LONGEST_TEXT)
        room -= len(text)
        if room < 0:
            break
        if text:
            found[passage.id] = [passage.title, text, passage.source, passage.page]
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def as_script(data: object) -> Markup:
    """Return data as JSON that is safe inside a script element: no tag can begin in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
