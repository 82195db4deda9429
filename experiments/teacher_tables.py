"""Make the tables on what teaches a retriever, from the results of retriever_teachers.py.

A measure of an arm is the mean over its seeds and questions. Differences from answer match are
paired by question over the seeds that both have, and their 95 % intervals are those of a sign-flip
test over documents (`dalm.eval.significance`).
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from common import results
from domains import STRATA

Line = dict[str, Any]
Values = np.ndarray[Any, np.dtype[np.float64]]
UNTUNED, BAR, CEILING = "untuned", "answer match → contrast", "gold → contrast"
DECISIVE = (
    UNTUNED,
    "BM25's first → contrast",
    BAR,
    "answer match → listwise",
    "reader → contrast",
    "reader → listwise",
    "reader → listwise and contrast",
    "joint, rag_sequence, generator frozen",
    CEILING,
    "gold → listwise",
)
BEST = 10
"""Ranks that MRR@10 counts."""


def reciprocal_ranks(ranks: Sequence[int]) -> Values:
    return np.array([1 / rank if 0 < rank <= BEST else 0.0 for rank in ranks])


def firsts(ranks: Sequence[int]) -> Values:
    return np.array([float(rank == 1) for rank in ranks])


def by_arm(domain: str, experiment: str = "teachers") -> dict[str, list[Line]]:
    """Return the results of a domain's arms, in the order in which they were first run."""
    arms: dict[str, list[Line]] = defaultdict(list)
    for line in results(experiment):
        name, _, arm = line["name"].partition(": ")
        if name == domain:
            arms[arm].append(line)
    return arms


def values(
    lines: Sequence[Line], way: str, measure: Callable[[Sequence[int]], Values] = reciprocal_ranks
) -> Values:
    """Return a measure of each question, the mean over seeds; `fused` behind a reranker, if any."""
    ranks = [line["ranks"] for line in lines]
    chosen = [each.get("reranked", each[way]) if way == "fused" else each[way] for each in ranks]
    found: Values = np.mean([measure(each) for each in chosen], axis=0)
    return found


def arms_table(domain: str) -> list[list[str]]:
    """Return the table of a domain's arms."""
    ways = ("alone", "fused")
    shown = [f"{way}: {what}" for way in ways for what in ("recall@1", "MRR@10", "− answer match")]
    lines = [["", "seeds", *shown, "of gold's gain, alone", "fused", "CPU s", "MB"]]
    arms = by_arm(domain)
    if UNTUNED in arms:
        for name in ("BM25", "RRF"):
            lines.append([name, "", *_figures(arms[UNTUNED], name), "", "", "", "", "", "", "", ""])
    for name, found in arms.items():
        cells: list[str] = []
        for way in ways:
            cells += [*_figures(found, way), _difference(domain, arms, name, way)]
        shares = [_share(arms, name, way) for way in ways]
        lines.append([name, str(len(found)), *cells, *shares, *_costs(found)])
    return lines


def _figures(lines: Sequence[Line], way: str) -> list[str]:
    return [f"{values(lines, way, each).mean():.3f}" for each in (firsts, reciprocal_ranks)]


def _difference(domain: str, arms: dict[str, list[Line]], name: str, way: str) -> str:
    """Return the mean difference of MRR@10 from answer match, with its interval."""
    if name == BAR or BAR not in arms:
        return ""
    pair = _same_seeds(arms[name], arms[BAR])
    if pair is None:
        return ""
    mine, theirs = (values(each, way) for each in pair)
    return shown_difference(domain, mine - theirs)


def shown_difference(domain: str, differences: Values) -> str:
    """Return the mean of the questions' differences, with its interval over documents."""
    from dalm.eval.significance import sign_flip_tests

    documents = next(x["documents"] for x in results("teacher_domains") if x["name"] == domain)
    (test,) = sign_flip_tests([differences], documents, seed=0)
    if test.interval is None:
        return f"{differences.mean():+.3f}"
    low, high = test.interval
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def _same_seeds(
    ours: Sequence[Line], others: Sequence[Line]
) -> tuple[list[Line], list[Line]] | None:
    seeds = {line["seed"] for line in ours} & {line["seed"] for line in others}
    if not seeds:
        return None
    mine, theirs = ([x for x in lines if x["seed"] in seeds] for lines in (ours, others))
    return mine, theirs


