"""Exported chat templates: documents give the prompt to the token, without them the base's text."""

import logging
from itertools import product

import pytest
from transformers import AutoTokenizer

from dalm.models.chat_template import with_documents, without_documents
from dalm.models.prompt_frame import frame_of, plain_texts, texts_of, tokenise
from dalm.prompts import DEFAULT, MARKS, PromptTemplate

OWN = PromptTemplate(
    "Use the documents.", "\n<doc>\n{passage}\n</doc>", "\nQ: {question}\n", "A: ", "Cite."
)
SPACED = PromptTemplate(
    "Use the documents.", " <doc> {passage} </doc>", " Question: {question}", " Answer:"
)
PASSAGES = [
    "Ada lives in Ulm.",
    "Bela keeps two cats (both)",
    "9 owls!",
    "ünïcödé 漢字",
    "{{ x }} \\",
]
QUESTION = {"role": "user", "content": "Where does Ada live?"}
ANSWER = {"role": "assistant", "content": "in Ulm"}
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen 3: an empty block of thoughts before an answer, and not in the generation prompt.
THINKING = CHAT_ML.replace(
    "\n{{ m.content", "\n{{ thoughts if m.role == 'assistant' }}{{ m.content"
)
THINKING = '{% set thoughts = "<think>\\n\\n</think>\\n\\n" %}\n' + THINKING + "\n"
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
# A generation prompt that ends in a blank, which the tokens of an answer begin with.
VICUNA = (
    "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}"
    "{{ eos_token if m.role != 'user' }} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
UPPER = "  {% for m in messages %}{{ m.content | upper }}\n{% endfor %}\n\n"
BASES = {
    "none": None,
    "ChatML": CHAT_ML,
    "thinking": THINKING,
    "INST": INST,
    "Vicuna": VICUNA,
    "unusable": UPPER,
}


@pytest.fixture(scope="module")
def tokenizers(tiny_models, tiny_rows, sentencepiece, byte_pairs):
    """Tokenizers of several families."""
    from dalm.models.tiny import _byte_pairs

    words = [text for row in tiny_rows for text in row.values()]
    tiny = AutoTokenizer.from_pretrained(tiny_models.generator)
    # It knows the marks, as that of the demo, and puts a blank before each piece.
    demo = _byte_pairs([*words, *MARKS * len(words)], 720, 256)
    for tokenizer in (tiny, demo):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return {
        "tiny": tiny,
        "demo": demo,
        "llama 2": sentencepiece("first"),
        "metaspace": sentencepiece("always"),
        "gpt2": byte_pairs("gpt2"),
        "gpt4": byte_pairs("gpt4"),
    }


@pytest.fixture
def exported(tokenizers):
    """Return a function that gives a tokenizer the chat template of a prompt.

    It also returns the tokens of the prompt as the generator joins them.
    """

    def export(name: str, base, template: PromptTemplate):
        tokenizer = tokenizers[name]
        tokenizer.chat_template = base
        texts = texts_of(tokenizer, template)
        frame, borders = frame_of(tokenizer, texts)
        tokenizer.chat_template = with_documents(tokenizer, template, texts)

        def joined(passages) -> list[int]:
            read = [tokens.tolist() for tokens in tokenise(tokenizer, passages, borders.passage)]
            (query,) = tokenise(tokenizer, [QUESTION["content"]], borders.query)
            return frame.join(read, query.tolist(), None, 10_000).tokens

        return tokenizer, joined

    return export


def rendered(tokenizer, passages, messages=(QUESTION,), **options):
    documents = None if passages is None else [{"title": "T", "text": text} for text in passages]
    return tokenizer.apply_chat_template(
        list(messages), documents=documents, add_generation_prompt=True, **options
    )


EXACT = list(product(["tiny", "demo", "llama 2", "metaspace", "gpt2", "gpt4"], [DEFAULT, OWN]))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("name", "template"), [*EXACT, ("gpt4", SPACED)])
def test_documents_give_the_prompt_to_the_token(exported, name, template, base) -> None:
    tokenizer, joined = exported(name, BASES[base], template)
    for passages in ([], PASSAGES[:1], PASSAGES):
        assert rendered(tokenizer, passages).input_ids == joined(passages)


@pytest.mark.parametrize("base", BASES)
def test_a_saved_tokenizer_has_it_in_plain_transformers(exported, base, tmp_path) -> None:
    tokenizer, joined = exported("llama 2", BASES[base], OWN)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.chat_template == tokenizer.chat_template
    assert rendered(loaded, PASSAGES).input_ids == joined(PASSAGES)


MIXED = PromptTemplate("Read.", "\n{passage}.", "\n\nQ: {question}?", "\nA: ")
"""Other line breaks before passage and question: they stay with their marks."""


