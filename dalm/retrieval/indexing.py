"""Bring an index up to date with its passages: add, replace, delete; encode what isn't stored."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dalm import progress
from dalm.analyser import ANALYSER
from dalm.config import Index, check
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.models.counting_encoder import CountingEncoder, Encode, encode_counting
from dalm.models.loading import Placement, placement_of
from dalm.models.retriever import Retriever, load_retriever, retriever_from_config
from dalm.records import Passage, distinct_by_id
from dalm.retrieval.base import REBUILD, VectorStore
from dalm.retrieval.carrying_over import carry_over
from dalm.retrieval.conditions import Comparison, Joined, Like
from dalm.retrieval.embedding_cache import fingerprint, query_fingerprint
from dalm.retrieval.encoder_backend import TORCH, check_backend, use_backend
from dalm.retrieval.index_folder import FORMAT, Description, Generation, IndexFolder
from dalm.retrieval.passage_sources import CollectedPassages
from dalm.retrieval.store_kinds import DEFAULT, FP32, store_kind
from dalm.retrieval.stored_values import digest_of
from dalm.retrieval.where import KINDS, Columns
from dalm.scaling.pool import check_pool, pool_of

logger = logging.getLogger(__name__)

BLOCK = 2048
"""Passages that are encoded and stored at once: the most that a killed run encodes again."""

NOT_WITH_ROLLBACK = ("rebuild", "calibrate", "vectors", "strict", "encoder_backend", "ray")
RETRIEVER_OPTIONS = (
    "retriever_peft_model_path",
    "retriever_is_autoregressive",
    "query_max_len",
    "passage_max_len",
    "query_prompt",
    "passage_prompt",
)

EncodeBlocks = Callable[[Iterable[Sequence[str]]], Generator[Float[Tensor, "n dim"]]]
"""Yield the vectors of one block of texts after the other."""


def check_settings(source: Sequence[str] | None, settings: Index) -> None:
    """Refuse options that are out of range or have no effect.

    Raises:
        UserError: names the option, or asks for a source.
    """
    check(settings)
    check_pool(settings)
    check_backend(settings.encoder_backend)
    others = (source, *(getattr(settings, name) for name in NOT_WITH_ROLLBACK))
    if settings.rollback and any(others):
        raise UserError("--rollback does nothing else; leave the passages and other options out")
    if source or settings.rollback:
        return
    for name in ("prune", "rebuild", "strict", "ray"):
        if getattr(settings, name):
            raise UserError(f"--{name} needs the passages: name a table, or a folder of documents")
    if not settings.calibrate and settings.retriever_name_or_path is None:
        raise UserError("name passages to index: a table, or a folder of documents")


def check_retriever(folder: IndexFolder, source: Sequence[str] | None, settings: Index) -> None:
    """Refuse, before passages are read, what has no effect on the retriever, or needs one.

    Raises:
        UserError: names the option.
    """
    if not source:
        folder.complete_pointer()
    if settings.retriever_name_or_path is not None:
        return
    if folder.pointer is None:
        raise UserError("a new index needs a retriever: --retriever-name-or-path")
    for name in RETRIEVER_OPTIONS:
        if getattr(settings, name) is not None:
            raise UserError(
                f"{spelled(name)} has no effect on the retriever that built the index; leave it "
                "out, or name a retriever: --retriever-name-or-path, with --rebuild"
            )


def open_generation(folder: IndexFolder, settings: Index) -> tuple[Generation, Retriever]:
    """Return the generation to bring up to date, or a new one to be built, and its retriever.

    Raises:
        UserError: another retriever is named than the index has.
    """
    name, adapter = settings.retriever_name_or_path, settings.retriever_peft_model_path
    store = _store(settings, folder.described())
    backend = _backend(settings, folder.described())
    again = settings.rebuild and name is not None  # also if the current one is damaged
    current = folder.current(to_search=False) if folder.pointer and not again else None
    if name is not None:
        retriever = retriever_from_config(settings, name, placement_of(settings), adapter)
        use_backend(retriever, backend)
    else:
        assert current is not None
        retriever = retriever_of(current, placement_of(settings), backend)
        name, adapter = current.description.retriever, current.description.adapter
    description = _described(retriever, _absolute(name), adapter and _absolute(adapter), settings)
    description = replace(description, **store)
    if current is None or settings.rebuild:
        return folder.begin(description), retriever
    made = current.description
    if not made.made_like(description) and made.has_vectors_like(description):
        return _with_other_queries(folder, current, description, settings), retriever
    if not made.made_like(description):
        raise UserError(
            f"the index in {folder.path} is of the retriever {made.retriever}, with "
            f"other weights, lengths or prompts than {name}; leave --retriever-name-or-path out, "
            "or add --rebuild to build a new generation with this one"
        )
    names = ("retriever", "adapter", "query_fingerprint")
    current.describe(replace(made, **{name: getattr(description, name) for name in names}))
    return current, retriever


def _with_other_queries(
    folder: IndexFolder, current: Generation, description: Description, settings: Index
) -> Generation:
    """Return a new generation with the passages of the present one, and their vectors."""
    generation = folder.begin(description)
    carry_over(current, generation)
    if current.description.dense_weight is not None and not settings.calibrate:
        logger.warning(
            "the weight of the dense scores and the threshold were found with the retriever before "
            "and aren't kept; find them again: --calibrate QUESTIONS"
        )
    return generation


def _store(settings: Index, made: Description | None) -> dict[str, Any]:
    """Return the store of a generation, its address, and its vectors: as named, or as the index's.

    Raises:
        UserError: no such store, or none with such vectors, a package or an address is missing, a
            server can't be used, or an index is kept otherwise and isn't to be rebuilt.
    """
    name = settings.store or (made.store if made else DEFAULT)
    kind = store_kind(name)
    same = made is not None and made.store == name
    url = kind.kept_url(settings.store_url or (made.url if made and same else None))
    if made and not settings.rebuild and (name, url) != (made.store, made.url):
        raise UserError(
            f"the index in {settings.index_dir} is in the store {made.store}"
            f"{f' at {made.url}' if made.url else ''}; leave --store and --store-url out, or add "
            "--rebuild to build a new generation in another"
        )
    vectors = settings.vectors or (made.vectors if made else FP32)
    if made and not settings.rebuild and vectors != made.vectors:
        raise UserError(
            f"the index in {settings.index_dir} has {made.vectors} vectors; leave --vectors "
            f"{vectors} out, or add --rebuild to build a new generation with them"
        )
    if made is None or settings.rebuild:
        kind.check_vectors(vectors)
        kind.check_server(settings.store_url or url)
    return {"store": name, "url": url, "vectors": vectors}


def _backend(settings: Index, made: Description | None) -> str:
    """Return what computes a generation's vectors: as named, or as the index's.

    Raises:
        UserError: an index has vectors of another backend and isn't to be rebuilt.
    """
    backend = settings.encoder_backend or (made.encoder_backend if made else TORCH)
    if made and not settings.rebuild and backend != made.encoder_backend:
        raise UserError(
            f"the index in {settings.index_dir} is encoded by {made.encoder_backend}; leave "
            f"--encoder-backend {backend} out, or add --rebuild to build a new generation by it"
        )
    return backend


def _absolute(name: str) -> str:
    """Return a folder's absolute path, and a hub name as it is."""
    return str(user_path(name).absolute()) if user_path(name).exists() else name


