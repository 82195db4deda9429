"""Texts to train on and to measure on: no text is both, and general text has its exact share."""

import json

import pytest
from tokenizers.processors import TemplateProcessing

from dalm.config import Pretraining
from dalm.errors import UserError
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.training.data.corpus import documents, training_rows
from dalm.training.data.pretraining_texts import read_corpus
from dalm.training.resumption import content_hash


def table(path, texts) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def sources(tmp_path) -> tuple[str, str]:
    domain = [f"The skerrow in hall {n} runs at velt {n}." for n in range(40)]
    general = [f"Ada lives in Ulm with {n} cats." for n in range(60)]
    shared = "A text of both."
    domain_file = table(tmp_path / "domain.jsonl", [*domain, shared])
    return domain_file, table(tmp_path / "general.jsonl", [*general, shared])


def settings(sources, **options) -> Pretraining:
    return Pretraining(output_dir="out", replay=sources[1], sequence_length=64, **options)


def test_what_is_measured_on_is_trained_on_nowhere(sources):
    for seed in range(6):
        found = read_corpus(sources[0], settings(sources, held_out_share=0.3, seed=seed))
        measured = {*found.held_out_domain, *found.held_out_general}
        assert measured
        assert not measured & {*found.domain, *found.general}


def test_the_same_seed_holds_the_same_out(sources):
    first, again, other = (
        read_corpus(sources[0], settings(sources, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_general_text_has_its_share_of_the_tokens_to_learn(sources, tiny_models, ratio):
    generator = load_generator(str(tiny_models.generator), place("cpu", "fp32"))
    given = settings(sources, replay_ratio=ratio)
    found = read_corpus(sources[0], given)
    rows = training_rows(generator, found, given)
    of_domain = sum(len(d) - 1 for d in documents(generator, found.domain, ends=True))
    assert rows.scored() - of_domain == round(of_domain * ratio / (1 - ratio))
    again = training_rows(generator, found, given)
    assert content_hash(vars(rows)) == content_hash(vars(again))


def test_nothing_left_to_train_on_is_refused(sources):
    with pytest.raises(UserError, match="is held out; name others"):
        read_corpus(sources[0], settings(sources, held_out=sources[0]))


def test_a_tokenizer_with_bos_begins_with_it(tiny_models):
    generator = load_generator(str(tiny_models.generator), place("cpu", "fp32"))
    tokenizer = generator.tokenizer
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[bos]
    )
    [found] = documents(generator, ["Ada lives in Ulm."], ends=True)
    assert (found[0], found[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.bos_token_id not in found[1:]
