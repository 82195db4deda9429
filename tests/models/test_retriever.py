import json
import shutil

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import LlamaConfig, LlamaForCausalLM

from dalm.errors import UserError
from dalm.models import loading
from dalm.models import retriever as retriever_module
from dalm.models.batching import pad
from dalm.models.retriever import load_retriever
from dalm.models.retriever_sides import retriever_prompts

CPU = loading.place("cpu", "fp32")
QUERIES = ["Where does Ada live?", "What does Bela keep?", "Ulm?"]
PASSAGES = [
    "Ada lives in Ulm. At home Ada keeps a dog.",
    "Bern",
    "Cyrus lives in Graz." + " At home Cyrus keeps one owl." * 12,
]
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture(scope="module")
def bert(tiny_models):
    return tiny_models.encoder


@pytest.fixture(scope="module")
def decoder(tiny_models):
    """A Llama: no modules.json tells how to pool it."""
    return tiny_models.generator


@pytest.fixture(params=["bert", "decoder"])
def folder(request):
    return request.getfixturevalue(request.param)


def same(ours, theirs, atol=1e-5):
    torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=0, atol=atol)


def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(folder):
    retriever = load_retriever(str(folder), CPU)
    together = retriever.encode_passages(PASSAGES)
    assert together.shape == (3, retriever.dim)
    assert together.dtype == torch.float32
    same(together.norm(dim=1), torch.ones(3))
    same(torch.cat([retriever.encode_passages([text]) for text in PASSAGES]), together)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_batch_on_a_cpu_has_a_limit_of_tokens(folder, monkeypatch):
    retriever, read = load_retriever(str(folder), CPU), []
    embed, texts = retriever.embed, [*PASSAGES, *QUERIES] * 3
    expected = retriever.encode_passages(texts)

    def spied(features, kind):
        read.append(features["input_ids"].shape)
        return embed(features, kind)

    monkeypatch.setattr(retriever, "embed", spied)
    longest = max(map(len, retriever.tokenise(texts, "passage")))
    monkeypatch.setattr(retriever_module, "CPU_TOKENS", longest + 1)
    same(retriever.encode_passages(texts), expected)
    assert all(rows * length <= longest + 1 for rows, length in read)
    assert sum(rows for rows, _ in read) == len(texts)
    assert 3 < len(read) < len(texts)


def test_embed_gives_the_same_with_gradient(folder):
    retriever = load_retriever(str(folder), CPU)
    vectors = retriever.embed(
        retriever.batch(retriever.tokenise(QUERIES, "query"), "query"), "query"
    )
    same(vectors.detach(), retriever.encode_queries(QUERIES))
    vectors[0, 0].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in retriever.parameters())


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_padding_side_does_not_matter(folder, side):
    plain, turned = load_retriever(str(folder), CPU), load_retriever(str(folder), CPU)
    turned.model.tokenizer.padding_side = side
    same(turned.encode_passages(PASSAGES), plain.encode_passages(PASSAGES))


def test_relative_positions_allow_padding_on_the_left(decoder):
    retriever = load_retriever(str(decoder), CPU)
    tokens = retriever.tokenise(PASSAGES, "passage")
    ids, mask = pad(tokens, retriever.pad_token, left=True)
    with torch.no_grad():
        left = retriever.embed({"input_ids": ids, "attention_mask": mask}, "passage")
    same(left, retriever.encode_passages(PASSAGES))


def test_texts_are_tokenised_as_sentence_transformers_does(folder):
    sides = {"query": "Query: ", "passage": ""}
    retriever = load_retriever(
        str(folder), CPU, prompts=sides, lengths={"query": 12, "passage": 30}
    )
    for kind, texts, length in (("query", QUERIES, 12), ("passage", PASSAGES, 30)):
        theirs = retriever.model.preprocess(texts, prompt=sides[kind] or None, max_length=length)
        ours = retriever.tokenise(texts, kind)
        for row, tokens in enumerate(ours):
            mask = theirs["attention_mask"][row].bool()
            assert tokens.tolist() == theirs["input_ids"][row][mask].tolist()
    cut = retriever.tokenise(PASSAGES, "passage")
    assert max(len(tokens) for tokens in cut) == 30
    # Even a text that was cut is closed as the model was trained: [SEP], or EOS.
    assert len({int(tokens[-1]) for tokens in cut}) == 1


