"""Run the Python of docs/elsewhere.md on an exported retriever, and compare the vectors.

Run it where the frameworks are installed, in a folder that has `served/retriever`; each snippet
sets `query` and `passages`, which must be what sentence-transformers gives.
"""

import re
import sys
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "elsewhere.md"


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


def difference(code: str, expected: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the largest difference of a snippet's vectors."""
    found: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), found)
    pairs = zip((found["query"], found["passages"]), expected, strict=True)
    return max(float(np.abs(np.array(ours) - theirs).max()) for ours, theirs in pairs)


def main() -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer("served/retriever")
    query = model.encode_query("Where does Ada live?")
    passages = model.encode_document(["Ada lives in Ulm.", "Bela keeps two cats."])
    worst = 0.0
    for code in snippets():
        imported = next(line for line in code.splitlines() if line.startswith("from "))
        try:
            worst = max(worst, found := difference(code, (query, passages)))
        except ModuleNotFoundError as error:
            print(f"{imported}: not run, {error.name} isn't installed")
            continue
        print(f"{imported}: vectors differ by {found:.1e}")
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main()
