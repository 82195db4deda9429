import time
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from dalm.models.tiny import SIZES, build_encoder, build_generator

TEXTS = [
    f"The skerrow at Dul{end} stands in hall {i}. It runs at velt {head}{end}.\n\nWhich pump?"
    for i, (head, end) in enumerate(
        (head, end) for head in ("tor", "kel", "mur", "sil") for end in ("ost", "iff", "ak")
    )
]
SMALL = {"width": 32, "layers": 2, "heads": 2, "vocabulary": 320}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(TEXTS, tmp_path_factory.mktemp("encoder"), **SMALL)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_generator(TEXTS, tmp_path_factory.mktemp("generator"), **SMALL)


def test_an_encoder_loads_and_its_vectors_have_length_one(encoder: Path) -> None:
    model = SentenceTransformer(str(encoder), device="cpu")
    vectors = model.encode(TEXTS, convert_to_tensor=True)
    assert vectors.shape == (len(TEXTS), 32)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-5)


def test_an_encoder_saved_again_gives_the_same_vectors(encoder: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(encoder), device="cpu")
    model.save(str(tmp_path))
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert (model.encode(TEXTS) == again.encode(TEXTS)).all()
    assert again.max_seq_length == model.max_seq_length == 128


def test_an_encoder_does_not_mind_its_neighbours_padding(encoder: Path) -> None:
    model = SentenceTransformer(str(encoder), device="cpu")
    alone = model.encode(["Which pump?"], convert_to_tensor=True)
    beside = model.encode(["Which pump?", TEXTS[0] * 3], convert_to_tensor=True)
    assert torch.allclose(alone[0], beside[0], atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_weigh_what_they_are_called(name: str) -> None:
    size = SIZES[name]
    config = LlamaConfig(
        vocab_size=size["vocabulary"],
        hidden_size=size["width"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=3 * size["width"],
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        weights = sum(p.numel() for p in LlamaForCausalLM(config).parameters())
    assert weights == pytest.approx(int(name.removesuffix("m")) * 1e6, rel=0.05)
    formula = size["vocabulary"] * size["width"] + 13 * size["layers"] * size["width"] ** 2
    assert weights == pytest.approx(formula, rel=0.01)


def test_a_generator_loads_with_its_own_end_and_padding(generator: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(generator)
    tokenizer = AutoTokenizer.from_pretrained(generator)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.pad_token_id == model.generation_config.pad_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.bos_token_id is None
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_a_generator_saved_again_gives_the_same_logits(generator: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(generator)
    tokenizer = AutoTokenizer.from_pretrained(generator)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    tokens = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    again = AutoTokenizer.from_pretrained(tmp_path)(TEXTS[0], return_tensors="pt").input_ids
    assert torch.equal(tokens, again)
    logits = AutoModelForCausalLM.from_pretrained(tmp_path)(tokens).logits
    assert torch.equal(model(tokens).logits, logits)


@pytest.mark.parametrize(
    "text", [*TEXTS[:2], "Unseen: Ünïcode, 漢字 & 😀!\n", "tor-7", "a  b\n\n\nc"]
)
def test_a_generators_tokens_are_read_back_as_the_text(generator: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generator)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_a_word_is_written_alike_at_the_start_and_after_a_space(generator: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generator)
    alone = tokenizer("torost").input_ids
    assert tokenizer("velt torost").input_ids[-len(alone) :] == alone


def test_digits_stand_alone(generator: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generator)
    tokens = [tokenizer.decode([token]) for token in tokenizer("hall 407").input_ids]
    assert tokens[-3:] == ["4", "0", "7"]


def test_tokenizers_add_what_their_models_expect(encoder: Path, generator: Path) -> None:
    encoded = AutoTokenizer.from_pretrained(encoder)("pump").input_ids
    assert AutoTokenizer.from_pretrained(encoder).convert_ids_to_tokens(encoded)[0] == "[CLS]"
    reader = AutoTokenizer.from_pretrained(generator)
    assert reader("pump").input_ids == reader("pump", add_special_tokens=False).input_ids


@pytest.mark.parametrize("build", [build_encoder, build_generator])
def test_the_same_texts_give_the_same_tokenizer_each_time(build, tmp_path: Path) -> None:
    folders = [build(TEXTS, tmp_path / str(i), **SMALL) for i in range(3)]
    assert len({(folder / "tokenizer.json").read_text() for folder in folders}) == 1


def test_the_seed_decides_the_weights_and_leaves_the_callers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    folders = [
        build_generator(TEXTS, tmp_path / str(i), seed=seed, **SMALL)
        for i, seed in enumerate((1, 1, 2))
    ]
    assert torch.equal(torch.rand(1), expected)
    first, same, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == same
    assert first != other


def test_an_untrained_generator_already_copies(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(build_generator(TEXTS, tmp_path))
    generator = torch.Generator().manual_seed(0)
    once = torch.randint(2, len(model.get_input_embeddings().weight), (8, 40), generator=generator)
    twice = torch.cat([once, once], dim=1)
    logits = model(twice).logits[:, :-1].detach()
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), twice[:, 1:], reduction="none")
    assert nll[:, 40:].mean() < nll[:, :39].mean() - 0.3


def test_padding_on_either_side_gives_the_same_logits(generator: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(generator)
    tokenizer = AutoTokenizer.from_pretrained(generator)
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = tokenizer(["Which pump?", TEXTS[0]], return_tensors="pt", padding=True)
        last = batch.attention_mask[0].nonzero().max()
        logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits[0, last]
        alone = model(**tokenizer(["Which pump?"], return_tensors="pt")).logits[0, -1]
        assert torch.allclose(logits, alone, atol=1e-4)


def test_building_both_takes_well_under_a_second_or_so(tmp_path: Path) -> None:
    start = time.perf_counter()
    build_encoder(TEXTS * 8, tmp_path / "encoder", **SMALL)
    build_generator(TEXTS * 8, tmp_path / "generator", **SMALL)
    assert time.perf_counter() - start < 5
