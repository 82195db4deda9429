"""A reranker gives what its library and a plain forward pass give, in any batch."""

import logging
import shutil
from threading import Thread

import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.reranker import Reranker, load_reranker
from dalm.models.reranker_checks import MOST_TOKENS
from tests.conftest import build_reranker

PLACEMENT = loading.place("cpu", "fp32")


@pytest.fixture(scope="module")
def pairs(tiny_rows):
    rows = [(row["Query"], row["Passage"] * (1 + place % 3)) for place, row in enumerate(tiny_rows)]
    return [*rows, ("Where?", ""), ("", "Ulm")]


@pytest.fixture(scope="module")
def reranker(tiny_models) -> Reranker:
    return load_reranker(str(tiny_models.reranker), PLACEMENT)


def plainly(folder, pairs) -> list[float]:
    """The sigmoid of a plain forward pass, one pair at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for pair in pairs:
        given = tokenizer(*pair, truncation="longest_first", return_tensors="pt")
        with torch.no_grad():
            scores.append(torch.sigmoid(model(**given).logits).item())
    return scores


def test_scores_are_those_of_the_library_and_of_a_plain_forward_pass(reranker, tiny_models, pairs):
    scores = reranker.score_pairs(pairs)
    assert max(scores) - min(scores) > 0.005
    library = CrossEncoder(str(tiny_models.reranker), device="cpu").predict(pairs)
    assert scores == pytest.approx(library.tolist(), abs=2e-6)
    texts = [pair for pair in pairs if all(pair)]  # a plain tokenizer takes "" for no passage
    plain = plainly(tiny_models.reranker, texts)
    assert scores[: len(texts)] == pytest.approx(plain, abs=2e-6)


def test_a_score_does_not_depend_on_the_batch(reranker, pairs):
    whole = reranker.score_pairs(pairs)
    single = [reranker.score(query, [text])[0] for query, text in pairs]
    assert whole == pytest.approx(single, abs=2e-6)
    assert reranker.score_pairs(pairs[::-1]) == pytest.approx(whole[::-1], abs=2e-6)
    assert reranker.score("nothing", []) == []


def test_several_threads_may_score(reranker, pairs):
    expected, found = reranker.score_pairs(pairs), {}
    threads = [
        Thread(target=lambda n=number: found.update({n: reranker.score_pairs(pairs)}))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for scores in found.values():
        assert scores == pytest.approx(expected, abs=2e-6)


def test_what_is_cut_is_counted_and_said_once(tiny_models, caplog):
    caplog.set_level(logging.INFO)
    reranker = load_reranker(str(tiny_models.reranker), PLACEMENT, max_length=24)
    fits = "Ada lives in Ulm."
    assert "24 tokens a question with its passage, scores from 0 to 1" in caplog.text
    length = len(reranker.model.tokenizer("Who?", fits).input_ids)
    assert length <= 24
    reranker.score("Who?", [fits, fits * 9])
    reranker.score("Who?", [fits * 9])
    assert (reranker.cut, reranker.total) == (2, 3)
    assert caplog.text.count("1 of 2 passages are cut") == 1
    assert "of 1 passages" not in caplog.text
    exact = load_reranker(str(tiny_models.reranker), PLACEMENT, max_length=length)
    exact.score("Who?", [fits])
    assert exact.cut == 0, "a passage that just fits is not cut"


def test_a_control_token_that_a_text_spells_is_text(reranker):
    ids = reranker.tokenise([("Who?", "Ada [SEP] lives [CLS] in [PAD] Ulm")])["input_ids"][0]
    tokens = reranker.model.tokenizer.convert_ids_to_tokens(ids.tolist())
    assert tokens.count("[SEP]") == 2
    assert tokens.count("[CLS]") == 1
    assert "[PAD]" not in tokens


def test_a_sigmoid_near_one_still_orders(reranker):
    with torch.no_grad():
        head = reranker.model[0].model.classifier.bias
        head += 30.0
        try:
            scores = reranker.score("Ulm", ["Ada lives in Ulm.", "Bela keeps two cats."])
        finally:
            head -= 30.0
    assert scores[0] != scores[1]
    assert min(scores) > 1 - 1e-9


def test_a_score_that_is_no_number_is_refused(tiny_models):
    broken = load_reranker(str(tiny_models.reranker), PLACEMENT)
    positions = broken.model[0].model.get_submodule("bert.embeddings.position_embeddings")
    with torch.no_grad():
        positions.weight[-1] = torch.nan  # what no probe is long enough for
    assert broken.score("Ulm", ["Ada lives in Ulm."])
    with pytest.raises(UserError, match="gives infinity or NaN for scores in fp32; its weights"):
        broken.score("Ulm", ["Ada lives in Ulm." * 200])


def test_in_bf16_the_head_gives_fp32(tiny_models, pairs):
    reranker = load_reranker(str(tiny_models.reranker), loading.place("cpu", "bf16"))
    logits = reranker.logits(pairs)
    assert (logits != logits.bfloat16().float()).any(), "rounded to bf16 close scores would tie"
    exact = load_reranker(str(tiny_models.reranker), PLACEMENT).logits(pairs)
    assert logits.tolist() == pytest.approx(exact.tolist(), abs=5e-2)


def save_decoder(generator, folder, positions: int = 256) -> CrossEncoder:
    body = Transformer(str(generator), transformer_task="text-generation")
    body.model.config.max_position_embeddings = body.max_seq_length = positions
    made = CrossEncoder(modules=[body, LogitScore(70, 75)], device="cpu")
    made.save_pretrained(str(folder), create_model_card=False)
    return made


def test_a_decoder_that_says_yes_or_no(tiny_models, tmp_path, pairs):
    """As Qwen3-Reranker does: the score is logit(yes) - logit(no) after the last token."""
    made = save_decoder(tiny_models.generator, tmp_path / "decoder")
    reranker = load_reranker(str(tmp_path / "decoder"), PLACEMENT)
    model, tokenizer = made[0].model.eval(), made.tokenizer
    expected = []
    for pair in pairs:
        with torch.no_grad():
            last = model(**tokenizer(*pair, return_tensors="pt")).logits[0, -1]
        expected.append(float(last[70] - last[75]))
    assert reranker.logits(pairs).tolist() == pytest.approx(expected, abs=1e-4)


def test_what_is_no_reranker_is_refused_in_one_line(tiny_models, tmp_path):
    three = build_reranker(tiny_models.encoder, tmp_path / "three", labels=3)
    bare = tmp_path / "bare"
    made = CrossEncoder(str(tiny_models.encoder), device="cpu")
    made[0].model.bert.save_pretrained(bare)
    made.tokenizer.save_pretrained(bare)
    for folder, reason in (
        (tiny_models.encoder, "is an embedding model (SentenceTransformer), which has no head"),
        (tiny_models.generator, "is a causal language model without a head that scores"),
        (bare, "its files lack classifier"),
        (three, "is a classifier of 3 labels; a reranker gives one score"),
        (tmp_path / "none", "no such folder"),
    ):
        with pytest.raises(UserError) as refused:
            load_reranker(str(folder), PLACEMENT)
        assert reason in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"--max-length 500: reranker .* at most 128 tokens"):
        load_reranker(str(tiny_models.reranker), PLACEMENT, max_length=500)


def test_to_train_an_encoder_gets_a_new_head(tiny_models, caplog):
    caplog.set_level(logging.INFO)
    reranker = load_reranker(str(tiny_models.encoder), PLACEMENT, to_train=True)
    assert "head       new, with random weights: classifier.weight, classifier.bias" in caplog.text
    assert reranker.model.num_labels == 1
    assert all(p.dtype == torch.float32 for p in reranker.model.parameters())


def test_a_model_that_takes_books_reads_their_first_tokens(tiny_models, tmp_path):
    save_decoder(tiny_models.generator, tmp_path / "decoder", positions=100_000)
    assert load_reranker(str(tmp_path / "decoder"), PLACEMENT).max_length == MOST_TOKENS


def test_a_fingerprint_tells_weights_and_lengths_apart(reranker, tiny_models, tmp_path):
    same = load_reranker(str(tiny_models.reranker), PLACEMENT)
    assert same.fingerprint() == reranker.fingerprint()
    with torch.no_grad():
        same.model[0].model.classifier.bias += 1
    assert same.fingerprint() != reranker.fingerprint()
    shorter = load_reranker(str(tiny_models.reranker), PLACEMENT, max_length=64)
    assert shorter.fingerprint() != reranker.fingerprint()


def test_a_fingerprint_tells_tokenizers_and_architectures_of_equal_weights_apart(
    reranker, tiny_models, tmp_path
):
    for place, (file, old, new) in enumerate(
        [
            ("config.json", "{", "{"),
            ("config.json", '"hidden_act": "gelu"', '"hidden_act": "relu"'),
            ("tokenizer.json", '"lowercase": true', '"lowercase": false'),
        ]
    ):
        folder = tmp_path / str(place)
        shutil.copytree(tiny_models.reranker, folder)
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        other = load_reranker(str(folder), PLACEMENT).fingerprint()
        assert (other == reranker.fingerprint()) == (old == new)
