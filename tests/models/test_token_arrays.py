"""Texts in many, by the tokenizers library alone: the ids of transformers' call, one by one."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers
from transformers import BertTokenizerFast, NllbTokenizer, PreTrainedTokenizerFast

from dalm.models import loading
from dalm.models.control_tokens import TextTokenizer
from dalm.models.generator import load_generator
from dalm.models.prompt_frame import Border, tokenise
from dalm.models.retriever import load_retriever
from dalm.models.retriever_sides import TASKS
from dalm.models.token_arrays import AT_ONCE, in_parts, library_tokenizer, token_arrays

CPU = loading.place("cpu", "fp32")
TEXTS = [
    "Ada lives in Ulm.",
    "",
    "\n\nwith line breaks\n",
    "Ada lives in Ulm.",
    "a [SEP] b <|im_end|> </s> [UNK]",
    "ünïcödé 漢字 and blanks   ",
    "long " * 700,
]


def ids(rows: list[np.ndarray]) -> list[list[int]]:
    assert all(row.dtype == np.int32 for row in rows)
    return [row.tolist() for row in rows]


@pytest.fixture(params=["first", "always", "gpt2", "gpt4"])
def tokenizer(request, sentencepiece, byte_pairs):
    name = request.param
    return byte_pairs(name) if name.startswith("gpt") else sentencepiece(name)


@pytest.mark.parametrize("split", [False, True])
def test_ids_are_those_of_a_call_for_each_text(tokenizer, split) -> None:
    tokenizer.split_special_tokens = split
    plain = [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
    assert ids(token_arrays(tokenizer, TEXTS)) == plain
    for side in ("right", "left"):
        tokenizer.truncation_side = side
        cut = [tokenizer(text, truncation=True, max_length=9).input_ids for text in TEXTS]
        assert ids(token_arrays(tokenizer, TEXTS, 9)) == cut
        # Neither leaves the other its settings.
        assert ids(token_arrays(tokenizer, TEXTS)) == plain


def test_texts_without_control_tokens_are_those_of_a_call_for_each_text(tokenizer) -> None:
    as_text = TextTokenizer(tokenizer)
    found = ids(as_text.arrays(TEXTS))
    assert found == [ids(as_text.arrays([text]))[0] for text in TEXTS]
    for text, own in zip(TEXTS, found, strict=True):
        spelled_out = as_text.renamed.encode(text, add_special_tokens=False).ids
        plain = tokenizer(text, add_special_tokens=False).input_ids
        assert own == (spelled_out if as_text.spelled.search(text) else plain)


def test_another_call_than_transformers_own_is_left_to_the_tokenizer(tokenizer) -> None:
    class Upper(PreTrainedTokenizerFast):
        def _encode_plus(self, text, *given, **options):
            text = text.upper() if isinstance(text, str) else [each.upper() for each in text]
            return super()._encode_plus(text, *given, **options)

    assert library_tokenizer(tokenizer) is not None
    changed = Upper(tokenizer_object=tokenizer.backend_tokenizer)
    assert library_tokenizer(changed) is None
    expected = [tokenizer(text.upper(), add_special_tokens=False).input_ids for text in TEXTS]
    assert ids(token_arrays(changed, TEXTS)) == expected
    assert not hasattr(BertTokenizerFast, "_switch_to_input_mode")
    assert hasattr(NllbTokenizer, "_switch_to_input_mode")  # puts languages around a text


def test_parts_have_equal_texts_once() -> None:
    asked = []

    def encode(texts):
        asked.append(len(texts))
        return [np.array([int(text)]) for text in texts]

    texts = [str(n // 2) for n in range(4 * AT_ONCE)]
    assert [row[0] for row in in_parts(texts, encode)] == [n // 2 for n in range(4 * AT_ONCE)]
    assert asked == [AT_ONCE] * 2
    assert in_parts([], encode) == []


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_a_retriever_has_the_ids_of_sentence_transformers(tiny_models, prompt, monkeypatch) -> None:
    retriever = load_retriever(
        str(tiny_models.encoder), CPU, lengths={"query": 12}, prompts={"query": prompt}
    )
    texts = [text for text in TEXTS if "[SEP]" not in text]
    features = [
        retriever.model.preprocess(
            [text], prompt=prompt or None, max_length=12, task=TASKS["query"]
        )
        for text in texts
    ]

    def unused(*_given, **_options):
        raise AssertionError

    tokens = retriever.tokenise(texts, "query")
    assert ids(tokens) == [each["input_ids"][0].tolist() for each in features]
    length = features[0].get("prompt_length")
    assert retriever.batch(tokens, "query").get("prompt_length") == length
    monkeypatch.setattr(SentenceTransformer, "preprocess", unused)
    assert ids(retriever.tokenise(texts, "query")) == ids(tokens)


def test_pieces_of_a_prompt_are_those_of_each_text_alone(tiny_models, tokenizer) -> None:
    generator = load_generator(str(tiny_models.generator), CPU)
    for each in (generator.tokenise_passages, generator.tokenise_queries):
        assert ids(each(TEXTS)) == [each([text])[0].tolist() for text in TEXTS]
    border = Border(" ", "\n", (), "Question", ())
    own = [tokenise(TextTokenizer(tokenizer), [text], border)[0].tolist() for text in TEXTS]
    assert ids(tokenise(TextTokenizer(tokenizer), TEXTS, border)) == own


def test_a_replaced_text_is_whole() -> None:
    """The fast way has no offsets; ids don't depend on them, whatever a normaliser does."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "ab": 2}, unk_token="[UNK]"))
    made.normalizer = normalizers.Sequence([normalizers.Replace("x", "ab"), normalizers.NFKC()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")
    texts = ["x", "ａ", "a", "xx"]
    assert ids(token_arrays(tokenizer, texts)) == [
        tokenizer(text, add_special_tokens=False).input_ids for text in texts
    ]
