"""Options of `dalm passages`."""

from dataclasses import dataclass

from dalm.settings.declaring import option, panel


@panel("Passages")
@dataclass(frozen=True, kw_only=True)
class PassageLengths:
    """How long a passage is."""

    max_words: int = option(100, least=8)
    """Longest passage in words; a Chinese or Japanese sign is a word. --max-tokens goes before."""
    max_tokens: int | None = option(None, least=32, needs={"tokenizer": None})
    """Longest passage in the tokens of --tokenizer, the special ones it adds among them."""
    tokenizer: str | None = option(None, needs={"max_tokens": None})
    """Tokenizer by folder or hub name, such as that of the retriever to be trained."""
    overlap: int = option(0, least=0)
    """Words (or tokens) of a passage's end that the next one may repeat, in whole sentences."""
    min_words: int = option(5, least=1)
    """Shortest document and section; a shorter section goes along with its neighbour."""
    near_duplicates: float = option(0.8, least=0.5, most=1)
    """Jaccard similarity of word triples from which a passage is left out; 1: none is."""


@panel("Documents")
@dataclass(frozen=True, kw_only=True)
class DocumentReading:
    """How documents are read."""

    text_column: str | None = None
    """Column with the text, in JSON a path (`data.body`); by default passage, text, body, ..."""
    title_column: str | None = None
    """Column with the title; by default title, if it is there."""
    encoding: str = "utf-8"
    """Encoding of texts that don't name their own."""
    max_megabytes: int = option(64, least=1)
    """Largest file, text unpacked from one, or row of a table; larger ones are left unread."""
    processes: int = option(1, least=1)
    """Processes that read and cut."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class PassageOutput:
    """Where the passages go."""

    output: str
    """File to write, .jsonl; one that is there grows by what is new."""
    overwrite_output: bool = option(False, kept=False)
    """Make the file anew instead."""


@dataclass(frozen=True, kw_only=True)
class Passages(PassageLengths, DocumentReading, PassageOutput):
    """Options of `dalm passages`."""
