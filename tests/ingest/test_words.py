"""Words are cut and compared in every script; no sign is parted from its letter."""

import pytest

from dalm.ingest.words import split_words, word_spans, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3.5 mm (e.g. here).", ["It's", "3.5", "mm", "(e.g.", "here)."]),
        ("漢字とかなABC 5", ["漢", "字", "と", "か", "な", "ABC", "5"]),
        ("か\u3099く", ["か\u3099", "く"]),  # a voicing mark of its own
        ("เราอยู่ที่นี่ ABC", ["เราอยู่", "ที่นี่", "ABC"]),
        ("ເຮົາຢູ່", ["ເຮົາຢູ່"]),
        ("ភាសាខ្មែរ", ["ភាសាខ្មែរ"]),
        ("မြန်မာဘာသာ", ["မြန်မာဘာ", "သာ"]),
        ("हिन्दी में தமிழ் বাংলা", ["हिन्दी", "में", "தமிழ்", "বাংলা"]),
        ("서울에서 왔다", ["서울에서", "왔다"]),
        ("x" * 150, ["x" * 100, "x" * 50]),
    ],
)
def test_written_words(text, expected):
    assert split_words(text) == expected
    starts, ends = word_spans(text)
    assert [text[a:b] for a, b in zip(starts, ends, strict=True)] == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße ﬁne", "STRASSE fine"),
        ("ＡＢ１２", "ab12"),
        ("Pum\u00adpe", "Pumpe"),
        ("می\u200cخواهم", "میخواهم"),  # a joiner within a Persian word
        ("ｶﾞｽ", "ガス"),
        ("cafe\u0301", "café"),
        ("l’eau", "l'eau"),
    ],
)
def test_words_that_look_the_same_are_the_same(one, other):
    assert words(one) == words(other)


def test_vowel_signs_belong_to_their_letter():
    assert words("हिन्दी में தமிழ் বাংলা ที่นี่") == ["हिन्दी", "में", "தமிழ்", "বাংলা", "ที่", "นี่"]
