"""Load a causal language model that answers from passages, score its answers, and generate them."""

import copy
import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicCache

from dalm.collectives import is_sharded
from dalm.errors import UserError
from dalm.models import adapter_base, chat_template, generator_checks, loading
from dalm.models.batching import by_length, pad
from dalm.models.chat_rendering import ChatTemplateError, is_random, prints_date
from dalm.models.control_tokens import TextTokenizer
from dalm.models.lora_targets import Targets, check_adapters, described, lora_targets
from dalm.models.prompt_frame import frame_of, texts_of, tokenise
from dalm.progress import ahead, track
from dalm.prompts import (
    DEFAULT,
    GeneratorSettings,
    Prompt,
    PromptTemplate,
    choose_template,
    saved_settings,
)

logger = logging.getLogger(__name__)

LOGIT_BYTES = 512 * 2**20
"""Logits up to this size are computed at once; larger ones in chunks that the backward pass
recomputes."""
CHUNK = 1024
"""Tokens of a chunk: with a vocabulary of 32,000, 128 MB of fp32 logits."""
GENERATE_TOKENS = 8_192
"""Tokens per batch when generating, prompt and answer counted."""


class AnsweredBatch(NamedTuple):
    """The answers to prompts that were read together."""

    rows: list[int]
    answers: list[str]
    states: DynamicCache | None = None
    """Keys and values of their prompts, padded on the left, and answers."""


