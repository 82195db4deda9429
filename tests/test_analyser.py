"""Words of every script are found as people type them."""

import subprocess
import sys

import pytest

from dalm.analyser import WORD, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How often is the oil changed?", ["how", "often", "is", "the", "oil", "changed"]),
        ("AB-1234/5", ["ab", "1234", "5", "ab1234"]),
        ("3.5 mm 3,5mm", ["3.5", "mm", "3.5", "mm", "3.5mm"]),
        ("1,000 or 1.000.000", ["1.000", "1000", "or", "1.000.000", "1000000"]),
        ("C++, C# and C.", ["c", "c++", "c", "c#", "and", "c"]),
        ("CD4+ cells", ["cd4", "cd4+", "cells"]),
        ("Ada's, l’eau, don't", ["ada", "s", "l", "eau", "don", "t"]),
        ("MERS-CoV max_new_tokens", ["mers", "cov", "max", "new", "tokens"]),
        ("Straße ﬁne ＡＢ１２", ["strasse", "fine", "ab12"]),
        ("a soft\u00adly hyphened word\u200b", ["a", "softly", "hyphened", "word"]),
        ("café", ["café", "cafe"]),
        ("cafe\u0301", ["café", "cafe"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("كِتَاب ٢٠٢٠", ["كِتَاب", "كتاب", "2020"]),
        ("水", ["水"]),
        ("水泵的", ["水", "泵", "的", "水泵", "泵的"]),
        ("ガス。ｶﾞｽ", ["ガ", "ス", "ガス", "ガ", "ス", "ガス"]),
        ("서울에서", ["서", "울", "에", "서", "서울", "울에", "에서"]),
        ("ที่นี่", ["ที่", "นี่", "ที่นี่"]),
        ("COVID疫苗5G", ["covid", "疫", "苗", "疫苗", "5g", "5", "g"]),
        (" ... — ?! _", []),
    ],
)
def test_terms_of_a_text(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("query", "passage"),
    [
        ("AB1234", "Valve AB-1234 leaks."),
        ("AB‑1234", "Valve AB-1234 leaks."),  # non-breaking hyphen
        ("AB–1234", "Valve AB-1234 leaks."),  # dash
        ("5 mm", "a gap of 5mm"),
        ("3.5", "3,5 mm"),
        ("1000", "1,000 hours"),
        ("Universitat", "die Universität"),
        ("ΑΘΗΝΑ", "στην Αθήνα"),
        ("еще", "ещё раз"),
        ("Istanbul", "İstanbul"),
        ("smorrebrod", "smørrebrød"),
        ("كتاب", "كِتَابٌ جديد"),
        ("שלום", "שָׁלוֹם"),
        ("२०२०", "in 2020"),
        ("O'Brien", "O’Brien"),
        ("泵", "水泵"),
        ("東京", "東京タワー"),
        ("서울", "서울에서"),
        ("ភាសា", "ភាសាខ្មែរ"),
        ("မြန်မာ", "မြန်မာဘာသာ"),
        ("ລາວ", "ພາສາລາວ"),
        ("ไทย", "ภาษาไทย"),
    ],
)
def test_a_query_finds_a_passage_that_is_written_another_way(query, passage):
    asked = terms(query)
    assert asked
    assert set(asked) & set(terms(passage))


@pytest.mark.parametrize(("query", "passage"), [("3", "3.5 mm"), ("35", "3.5 mm"), ("net", "hi")])
def test_what_is_another_word_is_not_found(query, passage):
    assert not set(terms(query)) & set(terms(passage))


def test_a_term_has_neither_blanks_nor_endless_length():
    """A store keeps terms as words with blanks between them."""
    every = "".join(chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000)
    for text in (every, "\u0301 ".join(every), "x" * 10_000):
        found = terms(text)
        assert found
        assert all(term and not any(map(str.isspace, term)) for term in found)
        assert max(map(len, found)) <= 255


def test_words_for_comparison_keep_their_marks():
    assert WORD.findall("हिन्दी में 北京 two_words ที่นี่") == [
        *("हिन्दी", "में", "北", "京", "two", "words", "ที่", "นี่")
    ]


def test_the_analyser_is_quickly_imported():
    code = "import dalm.analyser, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
