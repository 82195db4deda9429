"""The teacher that scores by a reranker, beside sentence-transformers' own scores."""

from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
import torch

from dalm.config import ScoreCandidates
from dalm.errors import UserError
from dalm.records import Passage
from dalm.teachers.cross_encoder import CrossEncoder
from dalm.teachers.teacher import Candidates
from tests.scaling.pickling import Pickling

PASSAGES = ("Ada lives in Ulm.", "Bela lives in Bern. At home Bela keeps two cats.", "Gero")
QUERIES = ("Where does Ada live?", "What does Bela keep?")


def settings_of(tmp_path: Path, **given: Any) -> ScoreCandidates:
    options: dict[str, Any] = {"passages": ["p"], "teacher": ["cross-encoder"], "output": "o.jsonl"}
    options |= {"cache_dir": str(tmp_path / "cache"), "precision": "fp32", "device": "cpu"}
    return ScoreCandidates(**(options | given))


def made(tmp_path: Path, **given: Any) -> CrossEncoder:
    settings = settings_of(tmp_path, **given)
    CrossEncoder.check(settings)
    return CrossEncoder.from_config(settings)


def test_scores_are_the_logits_of_sentence_transformers(tmp_path: Path, tiny_models: Any) -> None:
    teacher = made(tmp_path, reranker=str(tiny_models.reranker))
    asked = [Candidates(query, "an answer", tuple(map(Passage.of, PASSAGES))) for query in QUERIES]
    scores = teacher.score(asked)
    model = sentence_transformers.CrossEncoder(str(tiny_models.reranker), device="cpu")
    for query, row in zip(QUERIES, scores, strict=True):
        expected = [
            float(model.predict((query, text), activation_fn=torch.nn.Identity()))
            for text in PASSAGES
        ]
        assert row == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for row in scores for score in row if score is not None}) == 6
    again = made(tmp_path, reranker=str(tiny_models.reranker))
    again.reranker = None  # type: ignore[assignment]
    again.identity = teacher.identity  # type: ignore[misc]
    assert again.score(asked) == scores, "all from the cache"


def test_a_reranker_must_be_named_and_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--teacher cross-encoder needs --reranker; name one"):
        made(tmp_path)
    with pytest.raises(UserError, match="no/such-reranker"):
        made(tmp_path, reranker="no/such-reranker")


def test_in_a_pool_the_scores_are_the_same_and_the_model_is_compared(
    tiny_models: Any, tmp_path: Path
) -> None:
    asked = [Candidates(query, None, tuple(map(Passage.of, PASSAGES))) for query in QUERIES]
    options = {"reranker": str(tiny_models.reranker), "cache": False, "cache_dir": None}
    alone, pooled = made(tmp_path, **options), made(tmp_path, **options)
    pooled.use_pool(Pickling(), settings_of(tmp_path, **options))
    alone.block = pooled.block = 2  # type: ignore[misc]
    assert pooled.score(asked) == alone.score(asked)
    pooled.identity = "another"  # type: ignore[misc]
    pooled.use_pool(Pickling(), settings_of(tmp_path, **options))
    with pytest.raises(UserError, match="another model is under the same name"):
        pooled.score(asked)