def _described(
    retriever: Retriever, name: str, adapter: str | None, settings: Index
) -> Description:
    query, passage = retriever.sides["query"], retriever.sides["passage"]
    return Description(
        format=FORMAT,
        retriever=name,
        adapter=adapter,
        fingerprint=fingerprint(retriever, with_precision=False),
        encoder_backend=retriever.backend,
        query_fingerprint=query_fingerprint(retriever),
        dim=retriever.dim,
        query_prompt=query.prompt,
        passage_prompt=passage.prompt,
        query_max_len=query.max_len,
        passage_max_len=passage.max_len,
        retriever_is_autoregressive=settings.retriever_is_autoregressive,
        columns={},
        analyser=ANALYSER,
    )


def retriever_of(
    generation: Generation, placement: Placement, backend: str | None = None
) -> Retriever:
    """Load the retriever that made a generation, to encode by its backend or by another.

    Raises:
        UserError: it is gone, or another one has taken its place.
    """
    made = generation.description
    return _described_retriever(made, generation.folder, placement, backend)


def _described_retriever(
    made: Description, folder: Path, placement: Placement, backend: str | None
) -> Retriever:
    retriever = load_retriever(
        made.retriever,
        placement,
        adapter=made.adapter,
        lengths={"query": made.query_max_len, "passage": made.passage_max_len},
        prompts={"query": made.query_prompt, "passage": made.passage_prompt},
        is_autoregressive=made.retriever_is_autoregressive,
    )
    of_queries = made.query_fingerprint
    if fingerprint(retriever, with_precision=False) != made.fingerprint or (
        of_queries is not None and query_fingerprint(retriever) != of_queries
    ):
        raise UserError(
            f"the retriever in {made.adapter or made.retriever} is no longer the one that built "
            f"the index in {folder}; put it back, or {REBUILD}"
        )
    use_backend(retriever, backend or made.encoder_backend, f"the index in {folder}")
    return retriever


