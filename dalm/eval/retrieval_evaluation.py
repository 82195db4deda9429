"""Search a dataset with a retriever alone, fused with BM25 and behind a reranker; measure each."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from ir_measures import Measure

from dalm import distributed
from dalm.config import EvalRetriever
from dalm.eval.metrics import FIRST, Column
from dalm.eval.results import Results
from dalm.eval.retrieval_metrics import in_rank_order, measure_retrieval
from dalm.eval.searched_index import SearchedIndex
from dalm.io.evaluation_set import EvaluationSet
from dalm.models.cut_texts import tell_cut_queries
from dalm.models.retriever import Retriever
from dalm.progress import Stopwatch
from dalm.records import Hit
from dalm.retrieval.base import DenseSearcher
from dalm.retrieval.bm25 import BM25
from dalm.retrieval.embedding_cache import encode_passages_cached, folder_of
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.hybrid import DENSE_WEIGHT, POOL, weighted_sum
from dalm.retrieval.reranking import PairScorer, ordered

MOST_PASSAGES = 200_000
"""Above it nothing is searched with BM25: counting the words takes minutes."""

Rankings = Sequence[Sequence[Hit]]


class RetrievalEvaluation:
    """Search of one dataset, the same for every system.

    The retriever's own ranking is measured as `R@10`. The stages beside it are:

    BM25       what matching words alone finds, computed once for all systems
    fused      hybrid search of an index that isn't calibrated: the weighted sum of the z-scores of
               both rankings' `POOL` best hits; of more that are wanted the others follow
    reranked   the best hits of `fused` in the order of the reranker; of the retriever's own ranking
               if there are too many passages for BM25
    """

    def __init__(
        self,
        dataset: EvaluationSet,
        config: EvalRetriever,
        measures: Sequence[Measure],
        watch: Stopwatch,
        *,
        reranker: PairScorer | None = None,
    ) -> None:
        self.dataset, self.config, self.measures = dataset, config, measures
        self.watch, self.reranker = watch, reranker
        self.queries = [query.query for query in dataset.queries]
        self.depth = max(config.top_k, config.rerank_top if reranker else 0, POOL)
        self._scores: dict[tuple[str, str], float] = {}  # the reranker's

    def evaluate(self, name: str, retriever: Retriever | SearchedIndex, *, stages: bool) -> Results:
        """Return what a system finds, measured; with `stages`, also fused and reranked."""
        if isinstance(retriever, SearchedIndex):
            with self.watch.stage("searching"):
                hits = retriever.search(self.dataset, self.config.top_k)
            self.watch.count("searching", len(hits), "questions")
            self.dataset = retriever.with_documents(self.dataset)
            return self._measured(name, hits, {}, retriever.facts)
        found = self._dense(retriever)
        if not stages:
            return self._measured(name, found, {}, {})
        rankings = self._stages(found)
        facts: dict[str, Any] = {"fused": {"dense_weight": DENSE_WEIGHT, "hits": self.depth}}
        if self._words is None:
            count = len(self.dataset.passages)
            facts = {"not_fused": f"{count:,} passages are more than {MOST_PASSAGES:,}"}
        return self._measured(name, found, rankings, facts)

    def _dense(self, retriever: Retriever) -> Rankings:
        config, passages = self.config, list(self.dataset.passages.values())
        with self.watch.stage("encoding passages"):
            mine = distributed.share([passage.text for passage in passages])
            cache = folder_of(config.cache, config.cache_dir)
            vectors = encode_passages_cached(retriever, mine, cache)
            if distributed.world_size() > 1:
                vectors = torch.stack(distributed.gather_shares(list(vectors)))
        self.watch.count("encoding passages", len(passages), "passages")
        with self.watch.stage("searching"):
            searcher = DenseSearcher(retriever, ExactIndex(passages, vectors))
            hits = searcher.search(self.queries, self.depth)
        self.watch.count("searching", len(hits), "questions")
        tell_cut_queries(retriever, self.queries)
        return hits

    @cached_property
    def _words(self) -> Rankings | None:
        if len(self.dataset.passages) > MOST_PASSAGES:
            return None
        with self.watch.stage("searching with BM25"):
            # In the order of the ids, which decides between equal scores.
            passages = sorted(self.dataset.passages.values(), key=lambda each: each.id)
            return BM25(passages).search(self.queries, self.depth)

    def _stages(self, dense: Rankings) -> dict[str, Rankings]:
        found: dict[str, Rankings] = {}
        best = dense
        if self._words is not None:
            with self.watch.stage("fusing"):
                best = [_fused(*both) for both in zip(dense, self._words, strict=True)]
            found = {"BM25": self._words, "fused": best}
        if self.reranker is not None:
            with self.watch.stage("reranking"):
                found["reranked"] = self._reranked(self.reranker, best)
        return found

    def _reranked(self, reranker: PairScorer, hits: Rankings) -> Rankings:
        """Order the best hits; a pair that an earlier system has found isn't scored again."""
        top = max(self.config.top_k, self.config.rerank_top)
        rows = [(query, each[:top]) for query, each in zip(self.queries, hits, strict=True)]
        pairs = dict.fromkeys((query, hit.passage.text) for query, each in rows for hit in each)
        missing = [pair for pair in pairs if pair not in self._scores]
        scores = distributed.gather_shares(reranker.score_pairs(distributed.share(missing)))
        self._scores |= zip(missing, scores, strict=True)
        self.watch.count("reranking", len(missing), "passages")
        return [
            ordered(each, [self._scores[query, hit.passage.text] for hit in each])
            for query, each in rows
        ]

    def _measured(
        self,
        name: str,
        hits: Rankings,
        stages: Mapping[str, Rankings],
        facts: Mapping[str, Any],
    ) -> Results:
        queries, passages = self.dataset.queries, self.dataset.passages
        kept = [each[: self.config.top_k] for each in hits]
        columns: dict[str, Column] = self._columns(kept, self.measures)
        for stage, rankings in stages.items():
            measures = [*self.measures, FIRST] if stage == "BM25" else self.measures
            best = [in_rank_order(each)[: self.config.top_k] for each in rankings]
            measured = self._columns(best, measures)
            columns |= {f"{measure}[{stage}]": column for measure, column in measured.items()}
        gold = (passage for query in queries for passage in query.gold)
        return Results(
            name=name,
            queries=queries,
            hits=kept,
            measures=columns,
            gold={each: passages[each] for each in gold if each in passages},
            reranked=[each[: self.config.top_k] for each in stages.get("reranked", ())],
            facts=facts,
        )

    def _columns(self, hits: Rankings, measures: Sequence[Any]) -> dict[str, Column]:
        return measure_retrieval(hits, [query.relevant for query in self.dataset.queries], measures)


def _fused(dense: Sequence[Hit], words: Sequence[Hit]) -> list[Hit]:
    ranking = weighted_sum([(DENSE_WEIGHT, dense), (1 - DENSE_WEIGHT, words)])
    return [each.hit for each in ranking]
