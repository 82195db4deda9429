"""Build supervised fine-tuning prompts: passages and a question, drawn again in every epoch."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dalm.config import GeneratorOnly
from dalm.distributed import position
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.models.batching import Ragged
from dalm.models.cut_texts import count_behind, tell_cut_prompts
from dalm.models.generator import Generator
from dalm.models.prompt_frame import shares
from dalm.prompts import Prompt
from dalm.records import Example, Hit, Passage, distinct_by_id, gold_passages, question_id
from dalm.training.data.batches import (
    Batch,
    TrainingRows,
    distinct_passages,
    spread_rows,
)
from dalm.training.data.gold_passages import GoldPassages
from dalm.training.data.usable_rows import fitting


class SftRows(TrainingRows):
    """Hold questions with `reader_passages` passages each, joined to prompts when a batch is made.

    A fraction of the rows, `gold_probability`, has its gold passage in the prompt; the others have
    distractors only, so that the generator learns to ignore what doesn't help (RAFT, Zhang et al.
    2024, arXiv:2403.10131, section 3). `found` are each row's retrieved passages, best first: the
    distractors are the best of them that aren't gold. Without `found` they are drawn from the rows'
    own passages. No gold passage of the same question is a distractor, whichever row it stands in:
    where too few others are left, a prompt has fewer. Which rows have their gold passage, the draws
    and the order are drawn again in every epoch.

    Raises:
        UserError: too few passages for a prompt, or no row that fits into one.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        generator: Generator,
        *,
        reader_passages: int = 1,
        gold_probability: float = 1.0,
        found: Sequence[Sequence[Passage]] | None = None,
        seed: int = 0,
    ) -> None:
        self.generator = generator
        self.reader_passages, self.gold_probability = reader_passages, gold_probability
        self.seed = seed
        self.searched = found is not None
        if found is not None:
            examples = with_distractors(examples, found)
        queries = generator.tokenise_queries([example.query for example in examples])
        answers = generator.tokenise_answers([example.answer or "" for example in examples])
        kept = fitting(queries, answers, generator, reader_passages)
        self.queries = Ragged([queries[row] for row in kept])
        self.answers = Ragged([answers[row] for row in kept])
        examples = [examples[row] for row in kept]
        passages, self.gold, self.distractors = distinct_passages(examples)
        self.golds = GoldPassages(examples, self.gold)
        self._texts = [(e.passage.text if e.passage else "", e.answer) for e in examples]
        self.passages = Ragged(generator.tokenise_passages([passage.text for passage in passages]))
        self._check()

    def __len__(self) -> int:
        return len(self.gold)

    def describe(self) -> str:
        """Return a line on how much data there is."""
        return (
            f"{len(self)} questions, {int((self.gold >= 0).sum())} of them with a gold passage, "
            f"{len(self.passages)} distinct passages, {self.reader_passages} in a prompt"
        )

    def tell_cut(self) -> None:
        """Log in how many prompts passages are cut, and whose answers are lost."""
        whole = self._whole_lengths()
        cut = []
        for row in np.flatnonzero(whole > self.generator.max_length).tolist():
            if (gold := int(self.gold[row])) < 0:
                continue
            places = self._best(row)[: self.reader_passages]
            lengths = self.passages.lengths[places]
            room = self.generator.max_length - int(whole[row]) + int(lengths.sum())
            kept = shares(lengths.tolist(), max(room, 0))[0]
            cut.append((self.passages[gold].tolist(), kept, *self._texts[row]))
        tell_cut_prompts(self.generator, whole, count_behind(self.generator, cut))

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row's prompt has, its answer included."""
        lengths: np.ndarray = np.minimum(self._whole_lengths(), self.generator.max_length)
        return lengths

    def collate(self, rows: Sequence[int]) -> Batch:
        """Return a batch of prompts, for a rank alone."""
        return self._collate(rows, 0, 1)

    def collate_share(self, rows: Sequence[int]) -> Batch:
        """Return this rank's share of a batch of prompts."""
        return self._collate(rows, *position())

    def _collate(self, rows: Sequence[int], rank: int, ranks: int) -> Batch:
        random = self.random(rows)  # one for all ranks, so that they draw what one would
        drawn = [(row, self._drawn(row, random)) for row in rows]
        return {"prompts": [self._prompt(*each) for each in drawn[rank::ranks]]}

    def diagnostic_prompts(self, size: int) -> tuple[list[Prompt], list[Prompt]]:
        """Return prompts of `size` rows, the same in every run, with passages and without."""
        rows = spread_rows(len(self), size)
        best = [self._best(row)[: self.reader_passages] for row in rows]
        with_passages = [self._prompt(*pair) for pair in zip(rows, best, strict=True)]
        return with_passages, [self._prompt(row, []) for row in rows]

    def _best(self, row: int) -> list[int]:
        """Return the places of a row's passages: the gold one, then its distractors."""
        gold = int(self.gold[row])
        return [gold] * (gold >= 0) + self.distractors[row]

    def _drawn(self, row: int, random: np.random.Generator) -> list[int]:
        """Return the places of a row's passages, in random order."""
        gold = int(self.gold[row])
        has_gold = bool(random.random() < self.gold_probability) and gold >= 0
        count = self.reader_passages - has_gold
        if self.searched:
            others = self.distractors[row][:count]
        else:
            golds = self.golds.of(row)
            most = len(self.passages) - len(golds)
            places = random.choice(most, min(count, most), replace=False)
            # A place among the other passages is one further for each gold passage before it.
            before = np.searchsorted(golds - np.arange(len(golds)), places, "right")
            others = (places + before).tolist()
        drawn: list[int] = random.permutation([gold] * has_gold + others).tolist()
        return drawn

    def _prompt(self, row: int, places: Sequence[int]) -> Prompt:
        return self.generator.frame.join(
            [self.passages[place].tolist() for place in places],
            self.queries[row].tolist(),
            self.answers[row].tolist(),
            self.generator.max_length,
        )

    def _whole_lengths(self) -> np.ndarray:
        """Return the lengths of the prompts before passages are cut."""
        of_passages = self.passages.lengths
        typical = 0 if self.searched else int(of_passages.mean())
        read = []
        for row in range(len(self)):
            best = self._best(row)[: self.reader_passages]
            missing = self.reader_passages - len(best)
            read.append(int(of_passages[best].sum()) + typical * missing)
        overhead = self.generator.frame.overhead(self.reader_passages)
        whole: np.ndarray = overhead + self.queries.lengths + self.answers.lengths + np.array(read)
        return whole

    def _check(self) -> None:
        """Refuse too few passages for a prompt."""
        without_gold = self.gold_probability < 1 and bool((self.gold >= 0).any())
        needed, available = self.reader_passages + without_gold, len(self.passages)
        if available < needed:
            raise UserError(
                f"--reader-passages {self.reader_passages} needs {needed} distinct passages, and "
                f"there are {available}; lower it"
                + (" or set --gold-probability 1" if without_gold else "")
            )