def _share(arms: dict[str, list[Line]], name: str, way: str) -> str:
    """Return the share of the gain of gold labels that an arm has, in MRR@10."""
    if name in (UNTUNED, CEILING) or not {UNTUNED, CEILING} <= set(arms):
        return ""
    seeds = {x["seed"] for x in arms[name]} & {x["seed"] for x in arms[CEILING]}
    seeds &= {x["seed"] for x in arms[UNTUNED]}
    if not seeds:
        return ""
    start, mine, ceiling = (
        values([x for x in arms[each] if x["seed"] in seeds], way).mean()
        for each in (UNTUNED, name, CEILING)
    )
    return (
        f"{(mine - start) / (ceiling - start):.0%}" if ceiling > start else "(gold gains nothing)"
    )


def _costs(lines: Sequence[Line]) -> list[str]:
    if "cpu_seconds" not in lines[0]:
        return ["", ""]
    return [f"{statistics.median(x[key] for x in lines):.0f}" for key in ("cpu_seconds", "mb")]


def summary_table() -> list[list[str]]:
    """Return MRR@10 of the decisive arms in every domain, alone / fused with BM25."""
    shown = _run()
    lines = [["MRR@10, alone / fused", "seeds", "BM25", *shown]]
    for domain in [line["name"] for line in results("teacher_domains")]:
        arms = by_arm(domain)
        if not arms:
            continue
        ways = [_mean(arms, UNTUNED, "BM25")]
        for name in shown:
            ways.append(f"{_mean(arms, name, 'alone')} / {_mean(arms, name, 'fused')}")
        seeds = sorted({len(arms[name]) for name in shown if name in arms})
        count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        lines.append([domain, count, *ways])
    return lines


def _run() -> list[str]:
    """Return the decisive arms that have a result in any domain."""
    run = {line["name"].partition(": ")[2] for line in results("teachers")}
    return [name for name in DECISIVE if name in run]


def _mean(arms: dict[str, list[Line]], name: str, way: str) -> str:
    return f"{values(arms[name], way).mean():.3f}" if name in arms else "–"


def strata_table() -> list[list[str]]:
    """Return MRR@10 alone by where a test question's answer stands."""
    shown = _run()
    lines = [["MRR@10, alone", "answer stands", "questions", *shown]]
    for found in results("teacher_domains"):
        arms = by_arm(found["name"])
        for stratum in STRATA:
            rows = np.array([each == stratum for each in found["strata"]])
            if not rows.any() or not arms:
                continue
            cells = [
                f"{values(arms[name], 'alone')[rows].mean():.3f}" if name in arms else "–"
                for name in shown
            ]
            lines.append([found["name"], stratum, str(rows.sum()), *cells])
    return lines


def labels_table() -> list[list[str]]:
    """Return how many of the training questions the labels reach, and how many are right."""
    shown = ["labelled", "label is gold", "best candidate is gold", "gold within K"]
    lines = [["", "seed", "answer stands", "questions", *shown, "Mtokens", "CPU s", "MB"]]
    for found in results("teacher_labels"):
        everywhere = found["labels"]["all"]["questions"]
        for stratum, count in found["labels"].items():
            if stratum != "all" and count["questions"] in (0, everywhere):
                continue
            of_all = [count[key] / count["questions"] for key in ("labelled", "best", "within")]
            right = count["right"] / count["labelled"] if count["labelled"] else 0.0
            cells = [f"{each:.3f}" for each in (of_all[0], right, *of_all[1:])]
            first = stratum == "all"
            costs = [f"{found['prompt_tokens'] / 1e6:.2f}" if found["prompt_tokens"] else ""]
            costs += [f"{found['cpu_seconds']:.0f}", f"{found['mb']:.0f}"]
            name, seed = (found["name"], str(found["seed"])) if first else ("", "")
            where = "" if first else stratum
            lines.append(
                [name, seed, where, f"{count['questions']:.0f}", *cells]
                + (costs if first else ["", "", ""])
            )
    return lines


def reading_table() -> list[list[str]]:
    """Return the nats per token of answers by what SmolLM2 has read."""
    kinds = ("gold", "found", "random", "none")
    lines = [["", "prompt", "questions", *kinds, "gold is best of 6", "s"]]
    for found in results("reading_check"):
        cells = [f"{found[kind]:.2f}" for kind in kinds]
        best, seconds = f"{found['gold is best']:.2f}", f"{found['seconds']:.0f}"
        lines.append([found["data"], found["name"], str(found["questions"]), *cells, best, seconds])
    return lines
