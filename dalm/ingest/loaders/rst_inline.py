"""Remove the markup within a line of reStructuredText."""

import re
from collections.abc import Mapping

ROLE = re.compile(
    r"(?::[\w.+-]+)*:[\w.+-]+:`(?:\\.|[^`\\])*`|`(?:\\.|[^`\\])+`(?::[\w:.+-]+:)?_{0,2}"
)
LITERAL = re.compile(r"``(.+?)``(?!`)")
TARGET = re.compile(r"\s*<[^<>]*>$")
EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(?=\S)(.+?)(?<=\S)\1(?![\w*])")
REFERENCE = re.compile(r"\b(\w[\w.-]*\w|\w)_{1,2}(?=[\s.,;:!?)]|$)|(\[[^\]\s]+\])_(?=\W|$)")
SUBSTITUTE = re.compile(r"\|([^|\s][^|]*)\|_{0,2}")
ESCAPE = re.compile(r"\\(\s|.)")
HIDDEN = "\ue000"  # stands before a literal that was read


def plain_text(text: str, replaced: Mapping[str, str]) -> str:
    """Return a text as it is shown: roles, links, emphasis and escapes without their marks."""
    literals: list[str] = []

    def keep(found: re.Match[str]) -> str:
        literals.append(found.group(1))
        return f"{HIDDEN}{len(literals) - 1}{HIDDEN}"

    text = LITERAL.sub(keep, text.replace(HIDDEN, ""))
    text = SUBSTITUTE.sub(lambda found: replaced.get(found.group(1), found.group(0)), text)
    text = ROLE.sub(_role, text)
    text = EMPHASIS.sub(r"\2", text)
    text = REFERENCE.sub(lambda found: found.group(1) or found.group(2), text)
    text = ESCAPE.sub(lambda found: found.group(1).strip(), text)
    return re.sub(f"{HIDDEN}(\\d+){HIDDEN}", lambda found: literals[int(found.group(1))], text)


def _role(found: re.Match[str]) -> str:
    shown = found.group().split("`")[1]
    if not found.group().startswith(":math:"):
        return TARGET.sub("", shown).lstrip("~!") or shown.strip("<> ")
    return shown.replace("\\", "\\\\")  # its backslashes are no escapes
