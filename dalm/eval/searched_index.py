"""Evaluate an index as it is searched and asked: generation, fusion, threshold and reranker."""

import logging
from dataclasses import fields
from typing import Any

from dalm.config import EvalRag, EvalRetriever
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.io.evaluation_set import EvaluationSet
from dalm.models.loading import placement_of
from dalm.models.reranker import Reranker
from dalm.records import Hit, Passage
from dalm.retrieval.hybrid import searcher_of
from dalm.retrieval.index_folder import IndexFolder
from dalm.retrieval.reranking import reranked

logger = logging.getLogger(__name__)

NO_EFFECT = (
    *("retriever_name_or_path", "retriever_peft_model_path", "retriever_is_autoregressive"),
    *("query_max_len", "passage_max_len", "query_prompt", "passage_prompt"),
    *("passages", "cache", "cache_dir"),
)
"""Options of a retriever, or of what it searches: the index has its own."""
NO_PLACE = ("baseline", "guard")
"""Options of systems that search something else than the index."""
TOGETHER = 500
"""Passages that are looked up at once."""


def check_search_index(config: EvalRetriever) -> None:
    """Refuse an evaluation of neither or both of a retriever and an index.

    Raises:
        UserError: names the options.
    """
    if config.search_index is None:
        if config.retriever_name_or_path is None:
            raise UserError("name a retriever, --retriever-name-or-path, or --search-index INDEX")
        return
    defaults = {each.name: each.default for each in fields(config)}
    for name in (*NO_EFFECT, *NO_PLACE):
        if getattr(config, name) == defaults[name]:
            continue
        if name in NO_PLACE:
            raise UserError(
                f"{spelled(name)} doesn't go with --search-index: evaluate that system by itself, "
                "and use dalm compare"
            )
        raise UserError(
            f"{spelled(name)} has no effect with --search-index, which has its own retriever and "
            f"passages; leave {spelled(name)} or --search-index out"
        )


class SearchedIndex:
    """An index in the place of a retriever and its passages."""

    def __init__(self, config: EvalRetriever, reranker: Reranker | None) -> None:
        assert config.search_index is not None
        self.folder = IndexFolder(config.search_index)
        self.generation = self.folder.current()
        placement = placement_of(config)
        self.searcher = searcher_of(self.generation, placement, config.search, None)
        self._behind_reranker = reranked(self.searcher, reranker, config.rerank_top)
        if isinstance(config, EvalRag) and config.answer_anyway:
            self.searcher.relevance = None

    @property
    def facts(self) -> dict[str, Any]:
        """What was searched, and how, for results and report."""
        relevance, mode = self.searcher.relevance, self.searcher.mode
        return {
            "passages": self.generation.store.count(),
            "search_index": {
                "folder": str(self.folder.path),
                "generation": self.generation.number,
                "retriever": self.generation.description.retriever,
                "search": mode,
                "dense_weight": self.searcher.dense_weight,
                "threshold": relevance.modes[mode]["threshold"] if relevance else None,
            },
        }

    def search(self, dataset: EvaluationSet, k: int) -> list[list[Hit]]:
        """Return each query's best passages of the index, and say which index it is."""
        found = self._behind_reranker.search([query.query for query in dataset.queries], k)
        facts = self.facts
        logger.info(
            "searched   %s, generation %d, %d passages, %s",
            *(self.folder.path, self.generation.number, facts["passages"], self.searcher.mode),
        )
        return found

    def with_documents(self, dataset: EvaluationSet) -> EvaluationSet:
        """Return the dataset with the documents of its relevant passages, as the index has them.

        Those that the index lacks are counted in a warning.
        """
        gold = sorted({each for query in dataset.queries for each in query.gold})
        there = dict[str, Passage]()
        for start in range(0, len(gold), TOGETHER):
            there |= self.generation.store.passages_of(gold[start : start + TOGETHER])
        if len(there) < len(gold):
            logger.warning(
                "searched   %d of %d relevant passages aren't in the index, and can't be found",
                *(len(gold) - len(there), len(gold)),
            )
        return dataset.with_documents_of(there.values())
