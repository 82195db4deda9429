"""Embed queries and passages with a sentence-transformers model: the retriever."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor, nn

from dalm import artifacts
from dalm.collectives import is_sharded, missing_passes
from dalm.errors import UserError
from dalm.models import (
    adapter_base,
    embedding_model,
    loading,
    query_adapter,
    retriever_checks,
    retriever_lora,
)
from dalm.models.batching import by_equal_length, by_length, pad, to_device
from dalm.models.control_tokens import TextTokenizer
from dalm.models.lora_targets import Targets, check_adapters, described
from dalm.models.retriever_sides import TASKS, Kind, Side, choose_sides, saved_sides
from dalm.models.token_arrays import in_parts, token_arrays
from dalm.progress import track

logger = logging.getLogger(__name__)

ENCODE_TOKENS = 16_384
"""Tokens in a batch when encoding without gradient: enough to fill a GPU."""
CPU_TOKENS = 2_048
"""The same on a CPU, whose cache holds the activations of so many: more are no faster there, and
take more memory."""
Backend = Literal["torch", "onnx-int8"]
"""What computes the vectors of texts without gradient."""
ENCODED = "sentence_embedding"
"""Feature with vectors that training leaves unchanged, as `encode_frozen` gives them."""


class Retriever(nn.Module):
    """Embed queries and passages in one space; similarity is the inner product of their vectors.

    A model that is compared by the cosine (`similarity`) gives unit vectors. `embed` keeps the
    gradient and is used in training; `encode_queries` and `encode_passages` turn texts into vectors
    without gradient. Both get the same tokens: prompts, truncation and the final EOS of an
    autoregressive model are applied in one place, `tokenise`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        placement: loading.Placement,
        sides: Mapping[Kind, Side],
        name: str = "",
    ) -> None:
        super().__init__()
        self.model = model
        self.placement = placement
        self.sides = dict(sides)
        self.name = name
        self.longest: int | None = None
        """Tokens of a text that the model takes at most; None: there is no limit."""
        self.gives_unit_vectors = self.similarity == "cosine"
        """Whether every vector has length 1, so that a dot product is a cosine."""
        self.pads = True
        """Whether texts of several lengths are encoded in one batch, padded."""
        self.backend: Backend = "torch"
        self._onnx: nn.Module | None = None
        self.adapts_queries_alone = False
        self.matryoshka_dims: tuple[int, ...] = ()
        """Sizes, besides the whole, that the vectors were trained to be cut to."""
        self._prompt_lengths: dict[tuple[Kind, Side], Any] = {}
        # Pool in fp32, so that a bf16 backbone doesn't round the pooled vector.
        for module in embedding_model.transformers_of(model):
            module.register_forward_hook(_tokens_to_fp32)

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        # The shards of sharded weights may be in the CPU's memory.
        return self.placement.device if is_sharded(self) else torch.device(self.model.device)

    @property
    def dim(self) -> int:
        """Number of dimensions of an embedding."""
        size = self.model.get_embedding_dimension()
        assert size is not None
        return size

    @property
    def similarity(self) -> Literal["cosine", "dot"]:
        """What the model was trained to be compared by."""
        return "dot" if self.model.similarity_fn_name == "dot" else "cosine"

    @property
    def pad_token(self) -> int:
        """Id of the padding token; it is masked, so its value doesn't matter."""
        return self._pad_token("passage")

    def _pad_token(self, kind: Kind) -> int:
        return int(getattr(self.tokenizer(kind), "pad_token_id", None) or 0)

    def tokenizer(self, kind: Kind) -> Any:
        """Return the tokenizer of one side's texts."""
        return embedding_model.input_module(self.model, kind).tokenizer

    def tokenise(self, texts: Sequence[str], kind: Kind) -> list[np.ndarray]:
        """Return the tokens of each text with its side's prompt and truncation.

        Control tokens that a text spells, such as `[SEP]`, are text.

        Raises:
            UserError: a token has no row in the model's table of embeddings.
        """
        module, side = embedding_model.input_module(self.model, kind), self.sides[kind]

        def tokenised(texts: list[str]) -> list[np.ndarray]:
            rows = self._tokens(texts, kind)
            if embedding_model.reads_plain_text(module):
                as_text = TextTokenizer(module.tokenizer, kept=side.prompt)
                for place in as_text.spells_control(texts, rows):
                    ids = as_text.whole(side.prompt + texts[place], side.max_len)
                    rows[place] = np.array(ids, np.int32)
            retriever_checks.check_tokens(f"retriever {self.name}", module, rows)
            return rows

        return in_parts(texts, tokenised)

    def _tokens(self, texts: list[str], kind: Kind) -> list[np.ndarray]:
        module, side = embedding_model.input_module(self.model, kind), self.sides[kind]
        if embedding_model.tokenises_alone(module):
            whole = [side.prompt + text for text in texts] if side.prompt else texts
            return token_arrays(module.tokenizer, whole, side.max_len)
        features = self._preprocessed(texts, kind, side.max_len)
        return _split(features, side.max_len, type(module).__name__)

    def _preprocessed(self, texts: list[str], kind: Kind, max_len: int) -> dict[str, Any]:
        prompt = self.sides[kind].prompt or None
        return self.model.preprocess(texts, prompt=prompt, max_length=max_len, task=TASKS[kind])

    def _prompt_length(self, kind: Kind) -> Any:
        """Return the prompt's number of tokens if the model has to know; some don't pool it."""
        side = self.sides[kind]
        if (kind, side) not in self._prompt_lengths:
            features = self._preprocessed([""], kind, side.max_len) if side.prompt else {}
            self._prompt_lengths[kind, side] = features.get("prompt_length")
        return self._prompt_lengths[kind, side]

    def batch(self, sequences: Sequence[np.ndarray], kind: Kind) -> dict[str, Any]:
        """Pad token sequences to the features that `embed` takes."""
        # Right padding, whatever the tokenizer's side: absolute positions start at 0.
        ids, mask = pad(sequences, self._pad_token(kind))
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        length = self._prompt_length(kind)
        return features if length is None else features | {"prompt_length": length}

    def embed(self, features: dict[str, Any], kind: Kind) -> Float[Tensor, "batch dim"]:
        """Return vectors in fp32, with gradient.

        If only queries have adapters, passages are embedded by the base, without gradient. Where
        features hold vectors that were encoded before (`ENCODED`), only a query adapter is run.
        """
        if ENCODED in features:
            vectors = query_adapter.apply_query_adapter(self.model, features[ENCODED], kind)
            return self.cut(loading.at_least_fp32(vectors), self.model.truncate_dim)
        if kind == "passage" and self.adapts_queries_alone:
            with torch.no_grad(), self._without_adapters():
                return self._embed(features, kind)
        return self._embed(features, kind)

    def _embed(self, features: dict[str, Any], kind: Kind) -> Tensor:
        module = embedding_model.input_module(self.model, kind)
        given = _bags(features) if isinstance(module, StaticEmbedding) else dict(features)
        vectors = self.model(given, task=TASKS[kind])["sentence_embedding"]
        return self.cut(loading.at_least_fp32(vectors), self.model.truncate_dim)

    def cut(self, vectors: Float[Tensor, "texts dim"], dim: int | None) -> Tensor:
        """Return the first dimensions of vectors, as this model's vectors are compared.

        None: all of them.
        """
        vectors = vectors[:, :dim]
        return vectors if self.similarity == "dot" else F.normalize(vectors, dim=-1)

    @contextmanager
    def _without_adapters(self) -> Iterator[None]:
        layers = [m for m in self.model.modules() if isinstance(m, BaseTunerLayer)]
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    @property
    def trains_passages(self) -> bool:
        """Whether training changes the vectors of passages."""
        trained = any(parameter.requires_grad for parameter in self.parameters())
        return trained and not self.adapts_queries_alone and not self.trains_adapter_alone

    @property
    def trains_adapter_alone(self) -> bool:
        """Whether training changes nothing but the map of the queries' vectors."""
        router = query_adapter.adapter_router(self.model)
        adapter = set() if router is None else {*router.parameters()}
        trained = {parameter for parameter in self.parameters() if parameter.requires_grad}
        return bool(trained) and trained <= adapter

    def encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the vectors of queries, without gradient."""
        return self.encode_tokens(self.tokenise(texts, "query"), "query")

    def encode_passages(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the vectors of passages, without gradient."""
        return self.encode_tokens(self.tokenise(texts, "passage"), "passage")

    def encode_tokens(self, rows: Sequence[np.ndarray], kind: Kind) -> Float[Tensor, "texts dim"]:
        """Return the vectors of texts in tokens, without gradient and without dropout."""
        vectors = torch.empty(len(rows), self.dim)
        groups = self._groups(np.array([len(row) for row in rows]))
        what = "questions" if kind == "query" else "passages"
        missing = missing_passes(self, len(groups))
        with (
            loading.evaluating(self),
            torch.no_grad(),
            self.placement.autocast(),
            self._in_backend(),
        ):
            for group in track(groups, len(rows), f"encoding {what}", what, len):
                features = self.batch([rows[row] for row in group], kind)
                vectors[torch.from_numpy(group)] = (
                    self.embed(to_device(features, self.device), kind).float().cpu()
                )
            for _ in range(missing):
                features = self.batch([rows[0]] if len(rows) else self.tokenise([""], kind), kind)
                self.embed(to_device(features, self.device), kind)
        return vectors

    def _groups(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Return the batches, by the rows' places, in which texts are encoded."""
        if self._onnx is not None:
            # One by one: int8's scale is of a whole batch, so that a text would change the others.
            return list(by_length(lengths, 0, most=1))
        budget = min(ENCODE_TOKENS, CPU_TOKENS) if self.device.type == "cpu" else ENCODE_TOKENS
        grouped = by_length if self.pads else by_equal_length
        return list(grouped(lengths, budget, most=256))

    def encode_by(self, backend: Backend, model: nn.Module) -> None:
        """Let another model than the transformer, made of it, encode texts without gradient."""
        self.backend, self._onnx = backend, model

    @contextmanager
    def _in_backend(self) -> Iterator[None]:
        module = embedding_model.input_module(self.model, "passage")
        if self._onnx is None:
            yield
            return
        own, module.model = module.model, self._onnx
        try:
            yield
        finally:
            module.model = own

    def encode_frozen(self, rows: Sequence[np.ndarray], kind: Kind) -> Float[Tensor, "texts dim"]:
        """Return the vectors of texts in tokens as they enter the query adapter, if there is one.

        They have all their dimensions, also in a model that cuts them.
        """
        with query_adapter.without_query_adapter(self.model):
            return self.encode_tokens(rows, kind)

    def add_query_adapter(self) -> None:
        """Freeze the weights and add a linear map of the queries' vectors, to be trained alone.

        One that the model has already is trained further.
        """
        self.requires_grad_(False)
        query_adapter.add_query_adapter(self.model).requires_grad_(True)
        loading.trainable_in_fp32(self)

    def add_lora(self, config: LoraConfig, *, queries_alone: bool = False) -> None:
        """Freeze the weights and add LoRA adapters, with `queries_alone` for queries only.

        Raises:
            UserError: the model has no layers that LoRA can adapt.
            ValueError: PEFT can't adapt the layers that the config names, or no gradient reaches
                one of them.
        """
        retriever_lora.check_takes_adapters(self.model, self.name)
        chosen: Targets | None = None
        if config.target_modules == "all-linear":
            run = self._run_in_training
            chosen = retriever_lora.retriever_targets(self.model, self.name, config.r, run)
            config = replace(config, target_modules=chosen.names)
        # A pooler isn't part of the loss: an adapter on it would never get a gradient.
        if any("pooler" in name.split(".") for name, _ in self.model.named_modules()):
            config = replace(config, exclude_modules=r".*pooler.*")
        self.model.add_adapter(config)
        self.adapts_queries_alone = queries_alone
        loading.trainable_in_fp32(self)
        if chosen is None:
            check_adapters(self.model, self._run_in_training)
        elif chosen.left_out:
            logger.info("adapters   %s", described(chosen))

    def _run_in_training(self) -> Tensor:
        """Embed a few texts as queries, in training mode."""
        tokens = self.tokenise(retriever_checks.PROBES, "query")
        features = to_device(self.batch(tokens, "query"), self.device)
        training = self.training
        self.train()
        try:
            with self.placement.autocast():
                return self.embed(features, "query")
        finally:
            self.train(training)

    def checkpoint_activations(self) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them.

        Static embeddings have none to keep.
        """
        if not embedding_model.transformers_of(self.model):
            logger.warning("--gradient-checkpointing has no effect on retriever %s", self.name)
        for module in embedding_model.transformers_of(self.model):
            loading.checkpoint_activations(module.model)

    def export(self, folder: Path) -> None:
        """Write the model so that sentence-transformers gives the same embeddings without DALM.

        With LoRA the weights are the adapter's, with the name of its base.
        """
        longest = max(side.max_len for side in self.sides.values())
        embedding_model.save_embedding_model(self.model, folder, longest)
        adapter_base.name_base(folder)
        sides = {f"{kind}_{k}": v for kind, s in self.sides.items() for k, v in asdict(s).items()}
        written = sides | {"adapts_queries_alone": self.adapts_queries_alone}
        if self.matryoshka_dims:
            written["matryoshka_dims"] = self.matryoshka_dims
        artifacts.write_json(folder / "dalm.json", written)


def load_retriever(
    name: str,
    placement: loading.Placement,
    *,
    adapter: str | None = None,
    lengths: Mapping[Kind, int | None] | None = None,
    prompts: Mapping[Kind, str | None] | None = None,
    is_autoregressive: bool | None = None,
    as_long_as: Retriever | None = None,
) -> Retriever:
    """Load any embedding model: sentence-transformers', or a bare encoder or decoder.

    A bare encoder is pooled by the mean, a bare decoder (autoregressive) by its last token, with
    EOS appended. `adapter` is a folder with LoRA adapters to load on top. Lengths (in tokens) and
    prompts of a side default to those that the model was saved with; lengths with `as_long_as` to
    those of another retriever, as far as this one goes.

    Raises:
        UserError: no such model, or a length over the model's maximum.
    """
    loading.check_model_name(name, "retriever")
    adapter_base.check_base(name, "retriever")
    model = loading.loaded(
        lambda: embedding_model.load_embedding_model(name, placement, is_autoregressive),
        name,
        "retriever",
    )
    if adapter is not None:
        loading.check_model_name(adapter, "retriever adapter")
        loading.loaded(lambda: model.load_adapter(adapter), adapter, "retriever adapter")
    saved = saved_sides(name, adapter)
    if as_long_as is not None:
        saved |= {f"{kind}_max_len": side.max_len for kind, side in as_long_as.sides.items()}
    retriever = Retriever(model, placement, retriever_checks.PROBE_SIDES, name)

    def choose_and_check() -> None:
        retriever.longest = retriever_checks.longest(retriever)
        retriever.sides = choose_sides(
            name,
            model.prompts,
            saved,
            retriever.longest,
            lengths=lengths or {},
            prompts=prompts or {},
        )
        # The model's own prompts, so that `encode_query` uses them after an export.
        query, passage = (retriever.sides[kind].prompt for kind in TASKS)
        model.prompts = {**model.prompts, "query": query, "document": passage}
        retriever.adapts_queries_alone = bool(saved.get("adapts_queries_alone", False))
        retriever.matryoshka_dims = tuple(saved.get("matryoshka_dims", ()))
        retriever_checks.check(retriever)

    # Its files may have values that libraries take and fail on when a text is embedded.
    loading.loaded(choose_and_check, name, "retriever")
    if passages_by := saved.get("passages_by"):
        logger.warning(
            "retriever %s embeds queries only; its passages are embedded by %s", name, passages_by
        )
    return retriever


def _split(features: Mapping[str, Any], max_len: int, module: str) -> list[np.ndarray]:
    """Return each text's tokens from what a module made of a list of texts.

    Raises:
        UserError: the module doesn't give the ids of tokens.
    """
    if "input_ids" not in features or not {"attention_mask", "offsets"} & {*features}:
        raise UserError(
            f"retriever: its first module, {module}, makes no tokens for a transformer or for "
            "static embeddings; name another model"
        )
    ids = features["input_ids"]
    if "offsets" in features:  # of static embeddings, which don't cut texts themselves
        flat, starts = ids.numpy().astype(np.int32), features["offsets"].numpy()
        return [row[:max_len] for row in np.split(flat, starts[1:])]
    mask = features["attention_mask"].bool()
    flat = ids[mask].numpy().astype(np.int32)
    return np.split(flat, mask.sum(1).cumsum(0)[:-1].numpy())


def _bags(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return padded tokens as static embeddings take them: joined, with each text's start."""
    mask = features["attention_mask"].bool()
    lengths = mask.sum(1)
    return {"input_ids": features["input_ids"][mask], "offsets": lengths.cumsum(0) - lengths}


def _tokens_to_fp32(_module: nn.Module, _inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
    if "token_embeddings" in features:
        features["token_embeddings"] = loading.at_least_fp32(features["token_embeddings"])
    return features


def retriever_from_config(
    config: Any,
    name: str,
    placement: loading.Placement,
    adapter: str | None = None,
    *,
    as_long_as: Retriever | None = None,
) -> Retriever:
    """Load a retriever with the lengths, prompts and pooling that a command's options ask for.

    An option that is None, or that the command lacks, leaves what the model was saved with, or the
    lengths of `as_long_as`.

    Raises:
        UserError: no such model, or a length that the model can't take.
    """
    retriever = load_retriever(
        name,
        placement,
        adapter=adapter,
        lengths={"query": config.query_max_len, "passage": config.passage_max_len},
        prompts={"query": config.query_prompt, "passage": config.passage_prompt},
        is_autoregressive=getattr(config, "retriever_is_autoregressive", None),
        as_long_as=as_long_as,
    )
    tell_retriever(retriever, adapter)
    return retriever


def tell_retriever(retriever: Retriever, adapter: str | None = None) -> None:
    """Log a retriever in one line; `adapter` is the folder of adapters loaded on top of it."""
    base = retriever.name if adapter else adapter_base.base_of(retriever.name)
    parts = [f"LoRA on {base}"] if base else []
    parts += retriever_checks.description(retriever)
    loading.tell("retriever", adapter or retriever.name, parts)
