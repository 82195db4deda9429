"""Generator: a causal language model that reads passages and writes answers."""

import inspect
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from dalm import prompts
from dalm.config import GeneratorLength
from dalm.errors import UserError
from dalm.models import loading
from dalm.models.batching import by_length, pad
from dalm.progress import track
from dalm.prompts import frame_of, tokenise

logger = logging.getLogger(__name__)

LOGIT_BYTES = 512 * 2**20
"""Logits up to this size are computed at once; more of them in chunks, recomputed backwards."""
CHUNK = 1024
"""Tokens of such a chunk: at a vocabulary of 32,000, 128 MB of fp32 logits."""
GENERATE_TOKENS = 8_192
"""Tokens per batch when generating, prompt and answer counted."""


class Generator(nn.Module):
    """Score answers with gradient, generate answers without.

    Prompts are joined from tokenised pieces by `frame` (see `dalm.prompts`). A chat model gets its
    own chat template, any other the plain one.
    """

    def __init__(
        self, model: Any, tokenizer: Any, placement: loading.Placement, max_length: int
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.placement = placement
        self.max_length = max_length
        self.reader_passages = 1
        """Passages in a prompt, as it was tuned."""
        self.cites = False
        """Whether its prompts number the passages and ask for the numbers in the answer."""
        self.frame, self._before_answer = frame_of(tokenizer)
        causal = self._causal_lm()
        self.takes_positions = "position_ids" in inspect.signature(causal.forward).parameters
        self._logit_scale, self._softcap = _after_head(causal.config)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    @property
    def pad_token(self) -> int:
        """Token that fills a batch up; masked by position, so its value never matters."""
        pad_token = self.tokenizer.pad_token_id
        return int(self.frame.end if pad_token is None else pad_token)

    def tokenise(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each text as they are after a line break, which every prompt has.

        Tokenised alone, a SentencePiece model would lose or double the blank before a word.
        """
        return tokenise(self.tokenizer, texts)

    def tokenise_answers(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each answer, with the blank that some chat templates put before it.

        `[/INST] Ulm` is `▁Ulm` to a model, not a blank and then a word without one.
        """
        return tokenise(self.tokenizer, [self._before_answer + text for text in texts])

    def token_log_probs(
        self,
        ids: Int[Tensor, "rows length"],
        mask: Tensor | None,
        scored: Bool[Tensor, "rows length"],
        positions: Int[Tensor, "rows length"] | None = None,
    ) -> Float[Tensor, "scored"]:
        """Return log p(token | tokens before it) in fp32 for the scored positions, row by row.

        The head sees the scored positions only: of B prompts with T answer tokens each, B·T·V
        logits, never those of the prompts and the padding. A row's first token can't be scored.
        `mask` is (rows, length), or whatever the architecture takes along with `positions`, as for
        packed documents (see `dalm.models.packed_attention`).
        """
        hidden = self._backbone(ids, mask, positions)  # (rows, length, width)
        before = scored[:, 1:]
        return self._head_log_probs(hidden[:, :-1][before], ids[:, 1:][before])

    def _causal_lm(self) -> Any:
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    def _backbone(self, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        causal = self._causal_lm()
        backbone = getattr(causal, causal.base_model_prefix)
        if positions is None and mask is not None:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
        given = {"position_ids": positions} if self.takes_positions else {}
        out = backbone(input_ids=ids, attention_mask=mask, use_cache=False, **given)
        return out[0]  # type: ignore[no-any-return]

    def _head_log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        vocabulary = self._causal_lm().config.get_text_config().vocab_size
        if hidden.shape[0] * vocabulary * 4 <= LOGIT_BYTES:
            return self._score(hidden, targets)
        # One log-sum-exp over 32,000 to 256,000 logits a token is cheap to do twice; holding the
        # logits of a long batch for the backward pass is not.
        parts = [
            checkpoint(self._score, h, t, use_reentrant=False, preserve_rng_state=False)
            for h, t in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        ]
        return torch.cat(parts)

    def _score(self, hidden: Tensor, targets: Tensor) -> Tensor:
        # The module, not its weight: with LoRA on the head the weight alone is not the head.
        logits = loading.at_least_fp32(self._causal_lm().get_output_embeddings()(hidden))
        if self._logit_scale != 1:
            logits = logits * self._logit_scale
        if self._softcap:
            logits = self._softcap * torch.tanh(logits / self._softcap)
        return -F.cross_entropy(logits, targets, reduction="none")

    def generate(self, asked: Sequence[prompts.Prompt], max_new_tokens: int) -> list[str]:
        """Write an answer to each prompt, greedily, of at most `max_new_tokens` tokens."""
        answers = [""] * len(asked)
        lengths = np.array([prompt.length for prompt in asked])
        groups = list(by_length(lengths + max_new_tokens, GENERATE_TOKENS, most=128))
        for group in track(groups, len(groups), "answering", "batch"):
            batch = self.generate_tokens([asked[row].tokens for row in group], max_new_tokens)
            texts = self.tokenizer.batch_decode(batch, skip_special_tokens=True)
            for row, text in zip(group, texts, strict=True):
                answers[row] = text.strip()
        return answers

    @torch.no_grad()
    def generate_tokens(
        self, rows: Sequence[Sequence[int]], max_new_tokens: int, **hooks: Any
    ) -> list[list[int]]:
        """Continue each row of one batch, greedily, and return its new tokens up to its end token.

        The batch is padded on the left: padded on the right, a model would go on from padding.
        `hooks` are arguments of transformers' `generate`, such as a streamer.
        """
        config = self._generation_config(max_new_tokens)
        ids, mask = (t.to(self.device) for t in pad(rows, self.pad_token, left=True))
        with loading.evaluating(self), self.placement.autocast():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, **hooks
            )
        ends = set(config.eos_token_id)
        return [_until(row, ends) for row in out[:, ids.shape[1] :].tolist()]

    def _generation_config(self, max_new_tokens: int) -> GenerationConfig:
        ends = {self.frame.end}
        own = self._causal_lm().generation_config.eos_token_id
        ends |= set(own if isinstance(own, list) else [own] if own is not None else [])
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(ends),
            pad_token_id=self.pad_token,
        )

    def ask_for_citations(self) -> None:
        """Number the passages of every prompt, and ask for the numbers in the answer.

        The prompts are no longer those of the training.
        """
        self.frame, self._before_answer = frame_of(self.tokenizer, prompts.plain(prompts.CITE))
        self.cites = True

    def add_lora(self, config: LoraConfig) -> None:
        """Freeze the weights and add trainable low-rank ones."""
        self.model = get_peft_model(self.model, config)
        loading.trainable_in_fp32(self)

    def checkpoint_activations(self) -> None:
        """Keep no activations of the layers: they are recomputed backwards."""
        causal = self._causal_lm()
        new_name = getattr(causal, "activation_checkpointing_enable", None)  # transformers 5.23
        (new_name or causal.gradient_checkpointing_enable)({"use_reentrant": False})

    def export(self, folder: Path) -> None:
        """Write weights, or the adapter with its base's name, and tokenizer for transformers."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        known = {"generator_max_len": self.max_length, "reader_passages": self.reader_passages}
        (folder / "dalm.json").write_text(json.dumps(known) + "\n")


def _until(ids: list[int], ends: set[int]) -> list[int]:
    """Return the tokens before the first end token."""
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]


def load_generator(
    name: str,
    placement: loading.Placement,
    *,
    adapter: str | None = None,
    max_length: int | None = None,
) -> Generator:
    """Load any causal language model; `name` may itself be a LoRA folder that names its base.

    `max_length`, prompt and answer in tokens, defaults to that of the training.

    Raises:
        UserError: no such model, not a causal one, or one without an end-of-text token.
    """
    loading.check_model_name(name, "generator")
    tokenizer = loading.loaded(lambda: AutoTokenizer.from_pretrained(name), name, "generator")
    model = loading.loaded(lambda: _load(name, placement), name, "generator")
    if adapter is not None:
        loading.check_model_name(adapter, "generator adapter")
        model = loading.loaded(
            lambda: PeftModel.from_pretrained(model, adapter), adapter, "generator adapter"
        )
    saved = _saved(name, adapter)
    length = max_length or saved.get("generator_max_len", GeneratorLength.generator_max_len)
    most = model.config.get_text_config().to_dict().get("max_position_embeddings")
    if most is not None and length > most:
        raise UserError(f"--generator-max-len {length}: generator {name} takes at most {most}")
    generator = Generator(model, tokenizer, placement, length)
    generator.reader_passages = saved.get("reader_passages", 1)
    _check_scores(generator, name)
    return generator


def _load(name: str, placement: loading.Placement) -> Any:
    # PEFT folders load through transformers too: base first, then the adapter on top of it.
    if (Path(name) / "adapter_config.json").is_file():
        from peft import PeftConfig

        base = PeftConfig.from_pretrained(name).base_model_name_or_path
        assert base is not None
        return PeftModel.from_pretrained(_load(base, placement), name)
    model: Any = AutoModelForCausalLM.from_pretrained(name, **placement.weight_options())
    loading.check_weights(model, name, "generator")
    return model if placement.four_bit else model.to(placement.device)


def _saved(name: str, adapter: str | None) -> dict[str, int]:
    """Return what training wrote beside the model, or beside the adapter on top of it."""
    for folder in (adapter, name):
        file = Path(folder or "") / "dalm.json"
        if folder is not None and file.is_file():
            known: dict[str, int] = json.loads(file.read_text())
            return known
    return {}


def _after_head(config: Any) -> tuple[float, float | None]:
    """Return what a model does to its logits behind the head: a factor, and a soft cap.

    Cohere multiplies by `logit_scale`, Granite divides by `logits_scaling`, Gemma caps by
    c·tanh(z/c).
    """
    text = config.get_text_config()
    scale = getattr(text, "logit_scale", None) or 1.0
    scale = scale / (getattr(text, "logits_scaling", None) or 1.0)
    return float(scale), getattr(text, "final_logit_softcapping", None)


@torch.no_grad()
def _check_scores(generator: Generator, name: str) -> None:
    """Compare backbone and head, run apart, with the model's own logits on three tokens.

    An architecture that does something else between them would be trained on wrong scores. So would
    a masked language model, which transformers loads as well: it sees the token it has to predict.
    """
    ids = torch.tensor([generator.tokenise(["a b c"])[0][:3].tolist()], device=generator.device)
    if ids.shape[1] < 2:
        return
    mask = torch.ones_like(ids)
    scored = mask.bool()
    scored[:, 0] = False
    with loading.evaluating(generator):
        ours = generator.token_log_probs(ids, mask, scored)
        logits = generator.model(input_ids=ids, attention_mask=mask).logits.float()
        other_end = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
        others = generator.model(input_ids=other_end, attention_mask=mask).logits.float()
    if not torch.allclose(others[:, :-1], logits[:, :-1], atol=0.1, rtol=1e-2):
        raise UserError(
            f"generator {name}: {type(generator.model).__name__} sees the tokens to come; "
            "name a causal language model"
        )
    theirs = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).flatten()
    if not torch.allclose(ours, theirs, atol=1e-2, rtol=1e-2):
        raise UserError(
            f"generator {name}: {type(generator.model).__name__} changes its logits in a way "
            "that this toolkit doesn't know; please report the model"
        )
