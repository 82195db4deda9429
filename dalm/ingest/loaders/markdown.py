"""Load Markdown: headings, tables, lists and code, without what its readers never see."""

import re
from collections.abc import Iterator
from dataclasses import replace

from dalm.ingest.contents_lines import contents_lines, contents_lists, is_contents_title
from dalm.ingest.loaders.loader import Block, Document, Heading, Loader, LoaderOptions
from dalm.ingest.loaders.text import HEADING_LENGTH, decode
from dalm.ingest.loaders.text_blocks import (
    FENCE,
    RULE,
    Lines,
    closes,
    fenced_code_at,
    indented_code_at,
    list_at,
    table_at,
)

Span = tuple[int, int]

ATX_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
SETEXT_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-{2,})[ \t]*$")
YAML = re.compile(
    r"---[ \t]*\n(?![ \t]*\n)(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE
)
TOML = re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*$\n?", re.DOTALL | re.MULTILINE)
FRONT_MATTER_LENGTH = 20_000  # characters; a longer one is no front matter
NAMED = re.compile(r"[\"']?\w[\w./ -]{0,60}[\"']?[ \t]*[:=](?:[ \t]|$)|\[\[?[\w.\"' -]+\]")
"""A line of YAML or TOML that names a value, or a table."""
CONTINUED = re.compile(r"[ \t#}\])]|-(?:[ \t]|$)")
"""What is indented, a comment, an item."""
FRONT_MATTER_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
HIDES = re.compile(r"<|\{/\*|%%|^(?:import|export)\b")
COMMENT = re.compile(r"<!--|\{/\*|%%")
HIDDEN = re.compile(
    r"<!--|<(script|style)\b[^>\n]*>|\{/\*|^%%(?=[ \t]*$)|"
    r"(?<!\S)%%(?=[^\s%])[^%\n]*(?<!\s)%%(?!\w)",
    re.IGNORECASE | re.MULTILINE,
)
"""Where comments (of HTML, MDX and Obsidian), scripts and styles begin."""
CLOSES = {"<!--": "-->", "{/*": "*/}", "%%": "\n%%"}
MODULE = re.compile(
    r"import\s+(?:(?:\w+,?\s*)?(?:\{[^}]{0,999}\}|\*\s*as\s+\w+)?\s*from\s+)?"
    r"[\"'][^\"'\n]+[\"'];?[ \t]*$"
    r"|export\s+(?:default\s+)?(?:const\s+\w+\s*=|let\s+\w+\s*=|(?:async\s+)?function\b.*[({]|[{])"
    r"(?:.|\n(?!\s*\n))*",
    re.MULTILINE,
)
"""What a page of MDX takes from other files, or gives to them."""
BEFORE_BLOCK = re.compile(r"[\s>*+-]*(?:\d{1,9}[.)]\s*)?")
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)")
DATA_URI = re.compile(
    r"data:[a-z]+/[\w.+-]+(?:;[\w=.+-]+)*,"
    r"(?:[A-Za-z0-9+/=]{32,}(?:\n[A-Za-z0-9+/=]{20,})*|[^\s()<>\"'`]{200,})"
)
LINK_DEFINITION = re.compile(
    r" {0,3}\[(?!\^)[^\]\n]+\]:\s*(?:<[^>\n]*>|\S*[/#.:]\S*)"
    r"(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^)]*\)))?\s*$"
)
BADGES = re.compile(r"\s*(?:\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)[\s|]*)+$")
BADGE = re.compile(r"\.svg|badge|shield|status", re.IGNORECASE)
CONTENTS_MARK = re.compile(r"\s*(?:\[\[?_?TOC_?\]\]?|\{:toc\}|\*?\s*\{:toc\}.*)\s*$", re.IGNORECASE)
ANCHOR_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+\[.*\]\(#[^)]*\)\s*$")


def load_markdown(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load Markdown, its markup included; front matter may give the title and is in no passage.

    Nor are comments, images within the text (`data:`), definitions of links, badges, and a table
    of contents.
    """
    text = decode(data, options.encoding)
    begin, title = _front_matter(text)
    found = _Structure(text, begin)
    document = Document(
        *(text, title, source, tuple(found.headings)), begin=begin, blocks=tuple(found.blocks)
    )
    hidden = (*found.omitted, *_images(text), *contents_lines(text), *contents_lists(text))
    document = document.without(hidden)
    first = next((each.text for each in document.headings if each.level == 1), "")
    return document if title else replace(document, title=first)


def _front_matter(text: str) -> tuple[int, str]:
    """Return where the text begins below its front matter, and the title that this gives.

    Text between two lines that are drawn across the page is no front matter.
    """
    form = {"---": YAML, "+++": TOML}.get(text[:3])
    front = form.match(text, 0, min(len(text), FRONT_MATTER_LENGTH)) if form else None
    if front is None or not _is_front_matter(front.group(1)):
        return 0, ""
    named = FRONT_MATTER_TITLE.search(front.group(1))
    return front.end(), named.group(1).strip("\"'") if named else ""


def _is_front_matter(text: str) -> bool:
    """Tell whether text is YAML or TOML as far as its lines tell, and not prose or slides."""
    named, quotes = False, ""
    for line in text.split("\n"):
        if quotes:
            quotes = "" if quotes in line else quotes
        elif NAMED.match(line):
            named = True
            quotes = next((each for each in ('"""', "'''") if line.count(each) == 1), "")
        elif line.strip() and not (CONTINUED.match(line) and (named or line[0] == "#")):
            return False
    return named or not text.strip()


class _Structure:
    """The headings and blocks of Markdown, and what is omitted besides."""

    def __init__(self, text: str, begin: int) -> None:
        self.text = text
        self.lines = Lines(text, begin)
        self.headings = list[Heading]()
        self.blocks = list[Block]()
        self.omitted = list[Span]()
        self._closing = dict[str, int]()
        """The next place of `-->` and the like, which are looked for once."""
        self._paragraph = 0
        """The line in which the paragraph begins."""
        number, in_paragraph = 0, False
        lines = (*self.lines.lines, "")
        while number < len(lines) - 1:
            line = lines[number]
            self._paragraph = self._paragraph if in_paragraph else number
            if (
                line[:1].isalpha()
                and "|" not in line
                and not HIDES.search(line)
                and "--" not in lines[number + 1]
            ):
                number, in_paragraph = number + 1, True  # most lines, in a third of the time
            else:
                number, in_paragraph = self._read(number, line, in_paragraph)

    def _read(self, number: int, line: str, in_paragraph: bool) -> tuple[int, bool]:
        """Read from a line on; return the number of the next, and whether a paragraph goes on."""
        if not line.strip():
            return number + 1, False
        is_code = not in_paragraph and line.startswith(("    ", "\t"))
        if not is_code and HIDES.search(line) and (after := self._hidden(number)) > number:
            return after, in_paragraph
        if self._heading(number, line, in_paragraph):
            return number + 1, False
        found = fenced_code_at(self.lines, number) if "```" in line or "~~~" in line else None
        if found is None and is_code:
            found = indented_code_at(self.lines, number)
        if found is not None:
            self.blocks.append(found[1])
            return found[0], False
        rows = self._list(number, in_paragraph) or table_at(self.lines, number)
        if rows is None:
            return number + 1, self._is_text(number, line, in_paragraph)
        self.blocks += [rows[1]] if rows[1] else []
        return max(rows[0], self._hidden_within(number, rows[0])), False

    def _heading(self, number: int, line: str, in_paragraph: bool) -> bool:
        """Add the heading that ends in a line: `# Title`, or lines with one drawn below them."""
        first, title, level = number, "", 0
        if atx := ATX_HEADING.match(line):
            title, level = _visible(atx.group(2) or ""), len(atx.group(1))
        elif in_paragraph and (underline := SETEXT_UNDERLINE.match(line)):
            first = self._paragraph
            title = _visible(" ".join(map(str.strip, self.lines.lines[first:number])))
            level = 1 if underline.group(1) else 2
        if title and len(title) <= HEADING_LENGTH:
            start, end = self.lines.starts[first], self.lines.starts[number] + len(line)
            self.headings.append(Heading(start, end, level, title))
        return level > 0

    def _list(self, number: int, in_paragraph: bool) -> tuple[int, Block | None] | None:
        """Return a list; one of links within the document is a table of contents, and omitted."""
        found = list_at(self.lines, number, in_paragraph=in_paragraph)
        if found is None:
            return None
        items = [line for line in self.lines.lines[number : found[0]] if line.strip()]
        if len(items) > 2 and all(map(ANCHOR_ITEM.match, items)):
            above = number - 1
            while above >= 0 and not self.lines[above].strip():
                above -= 1
            first = above if above >= 0 and is_contents_title(self.lines[above]) else number
            self._omit(first, found[0])
            return found[0], None
        return found

    def _is_text(self, number: int, line: str, in_paragraph: bool) -> bool:
        """Tell whether a line is of a paragraph; omit one that readers of the page never see."""
        if RULE.match(line):
            return False
        hidden = not in_paragraph and LINK_DEFINITION.match(line)
        if hidden or _is_badges(line) or CONTENTS_MARK.match(line):
            self._omit(number, number + 1)
            return in_paragraph
        return True

    def _omit(self, first: int, last: int) -> None:
        self.omitted.append(
            (self.lines.starts[first], min(self.lines.starts[last], len(self.text)))
        )

    def _hidden_within(self, first: int, last: int) -> int:
        """Omit the comments of a list or a table; return the line after the last of them."""
        fence, number = "", first
        while number < last:
            line = self.lines[number]
            if fence:
                fence = "" if closes(fence, line) else fence
            elif opening := FENCE.match(line):
                fence = opening.group(1)
            elif COMMENT.search(line):
                number = max(number, self._hidden(number) - 1)
            number += 1
        return number

    def _hidden(self, number: int) -> int:
        """Omit the comments, scripts, styles and imports that begin in a line.

        Return the line after them if nothing else is in it, or if they end in another line.
        """
        module = MODULE.match(self.text, self.lines.starts[number])
        if module and self._paragraph == number:
            after = self.lines.number_at(module.end() - 1) + 1
            self._omit(number, after)
            return after
        spans, at, last = list[Span](), self.lines.starts[number], number
        while found := HIDDEN.search(self.text, at, self.lines.starts[last + 1]):
            at = found.end()
            end = self._hidden_end(found, number, last)
            if end:
                spans.append((found.start(), end))
                at, last = end, self.lines.number_at(end - 1)
        if not spans:
            return number
        span = self.lines.starts[number], self.lines.starts[last + 1]
        if Document(self.text, "", "", omitted=tuple(spans)).excerpt(*span).strip():
            self.omitted += spans
            return last + 1 if last > number else number
        empty = not self.lines[number - 1].strip() and not self.lines[last + 1].strip()
        self._omit(number, min(last + 1 + empty, len(self.lines)))  # with one of two empty lines
        return last + 1

    def _hidden_end(self, found: re.Match[str], first: int, number: int) -> int:
        """Return where a comment, script or style ends; 0 if it is code, or doesn't end."""
        start, close = found.start(), CLOSES.get(found.group(), f"</{found.group(1)}>")
        line, place = self.lines[number], start - self.lines.starts[number]
        if "`" in line and any(
            a < place < b for a, b in map(re.Match.span, CODE_SPAN.finditer(line))
        ):
            return 0
        if len(found.group()) > 2 and found.group().startswith("%%"):
            return found.end()
        if self._closing.get(close, 0) < start + 2:
            at = self.text.find(close, start + 2)
            self._closing[close] = at if at >= 0 else len(self.text)
        end = self._closing[close] + len(close)
        if end > len(self.text) or (close == CLOSES["%%"] and self.text[end : end + 1].strip()):
            return 0
        alone = BEFORE_BLOCK.fullmatch(self.text, self.lines.starts[first], start)
        return end if alone or self.text.find("\n\n", start, end) < 0 else 0


def _is_badges(line: str) -> bool:
    """Tell whether a line is badges: several images with links, or one that is called so."""
    return BADGES.match(line) is not None and (line.count("](") > 2 or bool(BADGE.search(line)))


def _visible(title: str) -> str:
    """Return a title without comments."""
    return re.sub(r"<!--.*?-->|\{/\*.*?\*/\}", "", title).strip()


def _images(text: str) -> Iterator[Span]:
    """Yield the images that stand in the text itself, in base64 or as a URL."""
    return (match.span() for match in DATA_URI.finditer(text)) if "data:" in text else iter(())


MARKDOWN = Loader("markdown", "Markdown", (".md", ".markdown", ".mdx"), load_markdown)
