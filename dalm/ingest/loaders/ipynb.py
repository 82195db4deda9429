"""Load Jupyter notebooks (ipynb): Markdown cells, and code cells as fenced code."""

import json
import re
from dataclasses import replace
from typing import Any

from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.markdown import load_markdown
from dalm.ingest.loaders.text import decode
from dalm.io.text_lines import UnreadableError

FENCES = re.compile(r"^ *(`{3,})", re.MULTILINE)


def load_ipynb(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a notebook as the Markdown that shows its cells in order; outputs are left out.

    Raises:
        UnreadableError: not a notebook, or not JSON.
    """
    try:
        notebook = json.loads(decode(data, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not a notebook: {error}; save it again") from None
    if not isinstance(notebook, dict):
        raise UnreadableError("not a notebook: no JSON object; save it again")
    sheets = _objects(notebook.get("worksheets"))  # of notebooks before version 4
    cells = _objects(notebook.get("cells")) or [
        cell for sheet in sheets for cell in _objects(sheet.get("cells"))
    ]
    if not cells:
        raise UnreadableError("not a notebook: it has no cells; save it again")
    language = _language(notebook)
    shown = filter(None, (_shown(cell, language) for cell in cells))
    document = load_markdown("\n\n".join(shown).encode(errors="replace"), source, options)
    metadata = notebook.get("metadata")
    title = metadata.get("title") if isinstance(metadata, dict) else None
    return replace(document, title=title) if isinstance(title, str) and title else document


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of an array; none of anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _language(notebook: dict[str, Any]) -> str:
    metadata = notebook.get("metadata")
    kernel = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    language = kernel.get("language") if isinstance(kernel, dict) else None
    return language if isinstance(language, str) and language.isalnum() else ""


def _shown(cell: dict[str, Any], language: str) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(map(str, source))
    text = str(source).strip("\n").rstrip()
    kind = cell.get("cell_type")
    if not text or kind in ("markdown", "raw"):
        return text
    if kind == "heading":  # of notebooks before version 4
        level = cell.get("level", 1)
        return f"{'#' * (level if isinstance(level, int) and 0 < level < 7 else 1)} {text}"
    fence = max(("`" * (len(run) + 1) for run in FENCES.findall(text)), key=len, default="```")
    return f"{fence}{language}\n{text}\n{fence}"


IPYNB = Loader("ipynb", "ipynb", (".ipynb",), load_ipynb)
