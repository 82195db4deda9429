"""Small results for the tests of what is done with them."""

from dalm.eval.results import Results
from dalm.records import Hit, JudgedQuery, Passage

GOLD, OTHER = Passage("g", "gold “text”"), Passage("o", "other", "title")
HITS = (Hit(OTHER, 0.75), Hit(GOLD, 0.5))


def results(name="tuned", values=(1.0, 0.0, 1.0, 0.5), groups=("a", "a", "b", "c"), **fields):
    queries = [
        JudgedQuery(
            id=f"q{i}",
            query=f"question {i}",
            relevant={"g": 1},
            references=("e", "é"),
            group=group,
        )
        for i, group in enumerate(groups)
    ]
    measures = {"R@10": list(values), "nDCG@10": [v and v / 2 for v in values]}
    given = {
        "name": name,
        "queries": queries,
        "hits": [HITS] * len(queries),
        "measures": measures,
        "answers": {"found": ["é"] * len(queries)},
        "gold": {"g": GOLD},
    }
    return Results(**given | fields)


TUNED, BASE = results(), results("base", (0.0, 0.0, 0.5, 0.5))