def with_distractors(
    examples: Sequence[Example], found: Sequence[Sequence[Passage]]
) -> list[Example]:
    """Return the examples with distractors in place of hard negatives: found, and not gold."""
    golds = {
        question: {passage.id for passage in passages}
        for question, passages in gold_passages(examples).items()
    }
    chosen = []
    for example, passages in zip(examples, found, strict=True):
        gold = golds[question_id(example.query)]
        distractors = tuple(passage for passage in passages if passage.id not in gold)
        chosen.append(replace(example, negatives=distractors))
    return chosen


def search_distractors(
    examples: Sequence[Example],
    search: Callable[[Sequence[str], int], Sequence[Sequence[Hit]]],
    count: int,
) -> list[list[Passage]]:
    """Return each row's best passages: `count` at least that are not gold, if there are as many.

    The more gold passages a question has, the deeper is the search; each question is searched once.
    """
    golds = gold_passages(examples)
    depths: dict[str, int] = {}
    for example in examples:
        depths.setdefault(example.query, count + max(1, len(golds[question_id(example.query)])))
    found: dict[str, list[Passage]] = {}
    for depth in sorted(set(depths.values())):
        queries = [query for query, deep in depths.items() if deep == depth]
        hits = search(queries, depth)
        found |= {q: [hit.passage for hit in row] for q, row in zip(queries, hits, strict=True)}
    return [found[example.query] for example in examples]


def searched_passages(examples: Sequence[Example], settings: GeneratorOnly) -> list[Passage]:
    """Return the distinct passages to find distractors in: the examples' own and `--passages`.

    Raises:
        UserError: too few of them for a prompt, or a fraction of gold passages without any.
    """
    found = {p.id: p for p in distinct_by_id(e.passage for e in examples if e.passage)}
    if not found and settings.gold_probability is not None:
        raise UserError(
            "--gold-probability has no effect on a table without gold passages; leave it out"
        )
    for source in settings.passages or ():
        for passage in read_passages(source, settings):
            found.setdefault(passage.id, passage)
    if len(found) < settings.reads():
        raise UserError(
            f"--reader-passages {settings.reads()}: there are {len(found)} distinct passages; "
            "lower it, or name tables of passages with --retriever-name-or-path and --passages"
        )
    return list(found.values())
