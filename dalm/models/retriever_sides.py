"""Choose the prompt and the length of each side of a retriever, queries and passages."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from dalm.errors import UserError
from dalm.file_reading import read_record, user_path

Kind = Literal["query", "passage"]
TASKS: Mapping[Kind, str] = {"query": "query", "passage": "document"}
"""What sentence-transformers calls the sides."""
DEFAULT_LENGTHS: Mapping[Kind, int] = {"query": 50, "passage": 256}
"""Tokens of a text, where neither an option nor the model says; a model that takes fewer has its
own maximum."""
_PROMPT_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "query": ("query",),
    "passage": ("document", "passage", "corpus"),
}


@dataclass(frozen=True)
class SavedSides:
    """What training wrote into a retriever's folder; None where nothing is known."""

    query_prompt: str | None = None
    query_max_len: Annotated[int | None, 1] = None
    passage_prompt: str | None = None
    passage_max_len: Annotated[int | None, 1] = None
    adapts_queries_alone: bool | None = None
    passages_by: str | None = None
    matryoshka_dims: list[int] | None = None


def saved_sides(*folders: str | None) -> dict[str, Any]:
    """Return what the dalm.json of each folder says, the last one first.

    Raises:
        DamagedError: one can't be read, or a value has another type.
    """
    saved: dict[str, Any] = {}
    for folder in folders:
        file = user_path(folder or "") / "dalm.json"
        if folder is not None and os.path.lexists(file):
            found = read_record(file, SavedSides, "export the model again")
            saved |= {name: value for name, value in vars(found).items() if value is not None}
    return saved


@dataclass(frozen=True, slots=True)
class Side:
    """How one side of the retriever, queries or passages, tokenises a text."""

    prompt: str
    max_len: int


def choose_sides(
    name: str,
    own_prompts: Mapping[str, str | None],
    saved: Mapping[str, Any],
    longest: int | None,
    *,
    lengths: Mapping[Kind, int | None],
    prompts: Mapping[Kind, str | None],
) -> dict[Kind, Side]:
    """Return prompts and lengths as given, else as saved, else by the model's name, else defaults.

    `own_prompts` are those of the model's files, `saved` is what training wrote, `longest` the
    number of tokens that the model takes; None: there is no limit.

    Raises:
        UserError: a length over the model's maximum.
    """
    sides: dict[Kind, Side] = {}
    for kind, by_name in zip(DEFAULT_LENGTHS, retriever_prompts(name), strict=True):
        prompt = prompts.get(kind)
        if prompt is None:
            own = next(filter(None, map(own_prompts.get, _PROMPT_NAMES[kind])), by_name)
            prompt = saved.get(f"{kind}_prompt", own)
        given = lengths.get(kind)
        length = given or saved.get(f"{kind}_max_len", DEFAULT_LENGTHS[kind])
        if longest is not None and length > longest:
            if given is not None:
                raise UserError(
                    f"--{kind}-max-len {given}: retriever {name} takes at most {longest} tokens"
                )
            length = longest
        sides[kind] = Side(prompt, length)
    return sides


# Prompts that embedding models were trained with but do not carry in their folders.
# Sources: the model cards of intfloat/e5-* and BAAI/bge-*.
_FAMILIES = (
    (re.compile(r"(^|[/_-])(multilingual-)?e5-(small|base|large)(-v2)?$"), "query: ", "passage: "),
    (
        re.compile(r"(^|[/_-])bge-(small|base|large)-en(-v1\.5)?$"),
        "Represent this sentence for searching relevant passages: ",
        "",
    ),
    (
        re.compile(r"(^|[/_-])bge-(small|base|large)-zh(-v1\.5)?$"),
        "为这个句子生成表示以用于检索相关文章：",
        "",
    ),
)


def retriever_prompts(name: str) -> tuple[str, str]:
    """Return the texts that an embedding model of this name wants before a query and a passage."""
    for pattern, query, passage in _FAMILIES:
        if pattern.search(name.rstrip("/")):
            return query, passage
    return "", ""
