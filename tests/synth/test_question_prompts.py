import json

from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal
from dalm.records import Passage
from dalm.synth.question_prompts import QuestionPrompt, requests_of

PASSAGES = [Passage.of(f"text {n}", "t") for n in range(5)]
REQUESTS = requests_of(PASSAGES, QuestionPrompt(2, ("fact",)), "m", {"seed": 1})
LINE = (
    '{"key": "d21b6e6d1545b1818ff647100cb4a08d", "passage": "a6bde4390c5e21eb", "model": "m", '
    '"text": "said", "tokens_in": 3, "tokens_out": 2, "seconds": 0.5}\n'
)


def test_a_request_has_two_messages_and_a_schema():
    [request, *_] = REQUESTS
    assert [message["role"] for message in request.messages] == ["system", "user"]
    schema = request.response_format["json_schema"]["schema"]
    item = schema["properties"]["questions"]["items"]
    assert set(item["required"]) == {"question", "answer", "quote", "kind"}
    assert item["properties"]["kind"]["enum"] == ["fact"]


def test_the_key_is_of_passage_prompt_model_and_parameters():
    def key(passage=PASSAGES[0], prompt=None, model="m", seed=1) -> str:
        asked = prompt or QuestionPrompt(2, ("fact",))
        return requests_of([passage], asked, model, {"seed": seed})[0].key

    same = key()
    assert same == REQUESTS[0].key
    others = [
        key(passage=PASSAGES[1]),
        key(passage=Passage.of("text 0", "another title")),
        key(prompt=QuestionPrompt(3, ("fact",))),
        key(prompt=QuestionPrompt(2, ("why",))),
        key(model="n"),
        key(seed=2),
    ]
    assert len({same, *others}) == 7


def test_multi_passage_requests_are_of_neighbours_in_a_document():
    titles = ("a", "b", "a", "", "", "a")
    passages = [Passage.of(f"text {n}", title) for n, title in enumerate(titles)]
    asked = requests_of(passages, QuestionPrompt(1, ("multi-passage",)), "m", {})
    assert [(r.passage.text, r.other.text) for r in asked] == [
        ("text 0", "text 2"),
        ("text 2", "text 5"),
    ]
    both = requests_of(passages, QuestionPrompt(1, ("why", "multi-passage")), "m", {})
    assert len(both) == 8
    assert "text 2" in both[1].messages[1]["content"]
    assert "other_quote" in json.dumps(both[1].response_format)
    assert "other_quote" not in json.dumps(both[0].response_format)


def test_a_journal_of_an_earlier_release_is_still_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(LINE)
    with Journal(path) as journal:
        assert journal.get(REQUESTS[0].key) == Reply("said", 3, 2, 0.5)
