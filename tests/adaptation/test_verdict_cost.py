"""What an adaptation cost: the time of each stage, and what a model was asked for questions."""

from pathlib import Path

from dalm.adaptation.state import Record, State
from dalm.adaptation.verdict_page import cost_of
from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal
from dalm.synth.generation import JOURNAL


class _Request:
    def __init__(self, key: str) -> None:
        self.key, self.about, self.response_format = key, {}, None


def test_the_replies_of_a_model_are_counted(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.finish("passages", Record({}, {}, seconds=3.2))
    state.finish("questions", Record({}, {}, seconds=300))
    assert cost_of(tmp_path, state) == {"passages": "3 s", "questions": "5 min"}
    (tmp_path / "questions").mkdir()
    with Journal(tmp_path / "questions" / JOURNAL) as journal:
        for place in range(3):
            reply = Reply(text="[]", tokens_in=1000, tokens_out=place, seconds=1.0)
            journal.add(_Request(str(place)), reply, "m")  # type: ignore[arg-type]
    found = cost_of(tmp_path, state)["questions"]
    assert found == "5 min, 3 replies of a model: 3,000 tokens read, 3 written"
