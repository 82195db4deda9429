"""Remove the commands within a text of LaTeX; equations stay."""

import re
import unicodedata
from collections.abc import Mapping

NEW_COMMAND = re.compile(
    r"\\(?:(?:re)?newcommand\*?|providecommand\*?|def)\s*\{?(\\[a-zA-Z]+)\}?(?=\s*\{)"
)
ACCENTS = dict(zip("'`^\"~=.uvHcdbrk", map(chr, (
    0x301, 0x300, 0x302, 0x308, 0x303, 0x304, 0x307, 0x306, 0x30C, 0x30B, 0x327, 0x323, 0x331,
    0x30A, 0x328)), strict=True))  # fmt: skip
LETTERS = {
    "ss": "ß", "o": "ø", "O": "Ø", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å",
    "l": "ł", "L": "Ł", "i": "ı", "j": "ȷ", "ldots": "…", "dots": "…", "textellipsis": "…",
    "textdegree": "°", "degree": "°", "textmu": "µ", "texttimes": "×", "euro": "€", "texteuro": "€",
    "pounds": "£", "S": "§", "P": "¶", "copyright": "©", "textregistered": "®",
    "texttrademark": "™",
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textbar": "|",
    "textless": "<", "textgreater": ">", "LaTeX": "LaTeX", "TeX": "TeX", "textendash": "–",
    "textemdash": "—", "quad": " ", "qquad": " ", "par": "\n", "newline": "\n", "item": "\n",
}  # fmt: skip
WITHOUT_TEXT = frozenset(
    "label vspace hspace vskip hskip includegraphics bibliography bibliographystyle pagestyle "
    "thispagestyle usepackage documentclass setlength setcounter addtocounter newcommand "
    "renewcommand providecommand def hypersetup index nocite input include color definecolor "
    "pagecolor newtheorem theoremstyle graphicspath addcontentsline markboth phantomsection "
    "pdfbookmark fontsize selectlanguage rule arraystretch title author date begin end hyphenation "
    "DeclareMathOperator newenvironment settowidth addtolength".split()
)
"""Commands whose arguments are not shown."""
CITES = re.compile(r"(?:no|full|foot|auto|text|paren)?cite[a-z]*\*?$")
REFERENCES = frozenset(("ref", "pageref", "eqref", "autoref", "cref", "Cref", "nameref", "vref"))
LAST_SHOWN = frozenset(
    "href textcolor colorbox parbox multicolumn multirow raisebox scalebox texorpdfstring".split()
)
"""Commands of which the last argument is shown."""
TOKEN = re.compile(
    r"(\$\$?.*?(?<!\\)\$\$?|\\\(.*?\\\))|\\([a-zA-Z]+)\*?[ \t]*|\\(.)|([{}~])|(``|''|---?)",
    re.DOTALL,
)
"""An equation, a command, a sign, a brace or a dash."""
PERCENT = "\ue002"  # stands for a `%` that begins no comment
SPACE = re.compile(r"[ \t]*\n[ \t]*|[ \t]+")
MOST_EXPANSIONS = 10_000


def group(text: str, at: int) -> tuple[str, int]:
    """Return the argument in braces that follows, and where it ends; empty without one."""
    start = at
    while start < len(text) and text[start].isspace():
        start += 1
    if text[start : start + 1] != "{":
        return "", at
    depth, end = 0, start
    while end < len(text):
        sign = text[end]
        if sign == "\\":
            end += 1
        depth += (sign == "{") - (sign == "}")
        end += 1
        if not depth:
            return text[start + 1 : end - 1], end
    return text[start + 1 :], len(text)


def optional(text: str, at: int) -> tuple[str, int]:
    """Return the argument in brackets that follows, and where it ends; empty without one."""
    end = text.find("]", at)
    if text[at : at + 1] != "[" or end < 0:
        return "", at
    return text[at + 1 : end], end + 1