def encoder_of(generation: Generation, retriever: Retriever, settings: Index) -> CountingEncoder:
    """Return the encoder of a generation's passages: its retriever, here or in a Ray cluster."""
    pinned = replace(settings, precision=retriever.placement.precision)
    made, folder = generation.description, generation.folder
    make = partial(_encode_elsewhere, made, folder, pinned, retriever.backend)
    if settings.ray is None:
        return CountingEncoder(retriever)
    return CountingEncoder(retriever, pool_of(settings), make)


def _encode_elsewhere(made: Description, folder: Path, settings: Index, backend: str) -> Encode:
    """Load the retriever of an index in another process, and check that it is the same."""
    retriever = _described_retriever(made, folder, placement_of(settings), backend)
    return partial(encode_counting, retriever)


@dataclass(slots=True)
class Changes:
    """What an update did to an index, in passages."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0
    """Passages of the index that its source has no more."""
    deleted: int = 0

    def log(self, why_kept: str | None = None) -> None:
        """Say the counts, and why passages that are gone were kept though they were to go."""
        logger.info(
            "passages   %d new, %d changed, %d unchanged", self.new, self.changed, self.unchanged
        )
        if self.deleted:
            logger.info("deleted    %d that the source has no more", self.deleted)
        elif self.gone:
            level = logging.WARNING if why_kept else logging.INFO
            why = why_kept or "--prune deletes them"
            logger.log(level, "kept       %d that the source has no more; %s", self.gone, why)


def bring_up_to_date(
    generation: Generation, passages: CollectedPassages, encode: EncodeBlocks, *, prune: bool
) -> None:
    """Let a generation have the passages of its source, and log what has changed.

    With `prune` what the source has no more is deleted, unless it may be in what couldn't be read.

    Raises:
        UserError: documents were split with other options before, and `prune` isn't given.
    """
    made, store = generation.description, generation.store
    _check_chunking(generation, passages.chunking, prune=prune)
    generation.extend_columns(passages.columns)
    _tell_other_types(store.columns, passages.columns)
    why_kept = _why_kept(store, passages) if prune else None
    prune = (prune or generation.follows_source) and why_kept is None
    update(store, passages, encode, prune=prune).log(why_kept)
    if passages.chunking and (prune or not made.chunking):
        generation.describe(replace(generation.description, chunking=passages.chunking))


def _tell_other_types(kept: Columns, read: Columns) -> None:
    """Warn of columns whose values conditions don't see: the index has them with another type."""
    for name, kind in read.items():
        if kept[name] not in (kind, str) and (kept[name], kind) != (float, int):
            logger.warning(
                "column     %s holds %s in this index, and %s in what was read now: conditions "
                "don't see values of another type; --rebuild gives the column one for all",
                *(name, KINDS[kept[name]], KINDS[kind]),
            )


