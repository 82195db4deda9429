"""Systems' results in; the data of the page's table of questions out."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dalm.eval.comparison import aligned, changes, is_bound, lower_is_better, spoken
from dalm.eval.results import Results
from dalm.records import JudgedQuery, Passage

SHOWN_HITS = 5
"""Hits of a question that the page shows, beside the relevant ones further down."""
LONGEST_TEXT = 2_000
"""Characters of a passage; the rest is in the run's folder."""
MOST_TEXT = 16_000_000
"""Characters of all passages; questions that changed most come first."""


def table_data(systems: Sequence[Results], baseline: Results | None) -> dict[str, Any]:
    """Return what the table needs, the baseline's columns first, all in the first system's order.

    Passages stand once each. When `MOST_TEXT` is spent, those of the questions that changed least
    are left out; the page says so.
    """
    first = systems[0]
    everybody = [*([baseline] if baseline else []), *systems]
    orders = [aligned(first, results) for results in everybody]
    shown = [_hits(results, order) for results, order in zip(everybody, orders, strict=True)]
    names = [name for name in first.measures if not is_bound(name)]
    return {
        "baseline": baseline is not None,
        "measures": {
            name: {"words": spoken(name), "lower": lower_is_better(name)} for name in names
        },
        "queries": [_query(query) for query in first.queries],
        "systems": [
            _system(results, order, names) | {"hits": hits}
            for results, order, hits in zip(everybody, orders, shown, strict=True)
        ],
        "passages": _passages(everybody, _wanted(first, shown, _by_interest(first, baseline))),
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
        "ranks": [results.rank(place) for place in order],
        "measures": {
            name: [_short(column[place]) for place in order] for name, column in columns.items()
        },
        "answers": {
            read: [texts[place] for place in order] for read, texts in results.answers.items()
        },
        "verdicts": _verdicts(results),
    }


def _verdicts(results: Results) -> dict[str, list[list[Any]]]:
    """Return by query what a judge said: what was asked, the value, both orders' words, reason."""
    said: dict[str, list[list[Any]]] = {}
    for verdict in results.verdicts:
        orders = [verdict[order] for order in ("first", "swapped") if verdict[order]]
        words = " / ".join(order["word"] for order in orders)
        reason = orders[0]["reason"] if orders else ""
        line = [verdict["asked"], _short(verdict["value"]), words, reason]
        said.setdefault(verdict["query"], []).append(line)
    return said


def as_script(data: Mapping[str, Any]) -> Markup:
    """Return data as JSON that may stand inside a script element: no tag can begin in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _hits(results: Results, order: Sequence[int]) -> list[list[list[Any]]]:
    """Return each query's hits as [rank, passage, score]: the first ones, and the relevant ones."""
    shown = []
    for place in order:
        relevant = set(results.queries[place].gold)
        ranking = enumerate(results.rankings[place], start=1)
        shown.append(
            [
                [rank, hit.passage.id, float(f"{hit.score:.6g}")]
                for rank, hit in ranking
                if rank <= SHOWN_HITS or hit.passage.id in relevant
            ]
        )
    return shown


def _by_interest(first: Results, baseline: Results | None) -> list[int]:
    """Return the queries' places: what changed most by the first measure first, else the worst."""
    name = next(iter(first.measures), None)
    moved: dict[int, float] = {}
    if name and baseline and name in baseline.measures:
        moved = {place: -abs(gain) for place, gain in changes(first, baseline, name)}
    elif name:
        sign = -1 if lower_is_better(name) else 1
        column = enumerate(first.measures[name])
        moved = {place: sign * value for place, value in column if value is not None}
    return sorted(range(len(first.queries)), key=lambda place: moved.get(place, 0.0))


def _wanted(
    first: Results, shown: Sequence[Sequence[Sequence[Sequence[Any]]]], order: Sequence[int]
) -> Iterator[str]:
    for place in order:
        for hits in shown:
            yield from (name for _, name, _ in hits[place])
        yield from first.queries[place].gold


def _passages(everybody: Sequence[Results], wanted: Iterable[str]) -> dict[str, list[str]]:
    """Return title and text of the wanted passages, as far as there is room."""
    texts: dict[str, Passage] = {}
    for results in everybody:
        texts |= {hit.passage.id: hit.passage for hits in results.hits for hit in hits}
        texts |= results.gold
    found: dict[str, list[str]] = {}
    room = MOST_TEXT
    for passage in (texts[name] for name in dict.fromkeys(wanted) if name in texts):
        text = passage.text[:LONGEST_TEXT] + " …" * (len(passage.text) > LONGEST_TEXT)
        room -= len(text)
        if room < 0:
            break
        if text:
            found[passage.id] = [passage.title, text]
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
