"""Embed texts as queries or passages, as OpenAI's API does."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dalm.models.retriever_sides import Kind
from dalm.serving import request_log
from dalm.serving.api_errors import invalid
from dalm.serving.chat_requests import check_model
from dalm.serving.names import retriever_name
from dalm.serving.open_index import OpenIndex
from dalm.serving.request_fields import Fields, text_of
from dalm.serving.service import Service

MOST_TEXTS = 2048
SIDES: dict[str, Kind] = {
    "query": "query",
    "passage": "passage",
    "document": "passage",
    "search_query": "query",
    "search_document": "passage",
}
"""Values of `input_type`, by the words of other servers as well."""
TOKENS = (
    "input holds numbers: tokens of another tokenizer than the retriever's can't be read; send "
    "texts (in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


def routes(service: Service) -> list[BaseRoute]:
    """Return the route."""

    async def embeddings(request: Request) -> Response:
        fields = await Fields.of(request)
        index = service.index
        name, side = _model(fields, index)
        texts = _texts(fields.take("input"))
        form = fields.choice("encoding_format", "float", "base64") or "float"
        dimensions = fields.whole("dimensions", 1, index.retriever.retriever.dim)
        fields.without_effect("user")
        fields.finish()
        with request_log.of(request).stage("embed"):
            vectors, tokens = await service.run(_embed, index, texts, side, dimensions)
        data = [
            {"object": "embedding", "index": place, "embedding": _encoded(vector, form)}
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})

    return [Route("/v1/embeddings", embeddings, methods=["POST"])]


def _model(fields: Fields, index: OpenIndex) -> tuple[str, Kind]:
    """Return the model's name and the side, of `input_type` or of the name.

    Without either it is the passages', whose texts may be longer, if both have the same prompt.
    """
    asked = fields.required_text("model")
    named, colon, suffix = asked.rpartition(":")
    by_name = SIDES.get(suffix) if colon else None
    own = retriever_name(index)
    check_model(named if by_name else asked, own)
    given = fields.choice("input_type", *SIDES)
    by_type = SIDES[given] if given else None
    if by_name and by_type and by_name != by_type:
        raise invalid(f"input_type is {given}, but the model's name says {suffix}", "input_type")
    side = by_type or by_name
    if side is None:
        sides = index.retriever.retriever.sides
        if sides["query"].prompt != sides["passage"].prompt:
            raise invalid(
                f"the retriever embeds queries and passages differently: name the model "
                f"{own}:query or {own}:passage, or send input_type",
                "model",
            )
        side = "passage"
    return asked, side


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], int | list):
        raise invalid(TOKENS, "input", "tokens_not_supported")
    if not 1 <= len(values) <= MOST_TEXTS:
        raise invalid(f"input has {len(values)} texts, not 1 to {MOST_TEXTS}", "input")
    texts = [text_of(each, "input") for each in values]
    if "" in texts:
        raise invalid("input has an empty text", "input")
    return texts


def _embed(
    index: OpenIndex, texts: Sequence[str], side: Kind, dimensions: int | None
) -> tuple[np.ndarray, int]:
    vectors, tokens = index.retriever.encode(texts, side)
    if dimensions is not None and dimensions < vectors.shape[1]:
        vectors = vectors[:, :dimensions]
        if index.retriever.retriever.gives_unit_vectors:
            vectors = F.normalize(vectors, dim=-1)
    return vectors.numpy(), tokens


def _encoded(vector: np.ndarray, form: str) -> Any:
    if form == "base64":  # float32, little-endian
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector.tolist()