def expand(text: str, commands: Mapping[str, str]) -> str:
    """Replace an author's own commands without arguments by what they stand for."""
    known = {name: value for name, value in commands.items() if "#" not in value}
    if not known:
        return text
    names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    own = re.compile(rf"({names})(?![a-zA-Z])(?:\{{\}})?")
    return own.sub(lambda found: known[found.group(1)], text, count=MOST_EXPANSIONS)


def plain_text(text: str) -> str:
    """Return a text as it is printed, but equations as they are written."""
    out: list[str] = []
    at = 0
    while found := TOKEN.search(text, at):
        out.append(text[at : found.start()])
        at = found.end()
        equation, name, sign, brace, dash = found.groups()
        if name:
            shown, at = _command(name, text, at)
            out.append(shown)
        elif sign:
            shown, at = _sign(sign, text, at)
            out.append(shown)
        elif equation:
            out.append(" ".join(equation.split()))
        elif dash:
            out.append({"``": "“", "''": "”", "--": "–", "---": "—"}[dash])
        elif brace == "~":
            out.append(" ")
    out.append(text[at:])
    lines = SPACE.sub(lambda each: "\n" if "\n" in each.group() else " ", "".join(out)).split("\n")
    return (
        " ".join(filter(None, map(str.strip, lines)))
        .replace("\v", "\n")
        .replace(PERCENT, "%")
        .strip()
    )


def _sign(sign: str, text: str, at: int) -> tuple[str, int]:
    if sign in ACCENTS:
        return _accent(sign, text, at)
    if sign == "\\":
        return "\v", optional(text, at)[1]  # a line end
    return {",": " ", ";": " ", " ": " ", "\n": " ", "-": "", "/": "", "@": ""}.get(sign, sign), at


def _accent(sign: str, text: str, at: int) -> tuple[str, int]:
    base, end = group(text, at)
    if end == at:
        rest = re.compile(r"\s*(\\[ij]\b|.)", re.DOTALL).match(text, at)
        base, end = (rest.group(1), rest.end()) if rest else ("", at)
    base = {"\\i": "i", "\\j": "j"}.get(base.strip(), base)
    return unicodedata.normalize("NFC", base[:1] + ACCENTS[sign]) + base[1:], end


def _command(name: str, text: str, at: int) -> tuple[str, int]:
    """Return what a command shows and where the text goes on."""
    if name in LETTERS:
        return LETTERS[name], at
    if name in ACCENTS and text[at : at + 1] == "{":
        return _accent(name, text, at)
    if name == "verb" and at < len(text):
        end = text.find(text[at], at + 1)
        return (text[at + 1 : end], end + 1) if end > 0 else ("", at)
    while text[at : at + 1] == "[":
        was = at
        _, at = optional(text, at)
        if at == was:
            break
    arguments: list[str] = []
    if name in WITHOUT_TEXT or name in LAST_SHOWN or CITES.match(name) or name in REFERENCES:
        while len(arguments) < 3:
            argument, end = group(text, at)
            if end == at or text[at : at + 1] not in "{":
                break
            arguments.append(argument)
            at = end
    shown = ""  # the last argument of any other, as \textbf, is read on as text
    if name in LAST_SHOWN and arguments:
        shown = plain_text(arguments[-1])
    elif arguments and name not in WITHOUT_TEXT:
        shown = f"[{arguments[0]}]"
    elif name not in WITHOUT_TEXT:
        shown, at = _arguments(name, text, at)
    return shown, at


def _arguments(name: str, text: str, at: int) -> tuple[str, int]:
    """Return what is shown of the arguments that aren't read on as text, and where they end."""
    argument, end = group(text, at)
    if name == "footnote":
        return f" ({plain_text(argument)})", end
    if name in ("url", "path", "nolinkurl"):
        return re.sub(r"\\([%_#&~])", r"\1", argument), end
    shown = ""
    while end > at and text[end : end + 1] == "{":  # of an author's own command
        shown, at = f"{shown}{plain_text(argument)} ", end
        argument, end = group(text, at)
    return shown, at
