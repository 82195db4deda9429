"""Count the texts that a maximum length cuts, and the answers that lie behind the cut."""

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.models.retriever_sides import Kind

logger = logging.getLogger(__name__)


def characters_read(
    retriever: Retriever, texts: Sequence[str], lengths: Sequence[int] | np.ndarray, kind: Kind
) -> dict[int, int]:
    """Return how many characters are read of each text that is cut, by its place.

    `lengths` are those of the tokens that `retriever.tokenise` gave. Only texts of the maximum
    length can be cut, and only these are tokenised again.
    """
    longest = retriever.sides[kind].max_len
    found = {}
    for place in np.flatnonzero(np.asarray(lengths) >= longest).tolist():
        end = _end_of_tokens(retriever, texts[place], kind)
        if texts[place][end:].strip():
            found[place] = end
    return found


def _end_of_tokens(retriever: Retriever, text: str, kind: Kind) -> int:
    """Return where in a text its last token ends that is read."""
    side, tokenizer = retriever.sides[kind], retriever.tokenizer(kind)
    whole = side.prompt + text
    if hasattr(tokenizer, "encode_batch"):  # of static embeddings
        offsets = tokenizer.encode(whole, add_special_tokens=False).offsets[: side.max_len]
    elif tokenizer.is_fast:
        limits = {"truncation": True, "max_length": side.max_len}
        offsets = tokenizer(whole, return_offsets_mapping=True, **limits)["offset_mapping"]
    else:  # no offsets: by the share of its tokens that are read
        tokens = len(tokenizer(whole)["input_ids"])
        return int(len(text) * min(1.0, side.max_len / max(tokens, 1)))
    return max(0, max((end for _, end in offsets), default=0) - len(side.prompt))


def is_behind(answer: str | None, text: str, read: int) -> bool:
    """Return whether a text holds an answer, and not in the characters that are read."""
    if not answer or not (wanted := answer.casefold().strip()):
        return False
    folded = text.casefold()
    return wanted in folded and wanted not in folded[:read]


def tell_cut_texts(
    retriever: Retriever,
    kind: Kind,
    cut: int,
    total: int,
    behind: int = 0,
) -> None:
    """Log how many of the passages or queries are cut, and what would change that.

    `behind` is the number of questions whose answer isn't read.
    """
    what, longest = ("questions" if kind == "query" else "passages"), retriever.sides[kind].max_len
    if not cut:
        logger.info("lengths    none of %s %s is cut at %d tokens", f"{total:,}", what, longest)
        return
    lost = f"; the answers of {behind:,} questions lie behind the cut" if behind else ""
    logger.warning(
        "lengths    %s of %s %s are cut at %d tokens%s; %s",
        *(f"{cut:,}", f"{total:,}", what, longest, lost, _remedy(retriever, kind)),
    )


def tell_cut_queries(retriever: Retriever, queries: Sequence[str]) -> None:
    """Log how many of the queries are cut, and what would change that."""
    tell_cut_texts(retriever, "query", count_cut_queries(retriever, queries), len(queries))


def count_cut_queries(retriever: Retriever, queries: Sequence[str]) -> int:
    """Return how many of the queries are longer than the retriever reads."""
    lengths = [len(row) for row in retriever.tokenise(queries, "query")]
    return len(characters_read(retriever, queries, lengths, "query"))


def tell_queries_cut_by_index(retriever: Retriever, queries: Sequence[str]) -> None:
    """Warn of queries to an index that are longer than its retriever reads."""
    if not (cut := count_cut_queries(retriever, queries)):
        return
    side, most = retriever.sides["query"], retriever.longest
    remedy = "the retriever takes no more"
    if most is None or side.max_len < most:
        remedy = "dalm index --retriever-name-or-path RETRIEVER --query-max-len N has more read"
        remedy += f" (at most {most})" if most else ""
    logger.warning(
        "lengths    %s of %s questions are cut at %d tokens in the search by meaning; %s",
        *(f"{cut:,}", f"{len(queries):,}", side.max_len, remedy),
    )


def _remedy(retriever: Retriever, kind: Kind) -> str:
    side, most = retriever.sides[kind], retriever.longest
    raised = ""
    if most is None or side.max_len < most:
        raised = f"raise --{kind}-max-len" + (f" (at most {most})" if most else "")
    if kind == "query":
        return raised or "the retriever takes no more"
    prompt = len(retriever.tokenise([""], kind)[0]) - _special(retriever, kind)
    shorter = (
        f"make shorter ones: dalm passages --max-tokens {max(32, side.max_len - prompt)} "
        f"--tokenizer {retriever.name}"
    )
    return f"{raised}, or {shorter}" if raised else shorter


def _special(retriever: Retriever, kind: Kind) -> int:
    count = getattr(retriever.tokenizer(kind), "num_special_tokens_to_add", None)
    return int(count(False)) if count else 0


# Prompts of a generator


def tell_cut_prompts(generator: Generator, whole: np.ndarray, behind: int) -> None:
    """Log in how many prompts passages are cut, and what would change that.

    `whole` are the lengths of the prompts with their answers before anything is cut, `behind` the
    number of those in which the gold passage is cut before the answer.
    """
    longest, most = generator.max_length, generator.longest
    cut = int((whole > longest).sum())
    if not cut:
        logger.info("lengths    none of %s prompts is cut at %d tokens", f"{len(whole):,}", longest)
        return
    fits = int(np.quantile(whole, 0.9))
    remedy = f"--generator-max-len {fits} fits 90 % of all"
    if most is not None and fits > most:
        remedy = f"the generator takes at most {most} tokens: use fewer or shorter passages"
        remedy += f", or --generator-max-len {most}" if longest < most else ""
    elif fits <= longest:
        remedy = f"--generator-max-len {int(whole.max())} fits all"
    lost = f"; in {behind:,} of them the answer lies behind the cut" if behind else ""
    logger.warning(
        "lengths    in %s of %s prompts passages are cut at %d tokens (--generator-max-len)%s; %s",
        *(f"{cut:,}", f"{len(whole):,}", longest, lost, remedy),
    )


def count_behind(
    generator: Generator, cut: Iterable[tuple[Sequence[int], int, str, str | None]]
) -> int:
    """Return how many answers lie behind the cut of their passage.

    Of each prompt: the passage's tokens, how many of them are read, its text, and the answer.
    """
    count = 0
    for tokens, kept, text, answer in cut:
        read = generator.tokenizer.decode(list(tokens[:kept]), skip_special_tokens=False)
        held = " ".join(text.casefold().split())
        wanted = " ".join((answer or "").casefold().split())
        seen = " ".join(read.casefold().split())
        count += bool(wanted) and wanted in held and wanted not in seen
    return count
