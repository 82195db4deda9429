"""Decide whether the tuned pair is better, and write the verdict and its page."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dalm import artifacts
from dalm.adaptation.state import State
from dalm.display import duration
from dalm.eval.report.page import write_verdict_page
from dalm.eval.summary import typed_command
from dalm.eval.verdict import FEEDBACK, GENERATED, GUARD, HUMAN, Part, verdict_of
from dalm.file_reading import DamagedError, read_record
from dalm.llm.response_cache import Journal
from dalm.synth.generation import JOURNAL

VERDICT, PAGE = "verdict.json", "verdict.html"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict as it is kept."""

    outcome: str
    headline: str
    switches: bool
    reasons: list[str]
    losses: list[str]


def read_outcome(folder: Path) -> Outcome | None:
    """Return the verdict of a system; None: there is none yet, or one to be made again."""
    if (folder / VERDICT).exists():
        with suppress(DamagedError):
            return read_record(folder / VERDICT, Outcome)
    return None


def write_verdict(folder: Path, evaluations: Mapping[str, Path]) -> None:
    """Write verdict.json, and verdict.html if anything was compared."""
    names = {"human": HUMAN, "feedback": FEEDBACK, "generated": GENERATED, "guard": GUARD}
    there = {each.name: each for each in evaluations.values() if (each / "results.json").exists()}
    parts = [Part.read(names[name], run) for name, run in there.items()]
    verdict = verdict_of(parts)
    kept = Outcome(
        verdict.outcome,
        verdict.headline,
        verdict.switches,
        list(verdict.reasons),
        list(verdict.losses),
    )
    (folder / PAGE).unlink(missing_ok=True)
    if parts:
        state = State(folder)
        write_verdict_page(
            folder / PAGE,
            verdict,
            parts,
            cost=cost_of(folder, state),
            command=typed_command(),
            stages={name: each.settings for name, each in state.stages.items() if each.settings},
        )
    artifacts.write_json(folder / VERDICT, asdict(kept))


def cost_of(folder: Path, state: State) -> dict[str, str]:
    """Return how long each finished stage took, in words, and what questions cost of a model."""
    cost = {name: duration(record.seconds) for name, record in state.stages.items()}
    journal = folder / "questions" / JOURNAL
    if "questions" in cost and journal.exists():
        with Journal(journal) as kept:
            asked = kept.replies
        cost["questions"] += (
            f", {asked.number:,} replies of a model: {asked.tokens_in:,} tokens read, "
            f"{asked.tokens_out:,} written"
        )
    return cost
