"""Exported chat templates read the prompt from plain messages, token for token."""

from itertools import product

import pytest

from dalm.models.chat_template import with_documents
from dalm.models.plain_messages import forms, tokens
from dalm.models.prompt_frame import frame_of, texts_of, tokenise
from dalm.prompts import DEFAULT, PromptTemplate

OWN = PromptTemplate(
    "Use the documents.", "\n<doc>\n{passage}\n</doc>", "\nQ: {question}\n", "A: ", "Cite them."
)
PASSAGES = ["Ada lives in Ulm.", "Bela keeps two cats (both)", "{{ x }} \\ Question:\n漢字"]
QUESTION = "Where does Ada live?"
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHAT_ML.replace(
    "\n{{ m.content", "\n{{ thoughts if m.role == 'assistant' }}{{ m.content"
)
BASES = {
    "none": None,
    "ChatML": CHAT_ML,
    # An empty block of thoughts before an answer, and not in the generation prompt.
    "thinking": '{% set thoughts = "<think>\\n\\n</think>\\n\\n" %}\n' + THINKING + "\n",
    "INST": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} "
        "[/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
    ),
    "unusable": "{% for m in messages %}{{ m.content | upper }}\n{% endfor %}",
}


@pytest.fixture(scope="module")
def tokenizers(sentencepiece, byte_pairs, tiny_models):
    """Tokenizers of several families."""
    from transformers import AutoTokenizer

    return {
        "tiny": AutoTokenizer.from_pretrained(tiny_models.generator),
        "llama 2": sentencepiece("first"),
        "gpt2": byte_pairs("gpt2"),
        "gpt4": byte_pairs("gpt4"),
    }


@pytest.fixture
def exported(tokenizers):
    """Return a function that exports a tokenizer and returns what joins the prompt in training."""

    def export(name, base, template):
        tokenizer = tokenizers[name]
        tokenizer.chat_template = base
        texts = texts_of(tokenizer, template)
        frame, borders = frame_of(tokenizer, texts)
        tokenizer.chat_template = with_documents(tokenizer, template, texts, from_messages=True)

        def joined(passages, query=QUESTION):
            read = [row.tolist() for row in tokenise(tokenizer, passages, borders.passage)]
            (asked,) = tokenise(tokenizer, [query], borders.query)
            return frame.join(read, asked.tolist(), None, 10_000).tokens

        return tokenizer, joined

    return export


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("name", "template"), [*product(["tiny", "llama 2", "gpt2", "gpt4"], [DEFAULT, OWN])]
)
def test_every_form_gives_the_prompt_to_the_token(exported, name, template, base) -> None:
    tokenizer, joined = exported(name, BASES[base], template)
    for passages in ([], PASSAGES[:1], PASSAGES):
        for form in forms(template, passages, QUESTION).values():
            assert tokens(tokenizer, form) == joined(passages)