def test_a_bare_decoder_pools_the_last_token_which_is_eos(decoder):
    retriever = load_retriever(str(decoder), CPU)
    tokenizer = retriever.model.tokenizer
    for tokens in retriever.tokenise(PASSAGES, "passage"):
        assert tokens[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in tokens[:-1]
    (tokens,) = retriever.tokenise(PASSAGES[:1], "passage")
    backbone = retriever.model.transformers_model
    with torch.no_grad():
        hidden = backbone(torch.tensor([tokens.tolist()])).last_hidden_state[0, -1]
    same(retriever.encode_passages(PASSAGES[:1])[0], hidden / hidden.norm())


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_decoder_keeps_its_bos_where_eos_is_appended(sentencepiece, scheme, tmp_path):
    tokenizer = sentencepiece(scheme)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), intermediate_size=32, **shape)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    retriever = load_retriever(str(tmp_path / "bare"), CPU)
    retriever.export(tmp_path / "out")
    for model in (retriever, load_retriever(str(tmp_path / "out"), CPU)):
        for tokens in model.tokenise(PASSAGES, "passage"):
            ids = tokens.tolist()
            assert ids[0] == tokenizer.bos_token_id
            assert ids[-1] == tokenizer.eos_token_id
            assert (ids.count(ids[0]), ids.count(ids[-1])) == (1, 1)


def test_a_bare_encoder_pools_the_mean(bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(bert).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    bare, whole = load_retriever(str(tmp_path), CPU), load_retriever(str(bert), CPU)
    same(bare.encode_passages(PASSAGES), whole.encode_passages(PASSAGES))


def test_is_autoregressive_forces_the_pooling_of_a_bare_model_alone(decoder, bert):
    mean = load_retriever(str(decoder), CPU, is_autoregressive=False)
    last = load_retriever(str(decoder), CPU, is_autoregressive=True)
    assert (mean.encode_queries(QUERIES) - last.encode_queries(QUERIES)).abs().max() > 1e-3
    with pytest.raises(UserError, match="brings its own pooling, mean"):
        load_retriever(str(bert), CPU, is_autoregressive=True)


def with_lora(folder, queries_alone=False, **options):
    """Return a retriever with adapters whose weights are not those of the start."""
    retriever = load_retriever(str(folder), CPU, **options)
    config = loading.lora(rank=2, alpha=4, dropout=0.1, targets=None, task="FEATURE_EXTRACTION")
    retriever.add_lora(config, queries_alone=queries_alone)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in retriever.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return retriever


@pytest.mark.parametrize("lora", [False, True])
def test_an_export_gives_identical_embeddings_in_sentence_transformers_alone(
    folder, lora, tmp_path
):
    options = {
        "prompts": {"query": "Query: ", "passage": "Text: "},
        "lengths": {"query": 60, "passage": 60},
    }
    retriever = (with_lora if lora else lambda f, **o: load_retriever(str(f), CPU, **o))(
        folder, **options
    )
    plain = load_retriever(str(folder), CPU, **options)
    retriever.export(tmp_path / "out")
    queries, passages = retriever.encode_queries(QUERIES), retriever.encode_passages(PASSAGES)
    assert bool((queries - plain.encode_queries(QUERIES)).abs().max() > 1e-3) is lora

    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    same(queries, alone.encode_query(QUERIES))
    same(passages, alone.encode_document(PASSAGES))

    again = load_retriever(str(tmp_path / "out"), CPU)
    assert again.sides == retriever.sides
    same(again.encode_queries(QUERIES), queries)
    same(again.encode_passages(PASSAGES), passages)


def test_an_adapter_can_be_put_on_its_base(bert, tmp_path):
    tuned = with_lora(bert, lengths={"query": 12, "passage": 33})
    tuned.export(tmp_path / "out")
    again = load_retriever(str(bert), CPU, adapter=str(tmp_path / "out"))
    same(again.encode_queries(QUERIES), tuned.encode_queries(QUERIES))
    assert {kind: side.max_len for kind, side in again.sides.items()} == {
        "query": 12,
        "passage": 33,
    }


def test_lora_trains_adapters_alone_and_none_on_a_pooler(bert):
    retriever = with_lora(bert)
    trained = [name for name, p in retriever.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name and "pooler" not in name for name in trained)


@pytest.fixture
def query_side(folder):
    return with_lora(folder, queries_alone=True)


def test_an_adapter_for_queries_leaves_every_passage_vector_as_it_was(folder, query_side, tmp_path):
    """To the bit: a vector store that is in production stays valid."""
    plain = load_retriever(str(folder), CPU)
    passages, queries = plain.encode_passages(PASSAGES), plain.encode_queries(QUERIES)
    assert torch.equal(query_side.encode_passages(PASSAGES), passages)
    tuned = query_side.encode_queries(QUERIES)
    assert (tuned - queries).abs().max() > 1e-3
    assert not query_side.trains_passages

    query_side.export(tmp_path / "out")
    for again in (
        load_retriever(str(tmp_path / "out"), CPU),
        load_retriever(str(folder), CPU, adapter=str(tmp_path / "out")),
    ):
        assert again.adapts_queries_alone
        assert torch.equal(again.encode_passages(PASSAGES), passages)
        same(again.encode_queries(QUERIES), tuned)
        assert torch.equal(again.encode_passages(PASSAGES), passages), "after queries, too"
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    same(tuned, alone.encode_query(QUERIES), atol=1e-4)  # another batch, another rounding


def test_an_adapter_for_queries_gets_its_gradient_from_queries_alone(query_side):
    query_side.train()
    features = query_side.batch(query_side.tokenise(PASSAGES, "passage"), "passage")
    assert not query_side.embed(features, "passage").requires_grad
    adapters = [p for p in query_side.parameters() if p.requires_grad]
    assert adapters
    assert all("lora" in n for n, p in query_side.named_parameters() if p.requires_grad)
    features = query_side.batch(query_side.tokenise(QUERIES, "query"), "query")
    query_side.embed(features, "query")[:, 0].sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in adapters)


