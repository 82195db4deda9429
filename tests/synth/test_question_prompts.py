import json
from dataclasses import replace

from dalm.config.query_types import ANSWER_TYPES, QUERY_TYPES
from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal
from dalm.records import Passage
from dalm.synth.query_mix import QueryMix, Slot
from dalm.synth.question_prompts import QuestionPrompt, requests_of

PASSAGES = [Passage.of(f"text {n}", "t") for n in range(5)]
MIX = QueryMix(2, {"question": 1.0}, {"short": 1.0}, ("fact",))
REQUESTS = requests_of(PASSAGES, MIX, "m", {"seed": 1})
LINE = (
    f'{{"key": "{REQUESTS[0].key}", "passage": "a6bde4390c5e21eb", "model": "m", '
    '"text": "said", "tokens_in": 3, "tokens_out": 2, "seconds": 0.5}\n'
)


def test_a_request_has_two_messages_and_a_schema():
    [request, *_] = REQUESTS
    assert [message["role"] for message in request.messages] == ["system", "user"]
    schema = request.response_format["json_schema"]["schema"]
    item = schema["properties"]["queries"]["items"]
    assert set(item["required"]) == {"type", "query", "answer", "quote"}
    assert item["properties"]["type"]["enum"] == ["question"]


def test_every_type_is_asked_for_in_its_own_words():
    slots = [Slot(name, each.answers[0]) for name, each in QUERY_TYPES.items()]
    [_, asked] = QuestionPrompt(tuple(slots)).messages(PASSAGES[0], None)
    for number, (name, each) in enumerate(QUERY_TYPES.items(), 1):
        answer = ANSWER_TYPES[each.answers[0]].meaning
        line = f'{number}. type "{name}": {each.meaning} (for example: {each.example})'
        assert f"{line}. Answer: {answer}." in asked["content"]
    [_, asked] = QuestionPrompt((Slot("question", "long", "why"),)).messages(PASSAGES[0], None)
    assert "), on a cause or a reason. Answer: one or two whole sentences." in asked["content"]


def test_the_key_is_of_passage_prompt_model_and_parameters():
    def key(passage=PASSAGES[0], model="m", seed=1, **changes) -> str:
        return requests_of([passage], replace(MIX, **changes), model, {"seed": seed})[0].key

    same = key()
    assert same == REQUESTS[0].key
    others = [
        key(passage=PASSAGES[1]),
        key(passage=Passage.of("text 0", "another title")),
        key(number=3),
        key(kinds=("why",)),
        key(model="n"),
        key(seed=2),
    ]
    assert len({same, *others}) == 7


def test_multi_passage_requests_are_of_neighbours_in_a_document():
    titles = ("a", "b", "a", "", "", "a")
    passages = [Passage.of(f"text {n}", title) for n, title in enumerate(titles)]
    asked = requests_of(
        passages, replace(MIX, number=1, query_types={"multi-passage": 1.0}), "m", {}
    )
    assert [(r.passage.text, r.other.text) for r in asked] == [
        ("text 0", "text 2"),
        ("text 2", "text 5"),
    ]
    mix = replace(MIX, number=1, query_types={"multi-passage": 1.0})
    ids = [replace(each, document=name) for each, name in zip(passages, "xyyxxz", strict=True)]
    asked = requests_of([*ids, ids[5]], mix, "m", {})
    assert [(r.passage.text[-1], r.other.text[-1]) for r in asked] == [
        ("0", "3"),
        ("1", "2"),
        ("3", "4"),
    ]
    shares = {"question": 0.5, "multi-passage": 0.5}
    both = requests_of(passages, replace(MIX, number=4, query_types=shares), "m", {})
    assert len(both) == 8, "one for each passage, and one for each with a next one"
    assert "text 2" in both[1].messages[1]["content"]
    assert "other_quote" in json.dumps(both[1].response_format)
    assert "other_quote" not in json.dumps(both[0].response_format)


def test_a_journal_of_an_earlier_release_is_still_read(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(LINE)
    with Journal(path) as journal:
        assert journal.get(REQUESTS[0].key) == Reply("said", 3, 2, 0.5)
