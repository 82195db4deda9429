"""Choose the questions that the page shows as examples: of the index, and found by it."""

import asyncio
import random
import time
from collections.abc import Iterator

from dalm.records import Passage
from dalm.retrieval import example_questions
from dalm.retrieval.example_questions import ExampleQuestion, found_by, is_presentable
from dalm.serving.open_index import OpenIndex
from dalm.serving.service import Service
from dalm.synth.extractive import extract
from dalm.synth.keywords import KeywordPicker
from dalm.synth.query_mix import Slot

SHOWN = 3
SECONDS = 5.0
"""Time in which questions are made and looked for, but for the search that is running then."""
SAMPLED = 100
"""Passages that questions are made from, where none are kept with the index."""
PATIENCE = 1.0
"""Seconds that a request waits for them; they are there for the next one."""


class PageExamples:
    """Example questions of the generation that is served, chosen once and checked each time."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._index: OpenIndex | None = None
        self._choosing: asyncio.Task[list[ExampleQuestion]] | None = None

    def start(self) -> asyncio.Task[list[ExampleQuestion]]:
        """Choose the questions of the generation that is served now, unless that is done."""
        index = self.service.index
        if self._choosing is None or self._index is not index:
            self.stop()
            self._index = index
            self._choosing = asyncio.create_task(self.service.run(self._chosen, index))
        return self._choosing

    def stop(self) -> None:
        """Choose no more."""
        if self._choosing is not None:
            self._choosing.cancel()
            self._choosing = None

    async def questions(self) -> list[str]:
        """Return the questions whose passages are there; none while they are being chosen."""
        choosing = self.start()
        await asyncio.wait({choosing}, timeout=PATIENCE)
        if not choosing.done() or choosing.cancelled():
            return []
        if choosing.exception() is not None:  # too many requests, or an index that is gone
            self.stop()
            return []
        chosen = choosing.result()
        there = await self.service.run(self._there, chosen)
        if len(there) < len(chosen):
            self.stop()  # others are chosen for the next request
        return [each.question for each in there]

    def _there(self, chosen: list[ExampleQuestion]) -> list[ExampleQuestion]:
        ids = [id_ for each in chosen for id_ in each.passages]
        there = self.service.index.generation.store.texts_of(ids)
        return [each for each in chosen if not there.keys().isdisjoint(each.passages)]

    def _chosen(self, index: OpenIndex) -> list[ExampleQuestion]:
        end = time.monotonic() + SECONDS

        def in_time(examples: Iterator[ExampleQuestion]) -> Iterator[ExampleQuestion]:
            for example in examples:
                if time.monotonic() > end or self.service.stopping:
                    return
                yield example

        searcher, store = index.searching(), index.generation.store
        kept = iter(example_questions.read(index.generation.folder))
        found = found_by(searcher, in_time(kept), store, SHOWN)
        if len(found) < SHOWN:
            made = in_time(_made(index))
            found += found_by(searcher, made, store, SHOWN - len(found))
        return found


def _made(index: OpenIndex) -> Iterator[ExampleQuestion]:
    """Yield questions that rules make of passages; the passages are drawn, and always the same."""
    store = index.generation.store
    ids = [id_ for (id_,) in store.select(("id",), index.searcher.where)]
    drawn = random.Random(0).sample(sorted(ids), min(len(ids), SAMPLED))
    passages = store.passages_of(drawn)
    ordered = [passages[id_] for id_ in drawn if id_ in passages]
    picker = KeywordPicker(ordered)
    for passage in ordered:
        yield from _questions_of(passage, picker)


def _questions_of(passage: Passage, picker: KeywordPicker) -> Iterator[ExampleQuestion]:
    for pair in extract(passage, [Slot("question", "short")], picker):
        if is_presentable(pair.query):
            yield ExampleQuestion(pair.query, (passage.id,))
