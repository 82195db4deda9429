"""Write equations (Word's OMML and MathML) as a line of text, close to Unicode's linear format.

`(a+b)/2`, `x_i^2`, `√(x+1)`, `∑_(i=1)^n x_i`, `[1, 0; 0, 1]`. Source: Unicode Technical Note 28.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ATOM = re.compile(r"[^\W_]+(?:[.,]\d+)?'*|\W|\([^()]*\)|\[[^\[\]]*\]")
"""What needs no brackets as an operand: a name, a number, a sign, or what has brackets."""
WORD = re.compile(r"[^\W\d_]{2,}$")  # as sin; it is parted from what follows
SCRIPTED = frozenset("sSup sSub sSubSup msup msub msubsup munder mover munderover".split())
INVISIBLE = dict.fromkeys(map(ord, "\u2061\u2062\u2063\u2064"))
"""Signs without a shape: function application, invisible times and comma."""
NARY = "∑∏∐∫∬∭∮∯∰⋀⋁⋂⋃"


@dataclass(slots=True)
class Part:
    """An element of an equation: its parts, and the text that they became."""

    name: str
    attributes: Mapping[str, str]
    parts: list["Part"] = field(default_factory=list)
    text: str = ""

    def get(self, name: str) -> str:
        """Return the text of the first part of this name."""
        return next((part.text for part in self.parts if part.name == name), "")

    def option(self, name: str, default: str) -> str:
        """Return an OMML property (`m:fPr` and the like hold them); empty if it is set to that."""
        for properties in self.parts:
            if properties.name.endswith("Pr"):
                for each in properties.parts:
                    if each.name == name:
                        return each.attributes.get("val", default)
        return default


def _grouped(text: str) -> str:
    text = text.strip()
    return text if not text or ATOM.fullmatch(text) else f"({text})"


def _joined(part: Part) -> str:
    out, scripted = "", False
    for each in part.parts:
        text = each.text
        # "sin x" and "∑_(i=1)^n x", but "sin(x)"
        if text[:1].isalnum() and (WORD.search(out) or (scripted and out[-1:].isalnum())):
            out += " " if each.name not in ("t", "text") else ""
        scripted = each.name in SCRIPTED
        out += text
    return out


def _scripts(base: str, below: str = "", above: str = "") -> str:
    below = f"_{_grouped(below)}" if below.strip() else ""
    above = f"^{_grouped(above)}" if above.strip() else ""
    return (base if base in NARY else _grouped(base)) + below + above


def _fraction(above: str, below: str) -> str:
    return f"{_grouped(above)}/{_grouped(below)}"


def _root(of: str, degree: str = "") -> str:
    return f"√{f'[{degree}]' if degree.strip() else ''}({of})"


def _matrix(part: Part, row: str, cell: str) -> str:
    rows = (
        ", ".join(each.text for each in line.parts if each.name == cell)
        for line in part.parts
        if line.name == row
    )
    return f"[{'; '.join(rows)}]"


def _nth(part: Part, index: int) -> str:
    return part.parts[index].text if index < len(part.parts) else ""


def _from(part: Part, first: int) -> str:
    return "".join(each.text for each in part.parts[first:])


def _omml_nary(part: Part) -> str:
    sign = _scripts(part.option("chr", "∫"), part.get("sub"), part.get("sup"))
    return f"{sign} {part.get('e')}"


def _omml_delimited(part: Part) -> str:
    inside = part.option("sepChr", "|").join(each.text for each in part.parts if each.name == "e")
    return part.option("begChr", "(") + inside + part.option("endChr", ")")


def _omml_function(part: Part) -> str:
    name, of = part.get("fName"), part.get("e")
    return f"{name}{'' if of.startswith(('(', '[')) else ' '}{of}"


def _omml_accent(part: Part) -> str:
    return _grouped(part.get("e")) + part.option("chr", "\u0302")


def _omml_fraction(part: Part) -> str:
    if part.option("type", "") == "noBar":  # a binomial coefficient
        return f"{part.get('num')} over {part.get('den')}"
    return _fraction(part.get("num"), part.get("den"))


def _fenced(part: Part) -> str:
    separator = part.attributes.get("separators", ",")[:1]
    inside = separator.join(each.text for each in part.parts)
    return f"{part.attributes.get('open', '(')}{inside}{part.attributes.get('close', ')')}"


def _under_over(part: Part, below: int = 1, above: int = 2) -> str:
    return _scripts(_nth(part, 0), _nth(part, below), _nth(part, above))


NOTHING = frozenset(
    "rPr ctrlPr annotation annotation-xml mspace mphantom maligngroup malignmark "
    "mprescripts".split()
)
WRITERS: dict[str, Callable[[Part], str]] = {
    # Office Math
    "f": _omml_fraction,
    "sSup": lambda part: _scripts(part.get("e"), "", part.get("sup")),
    "sSub": lambda part: _scripts(part.get("e"), part.get("sub")),
    "sSubSup": lambda part: _scripts(part.get("e"), part.get("sub"), part.get("sup")),
    "sPre": lambda part: _scripts("", part.get("sub"), part.get("sup")) + part.get("e"),
    "rad": lambda part: _root(part.get("e"), part.get("deg")),
    "nary": _omml_nary,
    "d": _omml_delimited,
    "func": _omml_function,
    "limLow": lambda part: _scripts(part.get("e"), part.get("lim")),
    "limUpp": lambda part: _scripts(part.get("e"), "", part.get("lim")),
    "acc": _omml_accent,
    "bar": lambda part: _grouped(part.get("e")) + "\u0305",
    "m": lambda part: _matrix(part, "mr", "e"),
    "eqArr": lambda part: "; ".join(each.text for each in part.parts if each.name == "e"),
    "oMathPara": lambda part: "\n".join(e.text for e in part.parts if e.name == "oMath"),
    # MathML
    "mfrac": lambda part: _fraction(_nth(part, 0), _nth(part, 1)),
    "msup": lambda part: _scripts(_nth(part, 0), "", _nth(part, 1)),
    "msub": lambda part: _scripts(_nth(part, 0), _nth(part, 1)),
    "msubsup": _under_over,
    "munder": lambda part: _scripts(_nth(part, 0), _nth(part, 1)),
    "mover": lambda part: _scripts(_nth(part, 0), "", _nth(part, 1)),
    "munderover": _under_over,
    "msqrt": lambda part: _root(_from(part, 0)),
    "mroot": lambda part: _root(_nth(part, 0), _nth(part, 1)),
    "mfenced": _fenced,
    "mtable": lambda part: _matrix(part, "mtr", "mtd"),
    "semantics": lambda part: _nth(part, 0),
}


class LinearMath:
    """Write an equation from a parser's events; names are local, without a namespace."""

    def __init__(self) -> None:
        self.open = [Part("", {})]

    @property
    def depth(self) -> int:
        """Return how many elements are open."""
        return len(self.open) - 1

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin an element."""
        self.open.append(Part(name, attributes))

    def data(self, text: str) -> None:
        """Add text to the open element; white space is no part of an equation, but of `m:t`."""
        part, text = self.open[-1], text.translate(INVISIBLE)
        if part.name == "t" or text.strip():
            shown = text if part.name in ("t", "mtext") else text.strip()
            part.parts.append(Part("text", {}, text=shown))

    def end(self) -> str:
        """End the open element and return its text."""
        part = self.open.pop()
        if part.name in NOTHING:
            part.text = ""
        elif part.name not in WRITERS:
            part.text = _joined(part)
        else:
            part.text = WRITERS[part.name](part)
        if part.name not in NOTHING:
            self.open[-1].parts.append(part)
        return part.text
