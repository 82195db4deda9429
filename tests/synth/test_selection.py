import random
from dataclasses import replace

from dalm.ingest.near_duplicates import group_near_duplicates
from dalm.ingest.shared_content import groups_by_content
from dalm.records import Passage
from dalm.retrieval.bm25 import BM25
from dalm.synth.pairs import Pair
from dalm.synth.selection import SAME_PASSAGE, rejection_counts, select, split
from tests.synth.pairs_of_ulm import BERN, PASSAGES, ULM, pair, ranking


def test_filters_run_in_their_order_and_count():
    asked = [
        ULM,
        replace(ULM, query="What pressure does the pump at Ulm hold, then?"),
        replace(BERN, answer="4 bar"),
        BERN,
        pair(3, "Which use has nothing here of all?", "12 bar are a lot"),
        replace(ULM, query="What pressure does it hold?"),
    ]
    rejections = []
    kept = select(asked, [ranking(0, 1)], 2, rejections)
    assert [each.query for each in kept] == [ULM.query, BERN.query]
    assert [each.rank for each in kept] == [1, 2]
    table = [
        (gate, number, example.query) for gate, number, example in rejection_counts(rejections)
    ]
    assert table == [
        ("answer in the quote", 1, BERN.query),
        ("question stands alone", 1, "What pressure does it hold?"),
        ("question is new", 1, asked[1].query),
        ("round trip", 1, asked[4].query),
    ]
    found = replace(ULM, end=len(ULM.passage.text), start=0)
    assert select(asked[:1], [], 0, []) == [found]
    copied = replace(ULM, query="Which pump holds 12 bar and is green?")
    assert select([copied], [], 0, rejections, max_overlap=0.8) == []
    assert rejections[-1].filter == "words of its own"
    assert "100 % of its words" in rejections[-1].reason
    assert len(select([copied], [], 0, [])) == 1


def test_bm25_finds_its_way_back():
    found = select([ULM, BERN], [BM25(PASSAGES).search], 20, [])
    assert [each.rank for each in found] == [1, 1]


def documents(number: int) -> list[Pair]:
    passages = [
        Passage.of(f"passage {part} of {n} " + f"w{n} x{part}{n} " * 20, f"title {n}")
        for n in range(number)
        for part in range(2)
    ]
    return [Pair(p, f"q {p.text[:14]}?", "a", "b", "fact", "m", "1") for p in passages]


def test_no_document_and_no_near_duplicate_stands_on_both_sides():
    pairs = documents(40)
    copies = [
        replace(each, passage=Passage.of(f"{each.passage.text} again", f"copy {n}"))
        for n, each in enumerate(pairs)
    ]
    everything = pairs + copies
    train, test = split(everything, [each.passage for each in everything], 0.3, 1)
    assert len(train) + len(test) == 160
    assert 8 <= len(test) / 4 <= 20
    for name in ("title", "text"):
        bare = [
            {getattr(each.passage, name).removesuffix(" again") for each in side}
            for side in (train, test)
        ]
        if name == "text":
            assert not bare[0] & bare[1]
    titles = [{each.passage.title for each in side} for side in (train, test)]
    assert not titles[0] & titles[1]
    place = {each.passage.title: n for n, side in enumerate((train, test)) for each in side}
    assert all(place[f"copy {2 * n + p}"] == place[f"title {n}"] for n in range(40) for p in (0, 1))


def test_queries_without_an_answer_are_counted_where_they_go(caplog):
    caplog.set_level("INFO")
    pairs = documents(40)
    lacking = [replace(each, query="Who?", answer_type="unanswerable") for each in pairs[::2]]
    passages = [each.passage for each in pairs]
    train, test = split([*lacking, *pairs], passages, 0.3, 1)
    assert split(pairs, passages, 0.3, 1) == (train, test[: -len(lacking)])
    assert test[-len(lacking) :] == lacking
    of_test = len(test) - len(lacking)
    assert f"split      train {len(train)} queries of" in caplog.text
    assert f"test {of_test} of {of_test // 2}, and all 40 without an answer" in caplog.text
    assert split([*lacking, *pairs], passages, 0, 1) == (pairs, lacking)


def test_hardly_a_document_moves_when_others_are_added():
    few, more = documents(60), documents(180)
    sides = [split(each, [p.passage for p in each], 0.3, 5) for each in (few, more)]
    moved = set(sides[0][0]) & set(sides[1][1]) | set(sides[0][1]) & set(sides[1][0])
    assert len(moved) <= 0.1 * len(few)
    other_seed = split(few, [p.passage for p in few], 0.3, 6)
    assert set(other_seed[1]) != set(sides[0][1])


def passage_words(seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("qwxzk", k=6)) for _ in range(100)]


def test_near_duplicates_are_one_group_with_its_first_passage():
    first, second, third = (passage_words(seed) for seed in (1, 2, 3))
    near = [*first[:-3], "other", "last", "words"]
    nearer = [*near[3:], "and", "some", "more"]
    texts = [" ".join(each) for each in (second, first, third, near, second, nearer)]
    assert group_near_duplicates(texts, SAME_PASSAGE) == [0, 1, 2, 1, 0, 1]
    assert group_near_duplicates([], SAME_PASSAGE) == []
    assert group_near_duplicates(["", ""], SAME_PASSAGE) == [0, 0]


def test_half_the_same_is_not_near():
    first, second = passage_words(1), passage_words(2)
    texts = [" ".join(first), " ".join(first[:50] + second[50:])]
    assert group_near_duplicates(texts, SAME_PASSAGE) == [0, 1]


def cut(text: str, size: int, title: str) -> list[Passage]:
    words = text.split()
    parts = (" ".join(words[at : at + size]) for at in range(0, len(words), size))
    return [Passage.of(part, title, document=title) for part in parts]


def test_documents_with_the_same_content_stand_on_one_side(caplog):
    caplog.set_level("INFO")
    manuals = [
        " ".join(word for n in range(5) for word in passage_words(9 * d + n)) for d in range(30)
    ]
    passages = [
        passage
        for d, text in enumerate(manuals)
        for size, name in ((100, f"{d}.pdf"), (83, f"{d}.html"))
        for passage in cut(text, size, name)
    ]
    pairs = [Pair(p, f"q {p.text[:14]}?", "a", "b", "fact", "m", "1") for p in passages]
    train, test = split(pairs, passages, 0.3, 1)
    sides = [{each.passage.title.partition(".")[0] for each in side} for side in (train, test)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 9
    assert f"train {len(train)} queries of 21 documents, test {len(test)} of 9" in caplog.text
    assert "the test queries are of 9 documents: their intervals will be wide; try" in caplog.text


def test_documents_of_two_products_with_the_same_words_are_two():
    text = " ".join(f"NP-100 {word}" for n in range(5) for word in passage_words(n))
    passages = [*cut(text, 100, "one"), *cut(text.replace("NP-100", "NP-200"), 83, "other")]
    assert len(set(groups_by_content(passages, 0.8))) == 2
    joined = [*cut(text, 100, "one"), *cut(text, 83, "other")]
    assert len(set(groups_by_content(joined, 0.8))) == 1
