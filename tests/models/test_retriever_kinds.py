"""Every kind of embedding model that sentence-transformers loads: it works, or is refused."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import (
    BoW,
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from dalm.config import RetrieverOnly
from dalm.errors import UserError
from dalm.models import loading
from dalm.models.retriever import Retriever, load_retriever, retriever_from_config
from dalm.records import Example, Passage
from dalm.retrieval.base import DenseSearcher
from dalm.retrieval.embedding_cache import fingerprint
from dalm.retrieval.exact import build_index
from dalm.training.data.batches import Rows
from dalm.training.objectives.contrastive import COSINE, DOT_PRODUCT, Contrastive, sharpness_of

CPU = loading.place("cpu", "fp32")
QUERIES = ["Where does Ada live?", "What does Bela keep?", "Ulm?"]
PASSAGES = ["Ada lives in Ulm.", "Bern", "Cyrus lives in Graz." + " Cyrus keeps one owl." * 40]


@pytest.fixture
def bert(tiny_models, tmp_path) -> Path:
    """A folder of a bare BERT of 128 positions."""
    return bare(tiny_models, tmp_path / "bert", 128)


def bare(tiny_models, folder: Path, positions: int) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.encoder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.model_max_length = 10**9
    tokenizer.save_pretrained(folder)
    return folder


def static(bert: Path) -> StaticEmbedding:
    torch.manual_seed(0)
    return StaticEmbedding(AutoTokenizer.from_pretrained(bert), embedding_dim=16)


def router(bert: Path, tiny_models) -> Router:
    other = bare(tiny_models, bert.parent / "other", 64)
    pooled = [Transformer(str(other)), Pooling(16, pooling_mode="cls")]
    return Router.for_query_document([static(bert)], pooled)


KINDS: dict[str, tuple[Callable[..., list], dict[str, object], str]] = {
    "truncated": (
        lambda bert, _: [Transformer(str(bert)), Pooling(16)],
        {"truncate_dim": 8},
        "mean pooling, cosine, 8 dimensions",
    ),
    "static": (lambda bert, _: [static(bert)], {}, "static embeddings, cosine, 16 dimensions"),
    "dot product": (
        lambda bert, _: [Transformer(str(bert)), Pooling(16)],
        {"similarity_fn_name": "dot"},
        "mean pooling, dot product, 16 dimensions",
    ),
    "truncated dot product": (
        lambda bert, _: [Transformer(str(bert)), Pooling(16)],
        {"similarity_fn_name": "dot", "truncate_dim": 8},
        "mean pooling, dot product, 8 dimensions",
    ),
    "dense": (
        lambda bert, _: [Transformer(str(bert)), Pooling(16), Dense(16, 12)],
        {},
        "mean pooling, cosine, 12 dimensions",
    ),
    "layer norm": (
        lambda bert, _: [Transformer(str(bert)), Pooling(16), LayerNorm(16), Normalize()],
        {},
        "mean pooling, cosine, 16 dimensions",
    ),
    "several poolings": (
        lambda bert, _: [Transformer(str(bert)), Pooling(16, pooling_mode=("cls", "mean"))],
        {},
        "cls+mean pooling, cosine, 32 dimensions",
    ),
    "router": (
        lambda bert, models: [router(bert, models)],
        {},
        "static embeddings, CLS pooling, cosine, 16 dimensions",
    ),
}


def save(modules: list, folder: Path, **settings: object) -> str:
    model = SentenceTransformer(modules=modules, device="cpu", **settings)
    model.save(str(folder), create_model_card=False)
    return str(folder)


def train(retriever: Retriever) -> None:
    trained = [parameter for parameter in retriever.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for _ in range(2):
        queries, passages = (
            retriever.embed(retriever.batch(retriever.tokenise(texts, kind), kind), kind)
            for texts, kind in ((QUERIES, "query"), (PASSAGES, "passage"))
        )
        loss = torch.nn.functional.cross_entropy(queries @ passages.T, torch.arange(3))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def same(found: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_trains_and_its_export_gives_the_same_vectors_in_any_program(
    kind, bert, tiny_models, tmp_path, caplog
):
    make, settings, described = KINDS[kind]
    name = save(make(bert, tiny_models), tmp_path / "model", **settings)
    with caplog.at_level(logging.INFO):
        config = RetrieverOnly(output_dir="o", precision="fp32", device="cpu")
        retriever = retriever_from_config(config, name, CPU)
    assert f"retriever  {name}, {described}, no prompts, 50 tokens a query and " in caplog.text
    assert (sharpness_of(retriever) is DOT_PRODUCT) == ("dot product" in described)
    before, made_by = retriever.encode_passages(PASSAGES), fingerprint(retriever)
    assert before.shape[1] == retriever.dim
    train(retriever)
    queries, passages = retriever.encode_queries(QUERIES), retriever.encode_passages(PASSAGES)
    assert (passages - before).abs().max() > 1e-4
    assert fingerprint(retriever) != made_by
    same(torch.cat([retriever.encode_passages([text]) for text in PASSAGES]), passages)

    retriever.export(tmp_path / "out")
    again = load_retriever(str(tmp_path / "out"), CPU)
    assert (again.sides, again.similarity) == (retriever.sides, retriever.similarity)
    same(again.encode_queries(QUERIES), queries)
    same(again.encode_passages(PASSAGES), passages)
    assert fingerprint(again) == fingerprint(retriever)
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert alone.similarity_fn_name == retriever.similarity
    assert alone.truncate_dim == settings.get("truncate_dim")
    scores = alone.similarity(alone.encode_query(QUERIES), alone.encode_document(PASSAGES))
    same(queries @ passages.T, scores)


def test_a_dot_product_model_is_searched_and_trained_by_the_dot_product(
    bert, tiny_models, tmp_path, tiny_rows
):
    make, settings, _ = KINDS["dot product"]
    name = save(make(bert, tiny_models), tmp_path / "model", **settings)
    retriever, alone = load_retriever(name, CPU), SentenceTransformer(name, device="cpu")
    with torch.no_grad():  # lengths that matter: by the cosine the ranking is another
        for model in (retriever.model, alone):
            model[0].model.encoder.layer[-1].output.LayerNorm.bias.add_(torch.arange(16) / 4.0)
    texts = list(dict.fromkeys(row["Passage"] for row in tiny_rows))
    passages = [Passage(str(place), text) for place, text in enumerate(texts)]
    scores = alone.similarity(alone.encode_query(QUERIES), alone.encode_document(texts))
    expected = scores.argsort(dim=1, descending=True).tolist()
    hits = DenseSearcher(retriever, build_index(retriever, passages)).search(QUERIES, 10)
    assert [[int(hit.passage.id) for hit in row] for row in hits] == expected
    same(
        torch.tensor([[hit.score for hit in row] for row in hits]),
        scores.sort(dim=1).values.flip(1),
    )

    examples = [
        Example(row["Query"], row["Answer"], Passage.of(row["Passage"])) for row in tiny_rows[::2]
    ]
    batch = Rows(examples, retriever).collate(range(4))
    retriever.eval()
    found = Contrastive(retriever)(batch).total
    queries = alone.encode_query([example.query for example in examples[:4]])
    gold = alone.encode_document([example.passage.text for example in examples[:4]])
    dots, own = torch.as_tensor(queries @ gold.T), torch.arange(4)
    cross = torch.nn.functional.cross_entropy
    same(found.detach(), (cross(dots, own) + cross(dots.T, own)) / 2)


@pytest.mark.parametrize("kind", ["truncated", "dot product", "dense"])
def test_adapters_keep_the_kind(kind, bert, tiny_models, tmp_path):
    make, settings, _ = KINDS[kind]
    retriever = load_retriever(save(make(bert, tiny_models), tmp_path / "m", **settings), CPU)
    retriever.add_lora(
        loading.lora(rank=2, alpha=4, dropout=0.0, targets=None, task="FEATURE_EXTRACTION")
    )
    train(retriever)
    retriever.export(tmp_path / "out")
    again = load_retriever(str(tmp_path / "out"), CPU)
    assert (again.similarity, again.dim) == (retriever.similarity, retriever.dim)
    same(again.encode_passages(PASSAGES), retriever.encode_passages(PASSAGES))


def test_a_dot_product_of_unit_vectors_is_trained_as_a_cosine(bert, tmp_path):
    modules = [Transformer(str(bert)), Pooling(16), Normalize()]
    name = save(modules, tmp_path / "model", similarity_fn_name="dot")
    assert sharpness_of(load_retriever(name, CPU)) is COSINE


@pytest.mark.parametrize("kind", ["static", "router"])
def test_what_has_no_layers_for_adapters_says_so(kind, bert, tiny_models, tmp_path):
    make, settings, _ = KINDS[kind]
    retriever = load_retriever(save(make(bert, tiny_models), tmp_path / "m", **settings), CPU)
    config = loading.lora(rank=2, alpha=4, dropout=0.0, targets=None, task="FEATURE_EXTRACTION")
    with pytest.raises(UserError, match="train its weights: leave out --use-peft"):
        retriever.add_lora(config)


@pytest.mark.parametrize("distance", ["euclidean", "manhattan"])
def test_a_distance_is_refused(distance, bert, tmp_path):
    modules = [Transformer(str(bert)), Pooling(16)]
    name = save(modules, tmp_path / "model", similarity_fn_name=distance)
    with pytest.raises(UserError, match=f"compares by the {distance} distance; only cosine and"):
        load_retriever(name, CPU)


def test_what_gives_no_tokens_is_refused(tmp_path):
    name = save([BoW(vocab=["ada", "ulm"])], tmp_path / "model")
    with pytest.raises(UserError, match="its first module, BoW, makes no tokens"):
        load_retriever(name, CPU)


@pytest.mark.parametrize("kind", ["SparseEncoder", "CrossEncoder", "MultiVectorEncoder"])
def test_what_is_no_embedding_model_is_refused(kind, bert, tmp_path):
    name = save([Transformer(str(bert)), Pooling(16)], tmp_path / "model")
    file = tmp_path / "model" / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": kind}))
    with pytest.raises(UserError, match=f"is a {kind}, which doesn't give one vector a text"):
        load_retriever(name, CPU)


def test_a_reranker_of_plain_transformers_is_refused(tiny_models):
    with pytest.raises(UserError, match=r"is a reranker or classifier \(BertForSequenceClass"):
        load_retriever(str(tiny_models.reranker), CPU)


# Lengths


def test_a_short_model_takes_what_it_has(tiny_models, tmp_path, caplog):
    name = str(bare(tiny_models, tmp_path / "short", 64))
    config = RetrieverOnly(output_dir="o", precision="fp32", device="cpu")
    with caplog.at_level(logging.INFO):
        retriever = retriever_from_config(config, name, CPU)
    assert "50 tokens a query and 64 a passage of at most 64" in caplog.text
    assert max(map(len, retriever.tokenise(PASSAGES, "passage"))) == 64
    with pytest.raises(UserError, match=r"--passage-max-len 65: .* takes at most 64 tokens"):
        load_retriever(name, CPU, lengths={"passage": 65})


def test_a_short_baseline_reads_what_it_has(tiny_models, tmp_path):
    tuned = load_retriever(str(bare(tiny_models, tmp_path / "long", 128)), CPU)
    short = str(bare(tiny_models, tmp_path / "short", 40))
    sides = load_retriever(short, CPU, as_long_as=tuned).sides
    assert {kind: side.max_len for kind, side in sides.items()} == {"query": 40, "passage": 40}
    sides = load_retriever(str(tmp_path / "long"), CPU, as_long_as=tuned).sides
    assert sides == tuned.sides


def test_positions_that_roberta_never_uses_are_not_counted(tiny_models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.encoder)
    tokenizer.model_max_length = 10**9
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    retriever = load_retriever(str(tmp_path), CPU)
    assert retriever.longest == 64
    assert retriever.encode_passages(PASSAGES).isfinite().all()


# Tokens and padding


def test_a_missing_padding_token_is_replaced(tiny_models, tmp_path):
    shutil.copytree(tiny_models.generator, tmp_path / "decoder")
    file = tmp_path / "decoder" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["pad_token"]
    file.write_text(json.dumps(config))
    retriever = load_retriever(str(tmp_path / "decoder"), CPU)
    assert retriever.pad_token == retriever.model.tokenizer.eos_token_id
    retriever.export(tmp_path / "out")
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    same(retriever.encode_passages(PASSAGES[:2]), alone.encode_document(PASSAGES[:2]))


def test_a_padding_token_without_an_embedding_is_replaced(bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    tokenizer.add_special_tokens({"pad_token": "[NEW]"})
    tokenizer.save_pretrained(bert)
    retriever = load_retriever(str(bert), CPU)
    assert retriever.encode_passages(PASSAGES).isfinite().all()
    retriever.export(tmp_path / "out")
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    same(retriever.encode_passages(PASSAGES), alone.encode_document(PASSAGES))


def test_a_token_without_an_embedding_is_named(bert):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    count = len(tokenizer)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(bert)
    retriever = load_retriever(str(bert), CPU)
    said = f"gives 'zebra' the id {count}, but the model has {count} embeddings"
    with pytest.raises(UserError, match=said):
        retriever.encode_queries(["a zebra"])
    with pytest.raises(UserError, match=said):
        load_retriever(str(bert), CPU, prompts={"query": "zebra : "})


def test_a_bare_chat_model_is_read_as_text(tiny_models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)
    plain = load_retriever(str(tiny_models.generator), CPU)
    shutil.copytree(tiny_models.generator, tmp_path / "chat")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    )
    tokenizer.save_pretrained(tmp_path / "chat")
    chat = load_retriever(str(tmp_path / "chat"), CPU)
    same(chat.encode_queries(QUERIES), plain.encode_queries(QUERIES))
    chat.export(tmp_path / "out")
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    same(chat.encode_queries(QUERIES), alone.encode_query(QUERIES))


def test_a_model_that_reads_messages_keeps_its_chat_template(tiny_models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)
    shutil.copytree(tiny_models.generator, tmp_path / "chat")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<eos>{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "chat")
    body = Transformer(str(tmp_path / "chat"))
    assert "message" in body.modality_config
    name = save([body, Pooling(16, pooling_mode="lasttoken")], tmp_path / "m")
    retriever = load_retriever(name, CPU)
    assert retriever.tokenise(QUERIES, "query")[0][-1] == tokenizer.eos_token_id
    retriever.export(tmp_path / "out")
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    same(retriever.encode_queries(QUERIES), alone.encode_query(QUERIES, normalize_embeddings=True))


# Prompts


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_a_prompt_that_fills_the_length_is_refused(kind, bert, caplog):
    long = "a question about where somebody lives: " * 10
    with pytest.raises(UserError, match=rf"the {kind} prompt alone has \d+ tokens, so nothing"):
        load_retriever(str(bert), CPU, prompts={kind: long}, lengths={kind: 40})
    load_retriever(str(bert), CPU, prompts={kind: "lives in "}, lengths={kind: 8})
    assert f"the {kind} prompt leaves " in caplog.text


def test_a_prompt_of_the_models_own_is_checked_too(bert, tmp_path):
    prompts = {"query": "Where does somebody live? " * 12, "document": ""}
    name = save([Transformer(str(bert)), Pooling(16)], tmp_path / "m", prompts=prompts)
    with pytest.raises(UserError, match="--query-max-len 50: the query prompt alone"):
        load_retriever(name, CPU)


def test_an_export_keeps_every_prompt(bert, tmp_path):
    prompts = {"search": "look: ", "clustering": "cluster: ", "query": "ask: "}
    settings = {"prompts": prompts, "default_prompt_name": "search"}
    name = save([Transformer(str(bert)), Pooling(16)], tmp_path / "m", **settings)
    retriever = load_retriever(name, CPU, prompts={"passage": "text: "})
    retriever.export(tmp_path / "out")
    alone = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert alone.prompts == {**prompts, "document": "text: "}
    assert alone.default_prompt_name == "search"
    assert load_retriever(str(tmp_path / "out"), CPU).sides == retriever.sides
