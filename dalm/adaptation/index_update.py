"""Bring the index of a system up to date, and switch it to another pair."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dalm
from dalm.adaptation.question_tables import Origin, read_counts, test_table
from dalm.adaptation.served_pair import Pair, ServedPairs
from dalm.adaptation.stage_options import settings_of
from dalm.retrieval.calibration import FEWEST_QUESTIONS


@dataclass(frozen=True, kw_only=True)
class IndexUpdate:
    """How the index of `passages` is built: `options` are the system's, `given` the user's."""

    pairs: ServedPairs
    passages: Path
    options: Mapping[str, Any]
    given: Mapping[str, Any]

    def run(self, wanted: Pair | None) -> None:
        """Bring the index up to date; in a new generation if another pair is `wanted`.

        The first generation is of the untuned pair, so that there is one to go back to and to
        compare with.
        """
        there = self.pairs.served()
        served = there or self.pairs.untuned
        if there is None:
            self._index(retriever_name_or_path=served.retriever)
        pair = self.pairs.keep(wanted, self.pairs.before(wanted)) if wanted else served
        if pair.retriever != served.retriever:
            self._index(retriever_name_or_path=pair.retriever, rebuild=True)
        elif there is not None:
            self._index(prune=True)
        self.pairs.drop_unused()

    def _index(self, **options: Any) -> None:
        options |= {"index_dir": str(self.pairs.index.path), **self.options}
        settings = settings_of("index", "index", options, self.given)
        dalm.command("index")([str(self.passages)], settings=settings)


def calibration_table(tables: Path, *, by_rules: bool) -> Path | None:
    """Return the held-out questions to calibrate an index by; None: there are none to trust.

    People's if they are enough, or else those of feedback, or generated ones. Questions made by
    rules (`by_rules`) repeat their passage's words: a threshold by them would refuse people's.
    """
    counts = read_counts(tables)
    origins: list[Origin] = ["human", "feedback"]
    if not by_rules:
        origins.append("generated")
    held_out = {each: counts[each].test for each in origins if each in counts and counts[each].test}
    enough = (origin for origin, number in held_out.items() if number >= FEWEST_QUESTIONS)
    most = max(held_out, key=lambda origin: held_out[origin], default=None)
    chosen = next(enough, most)
    return test_table(tables, chosen) if chosen else None
