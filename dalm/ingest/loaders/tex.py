"""Load LaTeX (tex): headings, lists, tables, code and text; equations stay as they are written."""

import re

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import format_number
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.tex_inline import (
    NEW_COMMAND,
    PERCENT,
    expand,
    group,
    optional,
    plain_text,
)
from dalm.ingest.loaders.text import decode

COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*(?:\n[ \t]*(?=\S))?")
LITERAL = re.compile(
    r"\\(?:url|path|nolinkurl|href)[ \t]*\{[^{}\n]*\}|\\verb\*?([^\sa-zA-Z*]).*?\1"
)
"""What may hold a `%` that begins no comment."""
LEVELS = {
    "part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5,
    "subparagraph": 6, "frametitle": 3,
}  # fmt: skip
CODE = re.compile(
    r"\\begin\{((?:[Vv]erbatim|lstlisting|minted|Highlighting|alltt|code)\*?)\}(.*?)\\end\{\1\}",
    re.DOTALL,
)
CODE_OPTIONS = re.compile(r"\A(?:\[[^\]]*\])?(?:\{[^}]*\})?[ \t]*\n?")
KEPT = "\ue001"  # stands before the number of a piece of code
STRUCTURE = re.compile(
    rf"\n[ \t]*\n|\\begin\{{([\w*]+)\}}|\\({'|'.join(LEVELS)})\*?(?![a-zA-Z])"
    rf"|\\\[(.*?)\\\]|\$\$(.*?)\$\$|{KEPT}(\d+){KEPT}|\\(?:input|include|subfile)\{{([^}}]*)\}}"
    r"|\\(?:maketitle|tableofcontents|listoffigures|listoftables|newpage|clearpage)\b",
    re.DOTALL,
)
LISTS = frozenset(("itemize", "enumerate", "description", "compactitem", "compactenum"))
TABLES = frozenset(("tabular", "tabular*", "tabularx", "tabulary", "longtable", "supertabular"))
EQUATIONS = frozenset(
    f"{name}{star}"
    for name in "equation align gather multline eqnarray displaymath math flalign alignat".split()
    for star in ("", "*")
)
DRAWINGS = frozenset(("tikzpicture", "picture", "pspicture", "forest", "tikzcd"))
TITLED = frozenset(("frame", "block", "alertblock", "exampleblock"))
"""Environments of beamer whose argument is a title."""
THEOREMS = frozenset(
    "theorem lemma definition proposition corollary proof remark example claim conjecture axiom "
    "assumption problem exercise".split()
)
"""Environments whose optional argument is a name."""
BOX_TITLE = re.compile(r"(?:^|,)\s*title=(\{[^{}]*\}|[^,]*)")
SKIPPED = frozenset(("comment", "filecontents", "filecontents*", "CCSXML"))
RULES = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfirsthead|endfoot|endlastfoot|noalign\{\}"
    r"|cline\{[^}]*\}|cmidrule(?:\([^)]*\))?\{[^}]*\}|rowcolor\{[^}]*\}|tabularnewline)"
)
CAPTION = re.compile(r"\\caption\*?(?=[\[{])")
ITEM = re.compile(r"\\item(?![a-zA-Z])|\\(begin|end)\{[\w*]+\}")
CELL_END = re.compile(r"(?<!\\)&|\\\\(?:\*|\[[^\]]*\])?|[{}]|\\.", re.DOTALL)
DEEPEST = 20


