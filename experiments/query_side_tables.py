"""Make the tables on what improves a fixed index, from the results of query_side.py.

A measure is the mean over an arm's seeds and questions. Differences from the untuned retriever are
those of MRR@10, paired by question over the seeds that both have, with the 95 % interval of a
sign-flip test over documents (`dalm.eval.significance`).
"""

import statistics

import numpy as np
from teacher_tables import Line, by_arm, firsts, reciprocal_ranks, shown_difference

KINDS = ("alone", "fused")
UNTUNED, ENCODER = "untuned", "whole encoder"


def query_side_table(domain: str) -> list[list[str]]:
    """Return the table of a domain: a row for each arm and each way to search with it."""
    shown = [f"{way}: {what}" for way in KINDS for what in ("recall@1", "MRR@10")]
    differences = ["MRR@10 − untuned, alone", "fused"]
    lines = [["", "seeds", *shown, *differences, "training, CPU s", "encoding again, CPU s"]]
    arms = by_arm(domain, "query_side")
    bm25 = [arms[UNTUNED][0]["ranks"]["BM25"]["alone"]] if UNTUNED in arms else []
    for ranks in bm25:
        figures = [f"{of(ranks).mean():.3f}" for of in (firsts, reciprocal_ranks)]
        lines.append(["BM25", "", *figures, "", "", "", "", "", ""])
    for name, found in arms.items():
        for way in found[0]["ranks"]:
            if way != "BM25":
                label = f"{name}, {way}" if name == ENCODER else name
                lines.append([label, str(len(found)), *_row(domain, arms, name, way)])
    return lines


def _row(domain: str, arms: dict[str, list[Line]], name: str, way: str) -> list[str]:
    found = arms[name]
    cells = [
        f"{statistics.fmean(of(line['ranks'][way][kind]).mean() for line in found):.3f}"
        for kind in KINDS
        for of in (firsts, reciprocal_ranks)
    ]
    for kind in KINDS:
        cells.append("" if name == UNTUNED else _difference(domain, arms, name, way, kind))
    encoding = _median(found, "encoding_cpu_seconds") if way == "new index" else "0"
    return [*cells, _median(found, "cpu_seconds"), encoding]


def _median(found: list[Line], name: str) -> str:
    return f"{statistics.median(x[name] for x in found):.0f}" if name in found[0] else ""


def _difference(domain: str, arms: dict[str, list[Line]], name: str, way: str, kind: str) -> str:
    """Return the mean difference of MRR@10 from the untuned retriever, with its interval."""
    before = {line["seed"]: line["ranks"]["old index"][kind] for line in arms[UNTUNED]}
    pairs = [
        (line["ranks"][way][kind], before[line["seed"]])
        for line in arms[name]
        if line["seed"] in before
    ]
    if not pairs:
        return ""
    each = [reciprocal_ranks(mine) - reciprocal_ranks(theirs) for mine, theirs in pairs]
    return shown_difference(domain, np.mean(each, axis=0))