def _check_chunking(generation: Generation, chunking: dict[str, Any], *, prune: bool) -> None:
    made = generation.description.chunking
    others = [name for name in chunking if name in made and made[name] != chunking[name]]
    if others and not prune and not generation.follows_source:
        options = ", ".join(f"{spelled(name)} {made[name]}" for name in others)
        raise UserError(
            f"the documents of this index were split with {options}; use that again, or add "
            "--prune to replace their passages"
        )


def _why_kept(store: VectorStore, passages: CollectedPassages) -> str | None:
    """Return why nothing can be deleted: what couldn't be read may have passages in the index."""
    if passages.unread_rows:
        return f"{passages.unread_rows} rows couldn't be read, and may be among them"
    for source in (each.source for each in passages.unread if not each.part):
        within = (Like("source", f"{source}{end}%") for end in ("/", ", "))
        if store.count(Joined(True, (Comparison("source", "=", source), *within))):
            return f"{source} couldn't be read, and has passages in the index: mend or delete it"
    return None


def update(
    store: VectorStore, passages: Iterable[Passage], encode: EncodeBlocks, *, prune: bool
) -> Changes:
    """Store the passages that are new or changed; with `prune` delete what isn't among them.

    A passage is known by its id. One whose text is the same keeps its vector. Blocks are stored one
    by one, so that an update that was killed goes on where it was. Of a collection in a file no
    more than a block is in memory.
    """
    if not isinstance(passages, CollectedPassages):
        passages = distinct_by_id(passages)
    known = store.digests()
    changes, is_stale, there = Changes(), bytearray(len(passages)), set[str]()
    for place, passage in enumerate(passages):
        digest = known.pop(passage.id, None)
        if digest == digest_of(passage):
            changes.unchanged += 1
            continue
        is_stale[place] = True
        if digest is not None:
            there.add(passage.id)
    stale = sum(is_stale)
    changes.new, changes.changed, changes.gone = stale - len(there), len(there), len(known)

    def blocks() -> Iterator[_Block]:
        left = (passage for place, passage in enumerate(passages) if is_stale[place])
        while block := list(islice(left, BLOCK)):
            changed = [passage for passage in block if passage.id in there]
            yield _Block(block, _vectors_kept(store, changed))

    # Read twice: an encoder that works ahead, elsewhere, would hold what it is ahead of.
    texts = (texts for block in blocks() if (texts := block.texts()))
    with progress.Bar(stale, "indexing", "passages") as bar, closing(encode(texts)) as encoded:
        for block in blocks():
            store.add(block.passages, block.vectors(encoded))
            bar.update(len(block.passages))
    if prune and known:
        changes.deleted = store.delete(list(known))
    return changes


@dataclass(frozen=True, slots=True)
class _Block:
    """Passages to be stored, and the vectors that the store has of them."""

    passages: list[Passage]
    kept: dict[str, Tensor]

    def texts(self) -> list[str]:
        """Return the texts to be encoded."""
        return [passage.text for passage in self.passages if passage.id not in self.kept]

    def vectors(self, encoded: Iterator[Tensor]) -> Float[Tensor, "n dim"]:
        """Return all vectors, those of `texts` from the next that are encoded."""
        missing = [passage.id for passage in self.passages if passage.id not in self.kept]
        vectors = dict(self.kept)
        if missing:
            vectors |= dict(zip(missing, next(encoded).cpu(), strict=True))
        return torch.stack([vectors[passage.id] for passage in self.passages])


def _vectors_kept(store: VectorStore, changed: Sequence[Passage]) -> dict[str, Tensor]:
    """Return the vectors of those passages whose texts are in the store as they are."""
    texts = store.texts_of([passage.id for passage in changed])
    same = [passage.id for passage in changed if texts.get(passage.id) == passage.text]
    return dict(zip(same, store.vectors_of(same), strict=True))