def load_tex(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load the text between the commands; comments and the preamble are left out.

    Own commands without arguments are replaced by what they stand for. Files that it takes in and
    drawings are reported as unread.
    """
    text = decode(data, options.encoding)
    codes: list[str] = []

    def keep(found: re.Match[str]) -> str:
        code = CODE_OPTIONS.sub("", found.group(2), count=1)
        if found.group(1) == "Highlighting":  # pandoc's colours
            code = re.sub(
                r"\\([{}\\])", r"\1", re.sub(r"\\\w+Tok\{((?:\\.|[^{}])*)\}", r"\1", code)
            )
        codes.append(code)
        return f"\n\n{KEPT}{len(codes) - 1}{KEPT}\n\n"

    text = CODE.sub(keep, text.replace(KEPT, "").replace(PERCENT, ""))
    text = LITERAL.sub(lambda found: found.group().replace("%", PERCENT), text)
    text = COMMENT.sub(r"\1", text)
    commands = {found.group(1): group(text, found.end())[0] for found in NEW_COMMAND.finditer(text)}
    reader = _Reader(codes)
    title = _argument(text, "title")
    begin, end = text.find(r"\begin{document}"), text.find(r"\end{document}")
    body = (
        text[begin + len(r"\begin{document}") : end if end > begin else None]
        if begin >= 0
        else text
    )
    reader.read(expand(body, commands), 0)
    return reader.builder.document(plain_text(expand(title, commands)), source)


def _argument(text: str, command: str) -> str:
    found = re.search(rf"\\{command}(?=[\[{{])", text)
    return group(text, optional(text, found.end())[1])[0] if found else ""


class _Reader:
    """Read a body's blocks."""

    def __init__(self, codes: list[str]) -> None:
        self.builder = DocumentBuilder()
        self.codes = codes

    def read(self, text: str, depth: int) -> None:
        """Add the blocks of a text to the document."""
        at = 0
        while found := STRUCTURE.search(text, at):
            self._paragraph(text[at : found.start()])
            at = found.end()
            environment, heading, one, two, code, taken_in = found.groups()
            if environment:
                body, at = _body(text, at, environment)
                self._environment(environment, body, depth)
            elif heading:
                _, at = optional(text, at)
                title, at = group(text, at)
                self.builder.heading(plain_text(title), LEVELS[heading])
            elif one or two:
                self.builder.paragraph(" ".join((one or two).split()))
            elif code:
                place = int(code)
                self.builder.code(self.codes[place] if place < len(self.codes) else "")
            elif taken_in:
                self.builder.lose(f"file {taken_in}, which it takes in", "it is not read here")
        self._paragraph(text[at:])

    def _paragraph(self, text: str) -> None:
        while found := CAPTION.search(text):
            _, at = optional(text, found.end())
            caption, end = group(text, at)
            text = text[: found.start()] + text[max(end, found.end()) :]
            self.builder.paragraph(plain_text(caption))
        self.builder.paragraph(plain_text(text))

    def _environment(self, name: str, body: str, depth: int) -> None:
        if name in EQUATIONS:
            shown = re.sub(r"\\label\{[^}]*\}|\\nonumber\b|\\notag\b", "", body)
            self.builder.paragraph(" ".join(shown.split()))
        elif name in TABLES:
            self._table(name, body)
        elif name in LISTS and KEPT not in body and depth < DEEPEST:
            self.builder.items(_items(name, body, 0))
        elif name in DRAWINGS:
            self.builder.lose(f"drawing ({name})", "its labels are not read")
        elif name in SKIPPED:
            return
        elif depth < DEEPEST:
            given, at = optional(body, 0)
            if name.rstrip("*") in THEOREMS:
                self.builder.paragraph(plain_text(given))
            elif titled := BOX_TITLE.search(given):
                self.builder.paragraph(plain_text(titled.group(1)))
            if name in (
                "minipage",
                "subfigure",
                "subtable",
                "multicols",
                "columns",
                "column",
                "wrapfigure",
                "thebibliography",
            ):
                _, at = group(body, at)
            elif name in TITLED:
                title, at = group(body, at)
                if name == "frame":
                    self.builder.heading(plain_text(title), LEVELS["frametitle"])
                else:
                    self.builder.paragraph(plain_text(title))
            body = re.sub(
                r"\\(?:bib)?item(?![a-zA-Z])(?:\[[^\]]*\])?(?:\{[^}]*\})?", "\n\n", body[at:]
            )
            self.read(body, depth + 1)

    def _table(self, name: str, body: str) -> None:
        _, at = optional(body, 0)
        for _ in range(2 if name in ("tabularx", "tabulary", "tabular*") else 1):
            _, at = group(body, at)
        body = body[at:]
        while found := CAPTION.search(body):
            _, at = optional(body, found.end())
            caption, end = group(body, at)
            body = body[: found.start()] + body[max(end, found.end()) :]
            self.builder.paragraph(plain_text(caption))
        if r"\endfirsthead" in body:  # its head is there twice
            first, _, rest = body.partition(r"\endfirsthead")
            body = first + (rest.partition(r"\endhead")[2] or rest)
        rows = [[plain_text(cell) for cell in row] for row in _rows(RULES.sub(" ", body))]
        self.builder.table(rows)


def _body(text: str, at: int, name: str) -> tuple[str, int]:
    """Return an environment's body and where the text goes on."""
    depth = 1
    for found in re.compile(rf"\\(begin|end)\{{{re.escape(name)}\}}").finditer(text, at):
        depth += 1 if found.group(1) == "begin" else -1
        if not depth:
            return text[at : found.start()], found.end()
    return text[at:], len(text)  # it never ends


def _rows(body: str) -> list[list[str]]:
    rows, cell, depth, at = [[""]], "", 0, 0
    for found in CELL_END.finditer(body):
        cell += body[at : found.start()]
        at = found.end()
        sign = found.group()
        depth += (sign == "{") - (sign == "}")
        if depth <= 0 and (sign == "&" or sign.startswith("\\\\")):
            rows[-1][-1] = cell
            cell = ""
            if sign == "&":
                rows[-1].append("")
            else:
                rows.append([""])
        else:
            cell += sign
    rows[-1][-1] = cell + body[at:]
    return rows


OPENED = re.compile(r"\\begin\{([\w*]+)\}")


def _items(name: str, body: str, depth: int) -> list[str]:
    """Return a list's items with their marks, and those of the lists in it."""
    starts, inside = [], 0
    for found in ITEM.finditer(body):
        if found.group(1):
            inside += 1 if found.group(1) == "begin" else -1
        elif not inside:
            starts.append(found.span())
    items: list[str] = []
    for count, (start, end) in enumerate(starts, 1):
        del start
        stop = starts[count][0] if count < len(starts) else len(body)
        label, at = optional(body, end)
        mark = f"{plain_text(label)}:" if name == "description" else plain_text(label)
        if not label:
            kind = {1: "a", 2: "i"}.get(depth, "1")
            mark = (
                f"{format_number(count, kind)}."
                if name.endswith("enum") or name == "enumerate"
                else "-"
            )
        text, inner = body[at:stop], list[str]()
        while (opened := OPENED.search(text)) and depth < DEEPEST:
            inner_body, after = _body(text, opened.end(), opened.group(1))
            if opened.group(1) in LISTS:
                inner += _items(opened.group(1), inner_body, depth + 1)
                inner_body = ""
            text = f"{text[: opened.start()]} {inner_body} {text[after:]}"
        items += [f"{'  ' * depth}{mark} {' '.join(plain_text(text).split())}", *inner]
    return items


TEX = Loader("tex", "LaTeX", (".tex", ".ltx"), load_tex)
