"""Prepare one section of the page: cards, tables, sentences and charts of its systems."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dalm.eval.comparison import MeasureResult
from dalm.eval.judge.verdicts import judge_summary
from dalm.eval.metrics import BOUNDS, FOUND, is_variant, metric_of
from dalm.eval.report import charts, query_table
from dalm.eval.report.sections import Section
from dalm.eval.results import Results
from dalm.eval.sentences import sentence
from dalm.eval.summary import by_context, by_stage, context_units, interval_units
from dalm.eval.verdict import LATER

ANSWERS = "F1"
"""The measure of answers in the overview of several sections."""


def section_context(section: Section, room: int) -> dict[str, Any]:
    """Return what the template needs of a section; `room` is for its passages, in characters."""
    data = query_table.table_data(section.systems, section.baseline, room)
    notes = section.findings or [()] * len(section.systems)
    rows = zip(section.systems, section.measures, notes, strict=True)
    return {
        "name": section.name,
        "facts": section.systems[0].facts,
        "queries": section.systems[0].queries,
        "legend": [(charts.colour(index), each.name) for index, each in section.all_systems],
        "baseline": section.baseline,
        "compared": [{**_compared(each, found), "findings": said} for each, found, said in rows],
        "charts": _charts(section.all_systems),
        "textless": _textless(data),
        "data": data,
    }


def overview(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return a row for the first measure of retrieval, and F1 of answers, of each section.

    A row also has the same measure in the later stages of the search.
    """
    rows: list[dict[str, Any]] = []
    for section in sections:
        known = {each.measure: each for each in section.measures[0] if each.against}
        plain = [name for name in known if not is_variant(name)]
        for name in dict.fromkeys([*plain[:1], *(each for each in plain if each == ANSWERS)]):
            later = {words: known.get(f"{name}[{stage}]") for stage, words in LATER.items()}
            rows.append({"section": section.name, "result": known[name], "later": later})
    measured = [words for words in LATER.values() if any(row["later"][words] for row in rows)]
    return [row | {"later": {words: row["later"][words] for words in measured}} for row in rows]


def _compared(results: Results, measures: Sequence[MeasureResult]) -> dict[str, Any]:
    """Return one system's part of a section: headlines, table, sentences, answers by context."""
    plain = [each for each in measures if not is_variant(each.measure)]
    headlines = [*plain[:2], *(each for each in plain[2:] if _is_headline(each.measure))]
    ends, rows = charts.axis_ends(plain), by_context(measures)
    return {
        "name": results.name,
        "headlines": headlines if len(headlines) > 2 else plain[:4],
        "rows": [(each, charts.interval_chart(each, ends[each.measure])) for each in plain],
        "sentences": [sentence(each) for each in plain if each.against],
        "judge": list(judge_summary(results.facts.get("judge"))),
        "stages": _stages(measures),
        "by_context": rows,
        "context_units": context_units(rows) if rows else "",
        "contexts": [FOUND, *BOUNDS.values()],
        "units": interval_units(measures),
    }


def _stages(measures: Sequence[MeasureResult]) -> dict[str, Any]:
    """Return the table of the stages of the search, with a bar of each row's first measure."""
    names, rows = by_stage(measures)
    bars = [charts.value_chart(row.values[0], int(row.evaluated)) for row in rows]
    return {"names": names, "rows": list(zip(rows, bars, strict=True))}


def _is_headline(measure: str) -> bool:
    metric = metric_of(measure)
    return metric is not None and metric.headline


def _charts(systems: Sequence[tuple[int, Results]]) -> dict[str, Markup]:
    depth = charts.depth_of([results for _, results in systems])
    curves = [
        (index, charts.recall_over_k(results, depth, with_band=index == 1))
        for index, results in systems
    ]
    if not depth or not curves[0][1].xs:
        return {}
    fractions = [(index, charts.rank_fractions(results, depth)) for index, results in systems]
    return {
        "Recall over k": charts.recall_chart(curves),
        "Rank of the first relevant passage": charts.rank_chart(fractions, depth),
    }


def _textless(data: dict[str, Any]) -> bool:
    """Return whether the texts of some passages were left out to limit the page's size."""
    named = {name for system in data["systems"] for hits in system["hits"] for _, name, _ in hits}
    return bool(data["passages"]) and not named <= data["passages"].keys()
