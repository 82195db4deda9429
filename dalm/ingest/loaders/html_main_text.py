"""Find a page's main text with trafilatura, which knows more of the web than rules by name do."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from dalm.ingest.loaders.html_pieces import HtmlPiece
from dalm.ingest.sentence_boundaries import ENDS

WORD = re.compile(r"\w+")
GRAM = 3  # words; a piece is recognised by its runs of so many
SAME = 0.5  # of a piece's runs of words; with as many found it is in the main text
SHORT = 4  # words; a piece with fewer has to be a line of the main text
SMALLEST = 0.25  # of the words that our own rules keep; with fewer, trafilatura missed the text
FEWEST = 50  # words of a page; in one with fewer there is nothing to choose from
LINKED = 0.3  # of a piece's text; with more it is no text of its own
BETWEEN = 12  # words; so long a piece between two of the main text belongs to it
BESIDE, NEAR = 25, 8  # words, and pieces: so long a piece so near to the main text, too


def is_installed() -> bool:
    """Tell whether trafilatura can be imported."""
    try:
        import trafilatura  # noqa: F401
    except ImportError:
        return False
    return True


def how_it_is_found() -> str:
    """Return by what the main text is found, for the log: passages depend on it."""
    if is_installed():
        return "by trafilatura"
    return 'by rules; trafilatura finds it better: pip install "indomain[html]"'


def find_main_text(
    page: str, pieces: Sequence[HtmlPiece], own: Sequence[HtmlPiece]
) -> list[HtmlPiece]:
    """Return those of a page's pieces that are its main text; `own` are those our rules keep.

    trafilatura decides, but how a piece is written stays ours, since it flattens equations, heads
    of tables and lines of code. To what it finds are added the tables, lists, code, headings and
    long sentences in between and beside, if our rules keep them too. Where it finds hardly any,
    our rules decide.
    """
    size = sum(len(_words(piece.text)) for piece in own)
    text = _extract(page) if size >= FEWEST else ""
    found = _words(text)
    grams = {tuple(found[i : i + n]) for n in range(1, GRAM + 1) for i in range(len(found))}
    lines = {tuple(_words(line)) for line in text.split("\n")}
    words = [_words(piece.text) for piece in pieces]
    kept = [tuple(each) in lines if len(each) < SHORT else _is_among(each, grams) for each in words]
    recognised = sum(len(each) for each, keep in zip(words, kept, strict=True) if keep)
    if not any(kept) or recognised < SMALLEST * size:
        return list(own)
    _add_neighbours(pieces, words, kept, {(piece.kind, piece.text) for piece in own})
    main = [piece for piece, keep in zip(pieces, kept, strict=True) if keep]
    while main and main[-1].kind == "heading":  # of what is left out
        main.pop()
    return main or list(own)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower().replace("\u00ad", ""))


def _extract(page: str) -> str:
    """Return the main text of a page; empty where there is none, or it can't be found."""
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    try:
        found: Any = trafilatura.bare_extraction(page, include_comments=False)
    except Exception:  # whatever it meets in a broken page, our rules are left
        return ""
    return found.text or "" if found is not None else ""


def _is_among(words: Sequence[str], grams: set[tuple[str, ...]]) -> bool:
    """Tell whether most of a piece's runs of words are in the main text."""
    runs = [tuple(words[i : i + GRAM]) for i in range(max(1, len(words) - GRAM + 1))]
    return sum(run in grams for run in runs) >= SAME * len(runs)


def _add_neighbours(
    pieces: Sequence[HtmlPiece],
    words: Sequence[Sequence[str]],
    kept: list[bool],
    own: set[tuple[str, str]],
) -> None:
    """Keep also what is between and beside the pieces kept, and the page's first heading."""
    first, last = kept.index(True), len(kept) - 1 - kept[::-1].index(True)
    title = next((i for i, piece in enumerate(pieces) if piece.level == 1), first)
    kept[title] = True
    if first - NEAR <= title:
        first = min(first, title)
    for i in range(max(0, first - NEAR), min(len(pieces), last + NEAR + 1)):
        piece = pieces[i]
        if (piece.kind, piece.text) not in own:
            continue
        has_links = piece.linked > LINKED * len(piece.text)
        if piece.kind in ("table", "list", "item", "code") or piece.has_math:
            below = (piece.kind, pieces[i - 1].kind) == ("list", "heading")
            kept[i] = kept[i] or first < i < last or (i > last and (below or not has_links))
            kept[i - 1] = kept[i - 1] or (kept[i] and i > last and below)
        elif has_links:
            continue
        elif first < i < last:
            is_text = piece.kind in ("heading", "caption") or piece.text.endswith(ENDS)
            kept[i] = kept[i] or is_text or len(words[i]) >= BETWEEN
        elif len(words[i]) >= BESIDE:
            kept[i] = True