@pytest.mark.parametrize("base", BASES)
def test_a_prompt_with_tokens_across_borders_gets_the_text_and_a_line_in_the_log(
    exported, base, caplog
) -> None:
    """GPT-4's reads `.` and the line breaks after it as one token; pieces have two."""
    caplog.set_level(logging.INFO)
    tokenizer, joined = exported("gpt4", BASES[base], MIXED)
    for passages in ([], PASSAGES):
        text = rendered(tokenizer, passages, tokenize=False)
        assert text == tokenizer.decode(joined(passages))
        assert rendered(tokenizer, passages).input_ids != joined(passages)
    assert "tokens across the borders of texts" in caplog.text


@pytest.mark.parametrize("name", ["gpt2", "gpt4"])
def test_no_line_in_the_log_where_the_tokens_agree(exported, name, caplog) -> None:
    caplog.set_level(logging.INFO)
    exported(name, CHAT_ML, DEFAULT)
    assert not caplog.messages


CONVERSATIONS = [
    [QUESTION],
    [QUESTION, ANSWER],
    [{"role": "system", "content": "Be brief."}, QUESTION],
    [QUESTION, ANSWER, QUESTION],
]


@pytest.mark.parametrize("base", [name for name, text in BASES.items() if text])
@pytest.mark.parametrize("name", ["llama 2", "gpt2", "gpt4", "demo"])
def test_without_documents_it_is_the_chat_template_of_the_base(exported, name, base) -> None:
    tokenizer, _ = exported(name, BASES[base], OWN)
    for messages, prompted in product(CONVERSATIONS, [False, True]):
        ours, theirs = (
            tokenizer.apply_chat_template(
                messages, chat_template=text, add_generation_prompt=prompted, tokenize=False
            )
            for text in (None, BASES[base])
        )
        assert ours == theirs


@pytest.mark.parametrize("base", ["none", "ChatML"])
def test_what_was_written_can_be_taken_out_again(exported, base) -> None:
    for template in (DEFAULT, OWN):
        tokenizer, _ = exported("llama 2", BASES[base], template)
        assert without_documents(tokenizer.chat_template) == BASES[base]
    assert without_documents(CHAT_ML) == CHAT_ML
    assert without_documents(None) is None


@pytest.mark.parametrize("base", BASES)
def test_a_second_export_writes_the_same(tokenizers, base) -> None:
    tokenizer = tokenizers["llama 2"]
    tokenizer.chat_template = BASES[base]
    first = with_documents(tokenizer, OWN, texts_of(tokenizer, OWN))
    tokenizer.chat_template = without_documents(first)
    assert with_documents(tokenizer, OWN, texts_of(tokenizer, OWN)) == first


def test_named_chat_templates_stay(exported) -> None:
    named = {"default": CHAT_ML, "tool_use": UPPER}
    tokenizer, joined = exported("gpt2", named, DEFAULT)
    assert tokenizer.chat_template["tool_use"] == UPPER
    assert without_documents(tokenizer.chat_template) == named
    assert rendered(tokenizer, PASSAGES).input_ids == joined(PASSAGES)


def test_passages_go_into_the_last_question_of_a_conversation(exported) -> None:
    tokenizer, _ = exported("gpt2", CHAT_ML, DEFAULT)
    messages = [{"role": "system", "content": "Be brief."}, QUESTION, ANSWER, QUESTION]
    text = rendered(tokenizer, ["Ada"], messages, tokenize=False)
    asked = DEFAULT.user_message(QUESTION["content"], ["Ada"])
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nWhere does Ada live?<|im_end|>\n"
        "<|im_start|>assistant\nin Ulm<|im_end|>\n"
        f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("base", [None, CHAT_ML, VICUNA])
def test_messages_that_have_no_prompt_are_refused(exported, base) -> None:
    tokenizer, _ = exported("llama 2", base, DEFAULT)
    with pytest.raises(Exception, match=r"one question|need a user message"):
        rendered(tokenizer, ["Ada"], [ANSWER])


def test_a_model_without_a_chat_template_reads_the_prompt_without_passages(exported) -> None:
    tokenizer, joined = exported("llama 2", None, DEFAULT)
    assert rendered(tokenizer, None).input_ids == joined([])
    text = tokenizer.apply_chat_template([QUESTION, ANSWER], tokenize=False)
    assert text.endswith("\n\nQuestion:\nWhere does Ada live?\n\nAnswer:\nin Ulm</s>")
    assert text.startswith("<s>")


@pytest.mark.parametrize("base", ["ChatML", "thinking"])
def test_a_chat_model_reads_the_user_message_of_the_template(exported, base) -> None:
    tokenizer, _ = exported("gpt2", BASES[base], OWN)
    text = rendered(tokenizer, PASSAGES, tokenize=False)
    assert OWN.user_message(QUESTION["content"], PASSAGES) in text
    assert plain_texts(OWN).answer not in text
