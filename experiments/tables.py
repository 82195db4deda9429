"""Write the results into the tables of docs/experiments.md: `python tables.py`."""

import statistics
import sys
from collections import defaultdict
from typing import Any

from common import HERE, over_seeds, results
from query_side_tables import query_side_table
from teacher_tables import arms_table, labels_table, reading_table, strata_table, summary_table

sys.path.append(str(HERE.parent / "tools"))
from page_tables import fill, markdown, tables_of

PAGE = HERE.parent / "docs" / "experiments.md"
MEASURES = {
    "R@1": "recall@1",
    "RR@10": "MRR@10",
    "EM found": "EM",
    "F1 found": "F1",
    "EM gold": "EM gold",
    "NLL found": "NLL",
    "NLL gold": "NLL gold",
    "gap": "gap",
}
SHOWN = ("R@1", "RR@10", "EM found", "EM gold", "NLL found")
OTHERS_SHOWN = {"pretraining": ("EM found", "F1 found", "EM gold", "NLL found", "NLL gold", "gap")}
"""Measures of an experiment's table, where they are others. Retrieval is the same in each of its
arms. All measures are in the results."""
BITS = ("before", "best")
OF_TEACHERS = {
    "teacher_summary": summary_table,
    "teacher_strata": strata_table,
    "teacher_labels": labels_table,
    "reading_check": reading_table,
}


def main() -> None:
    fill(PAGE, tables_of(PAGE), text_of)


def text_of(name: str) -> str:
    """Return the Markdown of a table by its name in the page."""
    if name.startswith("teachers_"):
        return markdown(arms_table(name.removeprefix("teachers_").replace("_", "-")))
    if name.startswith("query_side_"):
        return markdown(query_side_table(name.removeprefix("query_side_").replace("_", "-")))
    if name in OF_TEACHERS:
        return markdown(OF_TEACHERS[name]())
    return bits(name) if name.endswith("_bits") else table(name)


def table(experiment: str) -> str:
    """Return a Markdown table: a row for each arm, mean and 95 % interval over its seeds."""
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    baselines = results("covidqa_baselines") if experiment.startswith("covidqa") else []
    for result in [*baselines, *results(experiment)]:
        arms[result["name"]].append(result)
    shown = OTHERS_SHOWN.get(experiment, SHOWN)
    lines = [["", "seeds", *(MEASURES[each] for each in shown), "Mtokens", "s", "MB"]]
    for name, found in arms.items():
        cells = [
            over_seeds([each[measure] for each in found]) if measure in found[0] else ""
            for measure in shown
        ]
        lines.append([name, str(len(found)), *cells, *_costs(found)])
    return markdown(lines)


def bits(experiment: str) -> str:
    """Return a Markdown table of bits per byte of held-out text, and of the updates it took."""
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results(experiment):
        arms[result["name"]].append(result)
    lines = [["", "seeds", *BITS, "updates"]]
    for name, found in arms.items():
        cells = [
            over_seeds([each[when]["domain_bits_per_byte"] for each in found]) for when in BITS
        ]
        updates = statistics.median(each["last"]["step"] for each in found)
        lines.append([name, str(len(found)), *cells, f"{updates:.0f}"])
    return markdown(lines)


def _costs(found: list[dict[str, Any]]) -> list[str]:
    if "seconds" not in found[0]:
        return ["", "", ""]
    median = {k: statistics.median(e[k] for e in found) for k in ("prompt_tokens", "seconds", "mb")}
    tokens = f"{median['prompt_tokens'] / 1e6:.2f}" if median["prompt_tokens"] else ""
    return [tokens, f"{median['seconds']:.0f}", f"{median['mb']:.0f}"]


if __name__ == "__main__":
    main()