class Generator(nn.Module):
    """Score answers with gradient, generate answers without.

    Prompts are joined from tokenised pieces by `frame` (see `dalm.models.prompt_frame`), the tokens
    of `template` within the model's own chat template, or without one if it has none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        placement: loading.Placement,
        max_length: int,
        template: PromptTemplate = DEFAULT,
        *,
        date: datetime | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.placement = placement
        self.max_length = max_length
        self.template = template
        """The prompt that it is trained with, written into its folder; without citations."""
        self.reader_passages = 1
        """Passages in a prompt, as it was trained."""
        self.cites = False
        """Whether its prompts number the passages and ask for the numbers in the answer."""
        self.date = _date_of(tokenizer, date)
        """The date that its prompts say, if the chat template prints one: that of the training."""
        self.longest: int | None = None
        """Tokens of prompt and answer that the model takes; None: there is no limit."""
        self.padding = generator_checks.Padding()
        self.shares_prefixes: bool | None = None
        """Whether prompts can be scored in a tree (`dalm.models.prefix_tree`); None: not tried."""
        self.texts = texts_of(tokenizer, template, self.date)
        """The template's texts within the model's chat template."""
        self.frame, self._borders = frame_of(tokenizer, self.texts)
        self.text_tokenizer = TextTokenizer(tokenizer, beyond=self.embeddings)
        self.takes_positions = "position_ids" in inspect.signature(self.causal.forward).parameters
        self._logit_scale, self._softcap = _after_head(self.causal.config)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        # The shards of sharded weights may be in the CPU's memory.
        return self.placement.device if is_sharded(self) else torch.device(self.model.device)

    @property
    def causal(self) -> Any:
        """The causal language model, without PEFT's wrapper."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def is_chat(self) -> bool:
        """Whether its prompts are within the model's own chat template."""
        return self.texts.is_chat

    @property
    def embeddings(self) -> int:
        """Number of rows of the table of embeddings."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def pad_token(self) -> int:
        """Padding token; it is masked, so any token of the table will do."""
        pad_token = self.tokenizer.pad_token_id
        known = pad_token is not None and pad_token < self.embeddings
        return int(pad_token if known else self.frame.end)

    @property
    def end_tokens(self) -> list[int]:
        """Tokens at which an answer ends: the frame's, and those of the model's own settings."""
        own = self.causal.generation_config.eos_token_id
        ends = set(own if isinstance(own, list) else [own] if own is not None else [])
        return sorted(ends | {self.frame.end})

    def tokenise(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each text as they are within a prompt; none is a control token."""
        return tokenise(self.text_tokenizer, texts)

    def tokenise_passages(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each passage, with what a template has at its borders."""
        return tokenise(self.text_tokenizer, texts, self._borders.passage)

    def tokenise_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each query, with what a template has at its borders."""
        return tokenise(self.text_tokenizer, texts, self._borders.query)

    def tokenise_answers(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the tokens of each answer, with what a template has at its borders."""
        return tokenise(self.text_tokenizer, texts, self._borders.answer)

    def token_log_probs(
        self,
        ids: Int[Tensor, "rows length"],
        mask: Tensor | None,
        scored: Bool[Tensor, "rows length"],
        positions: Int[Tensor, "rows length"] | None = None,
    ) -> Float[Tensor, "scored"]:
        """Return log p(token | tokens before it) in fp32 for the scored positions, row by row.

        The head gets the scored positions only: for B prompts with T answer tokens each, B·T·V
        logits, never those of prompts and padding. A row's first token can't be scored. `mask` is
        (rows, length), or what the architecture takes with `positions`, as for packed documents
        (see `dalm.models.packed_attention`).
        """
        if not self.padding.when_scoring and positions is None and len(ids) > 1:
            assert mask is not None
            rows = zip(ids, mask.bool(), scored, strict=True)
            alone = [(row[kept][None], own[kept][None]) for row, kept, own in rows]
            parts = [self.token_log_probs(i, torch.ones_like(i), own) for i, own in alone]
            return torch.cat(parts)
        hidden = self.hidden_states(ids, mask, positions)
        before = scored[:, 1:]
        return self.head_log_probs(hidden[:, :-1][before], ids[:, 1:][before])

    def hidden_states(
        self,
        ids: Int[Tensor, "rows length"],
        mask: Tensor | None,
        positions: Int[Tensor, "rows length"] | None = None,
    ) -> Float[Tensor, "rows length width"]:
        """Return the hidden states that the head takes; the arguments are `token_log_probs`'s."""
        backbone = generator_checks.backbone_of(self.causal)
        if positions is None and mask is not None:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
        options = {"position_ids": positions} if self.takes_positions else {}
        out = backbone(input_ids=ids, attention_mask=mask, use_cache=False, **options)
        return out[0]  # type: ignore[no-any-return]

    def head_log_probs(
        self, hidden: Float[Tensor, "n width"], targets: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """Return the log-probabilities of tokens from the hidden states before them, in fp32."""
        vocabulary = self.causal.config.get_text_config().vocab_size
        if hidden.shape[0] * vocabulary * 4 <= LOGIT_BYTES:
            return self._score(hidden, targets)
        # A log-sum-exp over 32,000 to 256,000 logits a token is cheap to compute twice; keeping
        # the logits of a long batch for the backward pass is not.
        parts = [
            checkpoint(self._score, h, t, use_reentrant=False, preserve_rng_state=False)
            for h, t in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        ]
        return torch.cat(parts)

    def _score(self, hidden: Tensor, targets: Tensor) -> Tensor:
        # The module, not its weight: LoRA on the head isn't in the weight.
        logits = loading.at_least_fp32(self.causal.get_output_embeddings()(hidden))
        if self._logit_scale != 1:
            logits = logits * self._logit_scale
        if self._softcap:
            logits = self._softcap * torch.tanh(logits / self._softcap)
        return -F.cross_entropy(logits, targets, reduction="none")

    def generate(self, asked: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """Write an answer to each prompt, greedily, of at most `max_new_tokens` tokens."""
        answers = [""] * len(asked)
        for batch in self.generate_batches(asked, max_new_tokens):
            for row, answer in zip(batch.rows, batch.answers, strict=True):
                answers[row] = answer
        return answers

    def generate_batches(
        self, asked: Sequence[Prompt], max_new_tokens: int, *, keep_states: bool = False
    ) -> Iterator[AnsweredBatch]:
        """Yield the answers that `generate` returns, one batch of similar length after the other.

        `keep_states`: with the keys and values of prompts and answers.
        """
        lengths = np.array([prompt.length for prompt in asked])
        most = 128 if self.padding.when_answering else 1
        groups = list(by_length(lengths + max_new_tokens, GENERATE_TOKENS, most))
        for group in track(groups, len(asked), "answering", "answers", len):
            states = DynamicCache() if keep_states else None
            tokens = [asked[row].tokens for row in group]
            hooks = {"past_key_values": states} if keep_states else {}
            batch = self.generate_tokens(tokens, max_new_tokens, **hooks)
            texts = self.tokenizer.batch_decode(batch, skip_special_tokens=True)
            yield AnsweredBatch(group.tolist(), [text.strip() for text in texts], states)

    @torch.no_grad()
    def generate_tokens(
        self, rows: Sequence[Sequence[int]], max_new_tokens: int, **hooks: Any
    ) -> list[list[int]]:
        """Continue each row of one batch, greedily, and return its new tokens up to its end token.

        The batch is padded on the left: padded on the right, a model would go on from padding.
        `hooks` are arguments of transformers' `generate`, such as a streamer.
        """
        if not self.padding.when_answering and len(rows) > 1:
            return [self.generate_tokens([row], max_new_tokens, **hooks)[0] for row in rows]
        config = self._generation_config(max_new_tokens)
        stops = [*hooks.pop("stopping_criteria", ()), _Progress(len(rows), max_new_tokens)]
        hooks["stopping_criteria"] = StoppingCriteriaList(stops)
        ids, mask = (t.to(self.device) for t in pad(rows, self.pad_token, left=True))
        with loading.evaluating(self), self.placement.autocast():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, **hooks
            )
        ends = set(config.eos_token_id)
        return [_until(row, ends) for row in out[:, ids.shape[1] :].tolist()]

    def _generation_config(self, max_new_tokens: int) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.end_tokens,
            pad_token_id=self.pad_token,
        )

    def ask_for_citations(self) -> None:
        """Number the passages of every prompt, and ask for the numbers in the answer.

        The prompts are no longer those of the training.
        """
        texts = texts_of(self.tokenizer, self.template.for_citations(), self.date)
        self.frame, self._borders = frame_of(self.tokenizer, texts)
        self.cites = True

    def instructed(self, text: str) -> "Generator":
        """Return this generator with a text before the instruction of its prompts.

        Raises:
            ValueError: the text has a placeholder.
        """
        template = self.template.for_citations() if self.cites else self.template
        template = replace(template, instruction=f"{text}\n\n{template.instruction}")
        other = copy.copy(self)
        texts = texts_of(self.tokenizer, template, self.date)
        other.frame, other._borders = frame_of(self.tokenizer, texts)
        return other

    def add_lora(self, config: LoraConfig) -> None:
        """Freeze the weights and add LoRA adapters, by default to the layers that take them.

        Raises:
            ValueError: PEFT can't adapt the layers that the config names, or no gradient reaches
                one of them.
        """
        chosen: Targets | None = None
        if config.target_modules == "all-linear":
            chosen = lora_targets(self.model, self._run)
            config = replace(config, target_modules=chosen.names)
        self.model = get_peft_model(self.model, config)
        loading.trainable_in_fp32(self)
        if chosen is None:
            check_adapters(self.model, self._run)
        elif chosen.left_out:
            logger.info("adapters   %s", described(chosen))

    def _run(self) -> Tensor:
        """Score a few tokens in training mode."""
        ids = torch.arange(8, device=self.device)[None] % self.embeddings
        mask = torch.ones_like(ids)
        training = self.training
        self.train()
        try:
            with torch.random.fork_rng(), self.placement.autocast():
                return self.token_log_probs(ids, mask, mask.bool())
        finally:
            self.train(training)

    def checkpoint_activations(self) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them."""
        loading.checkpoint_activations(self.causal)

    def export(self, folder: Path) -> None:
        """Write weights, or the adapter with its base's name, and tokenizer for transformers.

        The prompt is in `dalm.json`, and in the tokenizer's chat template (see
        `dalm.models.chat_template`).
        """
        self.model.save_pretrained(folder)
        adapter_base.name_base(folder)
        self.export_tokenizer(folder)
        GeneratorSettings(self.max_length, self.reader_passages, self.template, self.date).write(
            folder
        )

    def export_tokenizer(self, folder: Path, *, from_messages: bool = False) -> None:
        """Write the tokenizer, whose chat template has the prompt.

        With `from_messages` it reads the prompt from plain messages, too (see
        `dalm.models.plain_messages`), and is no chat template for anything else.
        """
        base = self.tokenizer.chat_template
        try:
            self.tokenizer.chat_template = chat_template.with_documents(
                self.tokenizer,
                self.template,
                self.texts,
                self.date,
                from_messages=from_messages,
            )
            self.tokenizer.save_pretrained(folder)
            loading.name_tokenizer_code(folder)
        finally:
            self.tokenizer.chat_template = base


class _Progress(StoppingCriteria):
    """Show at each token how much of a batch may be written by now; stop nothing."""

    def __init__(self, rows: int, max_new_tokens: int) -> None:
        self.per_token = rows / max_new_tokens
        self.tokens = 0

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        self.tokens += 1
        ahead(self.tokens * self.per_token)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _until(ids: list[int], ends: set[int]) -> list[int]:
    """Return the tokens before the first end token."""
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]


def load_generator(
    name: str,
    placement: loading.Placement,
    *,
    adapter: str | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
    passages: int | None = None,
) -> Generator:
    """Load any causal language model; `name` may itself be a LoRA folder that names its base.

    `max_length`, prompt and answer in tokens, defaults to that of the training, else to what
    prompts with so many `passages` take as a rule; these to as many as in training. So does the
    prompt
    template, which `prompt` names a file of (see `dalm.prompts.read_prompt`).

    Raises:
        UserError: no such model, not a causal one, or one without an end-of-text token; no such
            prompt, or a damaged dalm.json.
    """
    loading.check_model_name(name, "generator")
    adapter_base.check_base(name, "generator")
    saved = saved_settings(name, adapter)
    template = choose_template(prompt, saved.template)
    tokenizer = loading.loaded(lambda: _load_tokenizer(name, placement, adapter), name, "generator")
    model = loading.loaded(lambda: _load(name, placement), name, "generator")
    if adapter is not None:
        loading.check_model_name(adapter, "generator adapter")
        model = loading.loaded(
            lambda: PeftModel.from_pretrained(model, adapter), adapter, "generator adapter"
        )
    try:
        generator = Generator(model, tokenizer, placement, 0, template, date=saved.date)
    except ChatTemplateError as error:
        raise unusable_chat_template(name, str(error)) from error
    if generator.is_chat and is_random(tokenizer, generator.date):
        logger.warning(
            "generator %s: its chat template renders differently each time, so that the prompts of "
            "training and answering differ",
            name,
        )
    generator.reader_passages = saved.reader_passages
    generator_checks.check_vocabulary(generator, name)
    generator_checks.check_scores(generator, name)
    most = generator.longest = generator_checks.longest(generator)
    generator.max_length = generator_checks.choose_length(
        name, max_length, saved.max_length, most, passages or saved.reader_passages
    )
    generator.padding = generator_checks.padding_is_harmless(generator, most)
    return generator


def unusable_chat_template(name: str, reason: str) -> UserError:
    """Return the error for a generator whose chat template fails."""
    return UserError(
        f"generator {name}: its chat template can't be rendered ({reason}); mend the template in "
        "its chat_template.jinja or tokenizer_config.json"
    )


def _date_of(tokenizer: Any, saved: datetime | None) -> datetime | None:
    """Return the date that prompts say: the saved one, else today; None: they say none."""
    if not tokenizer.chat_template:
        return None
    # Without the time of day: every process of a run has the same prompts, and a run that is
    # resumed on the same day.
    date = saved or datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return date if prints_date(tokenizer, date) else None


def _load(name: str, placement: loading.Placement) -> Any:
    # PEFT folders load through transformers too: base first, then the adapter on top of it.
    if loading.has_adapter(name):
        base = PeftConfig.from_pretrained(name).base_model_name_or_path
        assert base is not None
        return PeftModel.from_pretrained(_load(base, placement), name)
    trusted = {"trust_remote_code": placement.trust_remote_code}
    generator_checks.check_kind(name, AutoConfig.from_pretrained(name, **trusted))
    model: Any = AutoModelForCausalLM.from_pretrained(name, **trusted, **placement.weight_options())
    loading.check_weights(model, name, "generator")
    return model if placement.four_bit else model.to(placement.device)


def _load_tokenizer(name: str, placement: loading.Placement, adapter: str | None) -> Any:
    """Load a tokenizer with the chat template of the base, without the prompt that we wrote."""
    tokenizer: Any = AutoTokenizer.from_pretrained(
        name, trust_remote_code=placement.trust_remote_code
    )
    loading.check_tokenizer(tokenizer, name, "generator")
    if adapter is not None and (file := Path(adapter) / "chat_template.jinja").is_file():
        tokenizer.chat_template = file.read_text(encoding="utf-8")
    tokenizer.chat_template = chat_template.without_documents(tokenizer.chat_template)
    return tokenizer


def _after_head(config: Any) -> tuple[float, float | None]:
    """Return what a model applies to the head's logits: a factor, and a soft cap.

    Cohere multiplies by `logit_scale`, Granite divides by `logits_scaling`, Gemma caps by
    c·tanh(z/c).
    """
    text = config.get_text_config()
    scale = getattr(text, "logit_scale", None) or 1.0
    scale = scale / (getattr(text, "logits_scaling", None) or 1.0)
    return float(scale), getattr(text, "final_logit_softcapping", None)
