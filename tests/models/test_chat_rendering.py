"""Chat templates that print the date, fail, or never end."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from dalm.errors import UserError
from dalm.llm.local_model import load_local_model
from dalm.models import chat_rendering, loading
from dalm.models.chat_rendering import ChatTemplateError, prints_date, render
from dalm.models.chat_template import with_documents
from dalm.models.generator import load_generator
from dalm.models.prompt_frame import texts_of
from dalm.prompts import DEFAULT

CPU = loading.place("cpu", "fp32")
DATE = datetime(2026, 11, 6, 7, 8, 9, 123456)
FORMS = ["%d %b %Y", "%H:%M:%S.%f", "%A, %-d. %B", "%j %y %m %I %p %e", "100%% of %%d", "no date"]
QUESTION = [{"role": "user", "content": "Where?"}]
# As Llama 3.1's: today, unless the caller gives a date.
DATED = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y %H:%M:%S.%f") %}'
    '{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}'
    "Today: {{ date_string }}\n"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer(byte_pairs):
    return byte_pairs("gpt4")


@pytest.mark.parametrize("form", FORMS)
def test_a_pinned_template_takes_the_date_for_today(tokenizer, form) -> None:
    tokenizer.chat_template = f"{{{{ strftime_now('{form}') }}}}\n"
    assert render(tokenizer, QUESTION, date=DATE) == DATE.strftime(form)
    assert prints_date(tokenizer, DATE) is (form not in FORMS[-2:])


def test_a_macro_and_a_branch_take_it_too(tokenizer) -> None:
    tokenizer.chat_template = "{% macro year() %}{{ strftime_now('%Y') }}{% endmacro %}{{ year() }}"
    assert render(tokenizer, QUESTION, date=DATE) == "2026"
    tokenizer.chat_template = DATED
    assert render(tokenizer, QUESTION, date=DATE).startswith("Today: 06 Nov 2026 07:08:09.123456\n")


def test_an_exported_template_prints_the_date_of_the_training_with_documents(tokenizer) -> None:
    tokenizer.chat_template = DATED
    texts = texts_of(tokenizer, DEFAULT, DATE)
    tokenizer.chat_template = with_documents(tokenizer, DEFAULT, texts, DATE)
    options = {"tokenize": False, "add_generation_prompt": True}
    asked = tokenizer.apply_chat_template(QUESTION, documents=[{"text": "Ulm."}], **options)
    assert asked == (
        "Today: 06 Nov 2026 07:08:09.123456\n<|im_start|>user\n"
        f"{DEFAULT.user_message('Where?', ['Ulm.'])}<|im_end|>\n<|im_start|>assistant\n"
    )
    plain = tokenizer.apply_chat_template(QUESTION, **options)
    assert f"Today: {datetime.now():%d %b %Y}" in plain
    assert "06 Nov 2026" not in plain


@pytest.fixture
def named(tiny_models, tmp_path):
    """Return a function that gives the tiny generator a chat template."""

    def give(template: str) -> str:
        folder = shutil.copytree(tiny_models.generator, tmp_path / "gen", dirs_exist_ok=True)
        (folder / "chat_template.jinja").write_text(template)
        return str(folder)

    return give


def test_the_date_goes_with_the_model(named, tmp_path) -> None:
    generator = load_generator(named(DATED), CPU)
    assert generator.date is not None
    generator.export(tmp_path / "out")
    saved = json.loads((tmp_path / "out/dalm.json").read_text())["date"]
    assert datetime.fromisoformat(saved) == generator.date
    again = load_generator(str(tmp_path / "out"), CPU)
    assert again.frame == generator.frame
    before = generator.date.replace(year=2001).isoformat()
    Path(tmp_path / "out/dalm.json").write_text(json.dumps({"date": before}))
    earlier = load_generator(str(tmp_path / "out"), CPU)
    assert " 2001 00:00:00" in earlier.tokenizer.decode(earlier.frame.opening)
    asked = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(
        QUESTION, documents=[{"text": "Ulm."}], tokenize=False, add_generation_prompt=True
    )
    assert f"{generator.date:%d %b %Y %H:%M:%S.%f}" in asked


@pytest.mark.parametrize("date", ["yesterday", 20261126, ["2026-11-26"]])
def test_a_damaged_date_is_named(named, date) -> None:
    folder = named(DATED)
    Path(folder, "dalm.json").write_text(json.dumps({"date": date}))
    with pytest.raises(UserError, match=r"dalm\.json is damaged \(date is"):
        load_generator(folder, CPU)


BROKEN = {
    "{{ raise_exception('no') }}": "no",
    "{% if %}": "Expected an expression",
    "{{ nosuch.x }}": "'nosuch' is undefined",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}": "nested too deeply",
    "{{ messages[7].content }}": "no element 7",
}


@pytest.mark.parametrize("template", BROKEN)
def test_a_template_that_fails_is_one_line(named, template) -> None:
    expected = rf"generator .*gen: its chat template can't be rendered \(.*{BROKEN[template]}"
    folder = named(template)
    for load in (
        lambda: load_generator(folder, CPU),
        lambda: load_local_model(folder, CPU, max_new_tokens=8),
    ):
        with pytest.raises(UserError, match=expected) as caught:
            load()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", ["{{ ''.__class__ }}", "Hello!"])
def test_an_instruct_model_has_to_be_told_what_is_asked(named, template) -> None:
    with pytest.raises(UserError, match=r"can't be rendered \(it leaves out what is asked\)"):
        load_local_model(named(template), CPU, max_new_tokens=8)


ENDLESS = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3


def test_a_template_that_never_ends_is_stopped(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(chat_rendering, "CPU_SECONDS", 1)
    tokenizer.chat_template = f"{ENDLESS}x"
    with pytest.raises(ChatTemplateError, match="it takes more than 1 seconds"):
        render(tokenizer, QUESTION)
    tokenizer.chat_template = "{{ 'x' * 99999999999 }}"
    with pytest.raises(ChatTemplateError, match="it needs more than 1024 MB"):
        render(tokenizer, QUESTION)


@pytest.mark.parametrize("changing", [True, False])
def test_a_template_that_renders_differently_each_time_is_named(named, caplog, changing) -> None:
    first = "{{ range(99999) | random }}" if changing else "9"
    messages = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    load_generator(named(first + messages), CPU)
    assert ("its chat template renders differently each time" in caplog.text) is changing
