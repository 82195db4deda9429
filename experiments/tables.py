"""Write the results into the tables of docs/experiments.md: `python tables.py`."""

import re
import statistics
from collections import defaultdict
from typing import Any

from common import HERE, over_seeds, results

PAGE = HERE.parent / "docs" / "experiments.md"
MEASURES = {
    "R@1": "recall@1",
    "R@5": "recall@5",
    "R@20": "recall@20",
    "RR@10": "MRR@10",
    "EM found": "EM",
    "F1 found": "F1",
    "EM gold": "EM gold",
    "NLL found": "NLL",
    "NLL gold": "NLL gold",
    "gap": "gap",
}
RETRIEVAL = ("R@1", "R@5", "R@20", "RR@10")
LEFT_OUT = {"pretraining": RETRIEVAL}
"""Measures that are the same in each of an experiment's arms."""
BITS = ("before", "best")


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- table (\w+) -->", page):
        pattern = rf"(<!-- table {name} -->\n).*?(<!-- end -->)"
        text = bits(name) if name.endswith("_bits") else table(name)
        page = re.sub(pattern, lambda m, text=text: m[1] + text + m[2], page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


def table(experiment: str) -> str:
    """Return a Markdown table: a row for each arm, mean and 95 % interval over its seeds."""
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results(experiment):
        arms[result["name"]].append(result)
    shown = {k: v for k, v in MEASURES.items() if k not in LEFT_OUT.get(experiment, ())}
    lines = [["", "seeds", *shown.values(), "Mtokens", "s", "MB"]]
    for name, found in arms.items():
        cells = [over_seeds([each[measure] for each in found]) for measure in shown]
        lines.append([name, str(len(found)), *cells, *_costs(found)])
    return _markdown(lines)


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
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> str:
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def _costs(found: list[dict[str, Any]]) -> list[str]:
    if "seconds" not in found[0]:
        return ["", "", ""]
    median = {k: statistics.median(e[k] for e in found) for k in ("prompt_tokens", "seconds", "mb")}
    tokens = f"{median['prompt_tokens'] / 1e6:.2f}" if median["prompt_tokens"] else ""
    return [tokens, f"{median['seconds']:.0f}", f"{median['mb']:.0f}"]


if __name__ == "__main__":
    main()
