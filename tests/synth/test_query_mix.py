from collections import Counter
from dataclasses import replace
from math import isclose
from pathlib import Path

import pytest

from dalm.config import QaGen
from dalm.config.query_types import (
    ANSWER_TYPES,
    DEFAULT_ANSWERS,
    EXAMPLE_PASSAGE,
    QUERY_TYPES,
    default_shares,
)
from dalm.errors import UserError
from dalm.records import Passage
from dalm.synth.filters import apply_filters
from dalm.synth.pairs import Pair
from dalm.synth.query_checks import FORMS, answer_type_of, overlap
from dalm.synth.query_mix import QueryMix

ROOT = Path(__file__).parents[2]
MODEL = {"backend": "http", "generator_name_or_path": "m", "base_url": "http://x"}


def test_every_type_has_a_check_that_its_example_passes():
    assert set(FORMS) == set(QUERY_TYPES)
    for each in QUERY_TYPES.values():
        assert FORMS[each.name](each.example) is None, each.name
        assert set(each.answers) <= set(ANSWER_TYPES)
        assert answer_type_of(each.example_answer) in each.answers, each.name
        if each.name != "multi-passage":  # of which the example shows one passage only
            passage = Passage.of(EXAMPLE_PASSAGE)
            pair = Pair(passage, each.example, each.example_answer, passage.text, None, "m", "1")
            rejections = []
            pair = replace(pair, query_type=each.name)
            assert apply_filters([pair], rejections), rejections


def test_every_type_is_in_help_and_documentation():
    help_text = " ".join((ROOT / "docs/commands.md").read_text().split())
    page = (ROOT / "docs/questions.md").read_text()
    for each in (*QUERY_TYPES.values(), *ANSWER_TYPES.values()):
        assert f"{each.name}: {each.meaning}" in help_text
        assert f"| `{each.name}` |" in page


def test_default_shares_sum_to_one():
    for shares in (default_shares(rules=True), default_shares(rules=False), DEFAULT_ANSWERS):
        assert isclose(sum(shares.values()), 1)


@pytest.mark.parametrize(
    ("given", "shares"),
    [
        (["question=3", "keywords=1"], {"question": 0.75, "keywords": 0.25}),
        (["question", "claim"], {"question": 0.5, "claim": 0.5}),
        (["question=0.2", "title=0"], {"question": 1.0}),
    ],
)
def test_shares_are_divided_by_their_sum(given, shares):
    assert QueryMix.of(QaGen(**MODEL, query_types=given)).query_types == shares


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"query_types": ["questoin"]},
            "--query-types questoin: no such type; there are question,",
        ),
        ({"query_types": ["title", "title=2"]}, "title is named twice"),
        ({"query_types": ["title=-1"]}, "title=-1: the share must be a number of at least 0"),
        ({"query_types": ["title=much"]}, "title=much: the share must be a number"),
        ({"query_types": ["title=nan"]}, "title=nan: the share must be a number"),
        ({"query_types": ["title=0"]}, "all shares are 0"),
        ({"answer_types": ["brief"]}, "--answer-types brief: no such type"),
        ({"reply_format": "lines", "answer_types": ["list"]}, "--answer-types has no effect with"),
        ({"reply_format": "lines", "kinds": ["why"]}, "--kinds has no effect with"),
        (
            {"reply_format": "lines", "query_types": ["multi-passage"]},
            "multi-passage has no effect",
        ),
    ],
)
def test_mistakes_name_the_value_and_the_remedy(options, said):
    with pytest.raises(UserError, match=said):
        QueryMix.of(QaGen(**MODEL, **options))


def test_rules_refuse_what_they_can_not_make():
    with pytest.raises(UserError, match="claim: rules can't make it, only question, keywords, tit"):
        QueryMix.of(QaGen(query_types=["question", "claim"]))


def test_what_is_drawn_has_the_shares_and_depends_on_the_passage_alone():
    mix = QueryMix.of(QaGen(**MODEL, answer_types=["short=0.5", "list=0.3", "unanswerable=0.2"]))
    slots = [slot for number in range(2000) for slot in mix.slots(f"p{number}")]
    assert slots[:3] == mix.slots("p0")
    types = Counter(slot.query_type for slot in slots)
    for name, share in default_shares(rules=False).items():
        assert abs(types[name] / len(slots) - share) < 0.02
    answers = Counter(slot.answer_type for slot in slots if slot.query_type == "question")
    for name, share in {"short": 0.5, "list": 0.3, "unanswerable": 0.2}.items():
        assert abs(answers[name] / types["question"] - share) < 0.04
    assert {slot.answer_type for slot in slots if slot.query_type == "claim"} == {"yes-no"}
    kinds = Counter(slot.kind for slot in slots if slot.query_type == "question")
    assert set(kinds) == {"fact", "why", "how", "compare", None}
    assert all(
        (slot.kind is None) == (slot.query_type != "question" or slot.answer_type == "unanswerable")
        for slot in slots
    )


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("12 bar", "short"),
        ("Yes, at 12 bar", "yes-no"),
        ("nein", "yes-no"),
        ("oil; water; steam", "list"),
        ("oil;", "short"),
        ("It was switched off because its seals leak above that pressure.", "long"),
    ],
)
def test_an_answer_is_of_the_type_of_its_form(answer, name):
    assert answer_type_of(answer) == name


@pytest.mark.parametrize(
    ("query", "share"),
    [
        ("Which pressure makes the feed pump stop itself?", 2 / 5),
        ("When does the feed pump switch itself off?", 1),
        ("Does the DF-20 of Ulm switch off?", 0),  # names stay, and one word is no copy
        ("How does the Ulm pump get switched and cut off?", 3 / 5),
        ("乌尔姆的泵压力是多少？", 0),
    ],
)
def test_overlap_counts_words_that_could_have_been_others(query, share):
    quote = "The feed pump DF-20 in Ulm switches itself off at 12 bar."
    assert overlap(query, quote) == pytest.approx(share)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("水泵 冬季 润滑油 型号 规格", True),
        ("水泵", False),
        ("琥珀泵在冬季用哪种油而且每个月检查几次", False),
    ],
)
def test_keywords_of_a_script_without_blanks_are_counted_by_pairs_of_letters(query, fits):
    assert (FORMS["keywords"](query) is None) == fits