@pytest.mark.parametrize("lora", [False, True])
def test_other_training_moves_passages(folder, lora):
    retriever = with_lora(folder) if lora else load_retriever(str(folder), CPU)
    assert retriever.trains_passages
    retriever.requires_grad_(False)
    assert not retriever.trains_passages


def test_double_precision_is_encoded_too(bert):
    retriever = load_retriever(str(bert), CPU)
    expected = retriever.encode_queries(QUERIES)
    found = retriever.double().encode_queries(QUERIES)
    assert found.dtype == torch.float32
    same(found, expected)


def test_an_export_has_the_layout_that_other_servers_read(bert, tmp_path):
    load_retriever(str(bert), CPU, lengths={"query": 16, "passage": 48}).export(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["type"] for module in modules] == [
        f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")
    ]
    pooling = json.loads((tmp_path / modules[1]["path"] / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 16
    assert {key for key, value in pooling.items() if value is True} == {
        *("pooling_mode_mean_tokens", "include_prompt")
    }
    assert pooling["pooling_mode_lasttoken"] is False
    body = json.loads((tmp_path / "sentence_bert_config.json").read_text())
    assert body == {"max_seq_length": 48, "do_lower_case": False}
    assert json.loads((tmp_path / "dalm.json").read_text()) == {
        "query_prompt": "",
        "query_max_len": 16,
        "passage_prompt": "",
        "passage_max_len": 48,
        "adapts_queries_alone": False,
    }


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("e5-small-v2", "query: ", "passage: "),
        ("multilingual-e5-base", "query: ", "passage: "),
        ("bge-base-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("notes5-small", "", ""),
    ],
)
def test_a_familys_prompts_are_known_by_its_name(bert, tmp_path, name, query, passage):
    shutil.copytree(bert, tmp_path / name)
    retriever = load_retriever(str(tmp_path / name), CPU)
    assert (retriever.sides["query"].prompt, retriever.sides["passage"].prompt) == (query, passage)
    own = load_retriever(str(tmp_path / name), CPU, prompts={"query": "", "passage": None})
    assert (own.sides["query"].prompt, own.sides["passage"].prompt) == ("", passage)


def test_a_family_tuned_without_its_prompts_stays_without_them(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "e5-small-v2")
    bare = load_retriever(str(tmp_path / "e5-small-v2"), CPU, prompts={"query": "", "passage": ""})
    bare.export(tmp_path / "tuned" / "e5-small")
    again = load_retriever(str(tmp_path / "tuned" / "e5-small"), CPU)
    assert again.sides == bare.sides


def test_a_length_beyond_the_model_is_refused(bert):
    with pytest.raises(UserError, match=r"--passage-max-len 129: retriever .* at most 128 tokens"):
        load_retriever(str(bert), CPU, lengths={"passage": 129})


@pytest.mark.parametrize("name", ["", "/no/such/folder", "./nothing"])
def test_a_missing_model_is_named(name):
    with pytest.raises(UserError):
        load_retriever(name, CPU)


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("/models/multilingual-e5-small/", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("BAAI/bge-m3", "", ""),
        ("me/some-e5-base-tuned", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
    ],
)
def test_retriever_prompts(name: str, query: str, passage: str) -> None:
    assert retriever_prompts(name) == (query, passage)
