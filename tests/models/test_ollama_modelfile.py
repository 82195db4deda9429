"""The Modelfile's template has the text of the prompt, whichever messages it is given."""

import re

import pytest

from dalm.models import plain_messages
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import place
from dalm.models.ollama_modelfile import modelfile_of
from dalm.prompts import DEFAULT, PromptTemplate

CPU = place("cpu", "fp32")
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PASSAGE, QUESTION = "Ada lives in Ulm.", "Where does Ada live?"


def filled(modelfile: str, prompt: str, system: str = "") -> str:
    """Fill in the template as Ollama does: one condition, and two fields."""
    template = re.search(r'TEMPLATE """(.*?)"""', modelfile, re.S)[1]
    parts = re.fullmatch(r"{{ if \.System }}(.*){{ else }}(.*){{ end }}", template, re.S)
    chosen = parts[1] if system else parts[2]
    return chosen.replace("{{ .System }}", system).replace("{{ .Prompt }}", prompt)


@pytest.mark.parametrize("base", [None, CHAT_ML], ids=["plain", "chat"])
def test_messages_give_the_text_of_the_prompt(tiny_models, base) -> None:
    loaded = load_generator(str(tiny_models.generator), CPU)
    loaded.tokenizer.chat_template = base
    generator = Generator(loaded.model, loaded.tokenizer, CPU, 100)
    modelfile = modelfile_of(generator)
    form = plain_messages.forms(DEFAULT, [PASSAGE], QUESTION)["one user message"]
    ((whole,), _) = form
    expected = generator.texts.prompt(PASSAGE, QUESTION)
    assert filled(modelfile, QUESTION, PASSAGE) == expected
    assert filled(modelfile, whole["content"]) == expected
    assert "PARAMETER num_ctx 100\n" in modelfile


def test_a_prompt_with_braces_has_none(tiny_models) -> None:
    loaded = load_generator(str(tiny_models.generator), CPU)
    template = PromptTemplate(instruction="Fill in {{ this }}.")
    assert modelfile_of(Generator(loaded.model, loaded.tokenizer, CPU, 100, template)) is None
