"""Map the vectors of queries linearly, so that those of passages stay as they are.

The map is x + Wx, with W = 0 before training, so that an untrained one changes nothing. It is a
module of the embedding model: a router whose route for documents is empty, before the
normalisation. The saved folder is an ordinary one of sentence-transformers, whose `encode_query`
and `encode_document` give these vectors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import Tensor, nn

from dalm.models.retriever_sides import TASKS, Kind

_QUERY, _PASSAGE = TASKS["query"], TASKS["passage"]


def add_query_adapter(model: SentenceTransformer) -> Dense:
    """Return the model's query adapter, which is added if there is none."""
    router = adapter_router(model)
    if router is None:
        normalises = isinstance(model[-1], Normalize)
        router = Router.for_query_document([_map(_whole_dim(model))], []).to(model.device)
        model.insert(len(model) - normalises, router)
    [adapter] = router.sub_modules[_QUERY].children()
    assert isinstance(adapter, Dense)
    return adapter


def _map(dim: int) -> Dense:
    """Return x + Wx with W = 0. Weight decay pulls it back to x."""
    return Dense(
        dim,
        dim,
        bias=False,
        activation_function=nn.Identity(),
        init_weight=torch.zeros(dim, dim),
        use_residual=True,
    )


def _whole_dim(model: SentenceTransformer) -> int:
    with model.truncate_embeddings(None):
        dim = model.get_embedding_dimension()
    assert dim is not None
    return dim


def adapter_router(model: SentenceTransformer) -> Router | None:
    """Return the router that holds a model's query adapter; None: it has none."""
    for module in list(model)[1:]:
        if isinstance(module, Router) and module.sub_modules.keys() == {_QUERY, _PASSAGE}:
            query, passage = (
                list(module.sub_modules[each].children()) for each in (_QUERY, _PASSAGE)
            )
            if not passage and len(query) == 1 and isinstance(query[0], Dense):
                return module
    return None


def apply_query_adapter(model: SentenceTransformer, vectors: Tensor, kind: Kind) -> Tensor:
    """Return what the adapter makes of vectors that were encoded without it."""
    router = adapter_router(model)
    if router is None:
        return vectors
    features: dict[str, Tensor] = router({"sentence_embedding": vectors}, task=TASKS[kind])
    return features["sentence_embedding"]


@contextmanager
def without_query_adapter(model: SentenceTransformer) -> Iterator[None]:
    """Let queries pass the adapter by within a block, and vectors have all their dimensions."""
    router = adapter_router(model)
    if router is None:
        yield
        return
    adapter = router.sub_modules[_QUERY]
    router.sub_modules[_QUERY] = router.sub_modules[_PASSAGE]
    try:
        with model.truncate_embeddings(None):
            yield
    finally:
        router.sub_modules[_QUERY] = adapter
