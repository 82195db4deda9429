"""Check what a generator takes and gives, by trying it, and describe it in one line."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from dalm.errors import UserError, reason_of
from dalm.models import loading
from dalm.models.batching import pad
from dalm.models.position_limit import least, position_limit

if TYPE_CHECKING:
    from dalm.models.generator import Generator

logger = logging.getLogger(__name__)

_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
"""What configs call the number of positions."""
PROBE_LENGTHS = (16, 12, 9, 7)
"""Tokens of the prompts that are answered together and one by one."""
ROUNDING = {torch.float64: 0.02, torch.float32: 0.02}
ROUNDING_IN_HALF = 0.3
"""Largest effect of padding that counts as rounding, relative to that of reading the padding."""


def backbone_of(causal: Any) -> nn.Module:
    """Return the module that gives a causal language model's hidden states.

    It isn't always at `base_model_prefix` (Llama 4's); else it is the part that has the embeddings.

    Raises:
        UserError: there is no such part.
    """
    named = getattr(causal, causal.base_model_prefix, None)
    if isinstance(named, nn.Module) and named is not causal:
        return named
    table = causal.get_input_embeddings()
    for child in causal.children():
        if child is not table and any(module is table for module in child.modules()):
            return child  # type: ignore[no-any-return]
    raise UserError(
        f"{type(causal).__name__} has no part that gives its hidden states: this toolkit can't "
        "score answers with it; name another generator"
    )


def check_kind(name: str, config: Any) -> None:
    """Refuse what is no causal language model, by its config and before its weights are read.

    Raises:
        UserError: names what it is.
    """
    kind = config.model_type
    what = None
    if getattr(config, "is_encoder_decoder", False):
        what = "an encoder–decoder"
    elif kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not _is_causal(config):
        what = "an encoder"
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not hasattr(config, "auto_map"):
        what = "no language model that writes text"
    if what is not None:
        raise UserError(
            f"generator {name} can't be loaded: {kind} is {what}; name a decoder-only (causal) "
            "language model"
        )


def _is_causal(config: Any) -> bool:
    return bool(getattr(config, "is_decoder", False) or getattr(config, "causal", False))


# Token ids


def check_vocabulary(generator: "Generator", name: str) -> None:
    """Refuse tokens that the table of embeddings has no row for, before they are an IndexError.

    Padding is another token then, and an added token that only a text could spell is text.

    Raises:
        UserError: names some of the tokens and the table's size.
    """
    rows = generator.embeddings
    tokenizer = generator.tokenizer
    added = tokenizer.added_tokens_encoder
    beyond = [t for t, n in tokenizer.get_vocab().items() if n >= rows and t not in added]
    beyond += tokenizer.convert_ids_to_tokens(
        sorted(token for token in set(generator.frame.tokens()) if token >= rows)
    )
    if beyond:
        shown = ", ".join(f"{t!r} ({tokenizer.convert_tokens_to_ids(t)})" for t in beyond[:3])
        more = f" and {len(beyond) - 3} more" if len(beyond) > 3 else ""
        raise UserError(
            f"generator {name}: the model has {rows} embeddings, and its tokenizer's tokens {shown}"
            f"{more} have ids past them; take the tokenizer that the model was published with, or "
            "resize the embeddings"
        )


# Positions


def longest(generator: "Generator") -> int | None:
    """Return how many tokens of prompt and answer the generator takes; None: there is no limit.

    That is the least of what the config says and of what the table of positions has.
    """
    config = generator.model.config.get_text_config()
    ids = random_rows(generator, (8,))

    def run() -> None:
        mask = torch.ones_like(ids[0])[None]
        with loading.evaluating(generator), generator.placement.autocast():
            generator.token_log_probs(ids[0][None], mask, mask.bool())

    limits = [getattr(config, name, None) for name in _LIMITS]
    return least(*limits, position_limit(run, 8))


def choose_length(
    name: str, given: int | None, saved: int | None, most: int | None, passages: int = 1
) -> int:
    """Return a prompt's length with its answer: as given, else as saved, else the default.

    The default holds so many passages, and is fitted to a model that takes less.

    Raises:
        UserError: the given or saved length is more than the model takes.
    """
    length = given or saved
    if length is None:
        length = FRAME_LENGTH + passages * PASSAGE_LENGTH
        return min(length, most or length)
    if most is not None and length > most:
        what = f"--generator-max-len {length}: " if given else f"dalm.json says {length} tokens: "
        raise UserError(f"{what}generator {name} takes at most {most}")
    return length


ANY_LENGTH = 2**31
FRAME_LENGTH, PASSAGE_LENGTH = 128, 256
"""Tokens of instruction, question and answer, and of each passage, where neither an option nor the
model says. A passage of 100 English words has some 145 tokens, of other languages more."""


# Scores


@torch.no_grad()
def check_scores(generator: "Generator", name: str) -> None:
    """Compare our backbone and head with the model's own logits on a few tokens.

    An architecture that does more between or after them would be trained on wrong scores. So would
    a masked language model, which transformers loads as well: it attends to the token to predict.

    Raises:
        UserError: the scores differ, the model attends to future tokens, it gives no
            numbers, or it doesn't run.
    """
    kind = type(generator.causal).__name__
    ids = random_rows(generator, (4,))[0][None]
    mask = torch.ones_like(ids)
    scored = mask.bool()
    scored[:, 0] = False
    try:
        with loading.evaluating(generator):
            ours = generator.token_log_probs(ids, mask, scored)
            logits = generator.model(input_ids=ids, attention_mask=mask).logits.float()
            other_end = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
            changed = generator.model(input_ids=other_end, attention_mask=mask).logits.float()
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"generator {name}: {kind} can't score a text ({reason_of(error)}); "
            "name another generator"
        ) from error
    if bool(logits.log_softmax(-1).isnan().any()):
        raise UserError(f"generator {name}: {loading.not_finite('logits', generator.placement)}")
    if not torch.allclose(changed[:, :-1], logits[:, :-1], atol=0.1, rtol=1e-2):
        raise UserError(
            f"generator {name}: {kind} attends to future tokens; name a causal language model"
        )
    theirs = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).flatten()
    if not torch.allclose(ours, theirs, atol=1e-2, rtol=1e-2):
        raise UserError(
            f"generator {name}: {kind} changes its logits in a way that this toolkit doesn't know; "
            "please report the model"
        )


# Padding


@dataclass(frozen=True, slots=True)
class Padding:
    """Whether what stands beside a prompt in a batch leaves its results as they are."""

    when_scoring: bool = True
    when_answering: bool = True


@torch.no_grad()
def padding_is_harmless(generator: "Generator", most: int | None) -> Padding:
    """Return whether prompts are scored and answered in a batch as they are one by one.

    Padding runs through the state of a model that takes no mask (RWKV), and moves absolute
    positions that are counted from the row's first token (a Bart decoder). Differences are relative
    to what reading the padding as text changes; of several rows the least counts, since rounding
    may send a token of one of them to another expert.
    """
    lengths = [length for length in PROBE_LENGTHS if most is None or length + 2 <= most]
    if len(lengths) < 2:
        return Padding()
    rows = random_rows(generator, lengths)
    with loading.evaluating(generator), generator.placement.autocast():
        alone = [_logits(generator, [row])[:, 0] for row in rows]
        together = _logits(generator, rows)
        read = _logits(generator, rows, masked=False)
        scored = _scores(generator, rows)
        scored_alone = [_scores(generator, [row])[0] for row in rows]
    rounding = ROUNDING.get(generator.placement.dtype, ROUNDING_IN_HALF)
    answering, scoring = [], []
    for row in range(1, len(rows)):
        effect = float((read[0, row] - alone[row][0]).abs().median())
        # The second token follows the same first one, or else is none to compare.
        same = bool(alone[row][0].argmax() == together[0, row].argmax())
        steps = slice(0, 2 if same else 1)
        answering.append(ratio(together[steps, row] - alone[row][steps], effect))
        scoring.append(ratio(scored[row] - scored_alone[row], effect))
    return Padding(min(scoring) < rounding, min(answering) < rounding)


def ratio(difference: Tensor, effect: float) -> float:
    """Return the median of differences, relative to an effect."""
    return float(difference.abs().median()) / max(effect, 1e-5)


def _logits(generator: "Generator", rows: Sequence[Tensor], *, masked: bool = True) -> Tensor:
    """Return log-probabilities of two generated tokens, (2, rows, vocabulary)."""
    ids, mask = pad([row.cpu().numpy() for row in rows], generator.pad_token, left=True)
    mask = mask if masked else torch.ones_like(mask)
    config = GenerationConfig(
        max_new_tokens=2,
        min_new_tokens=2,
        do_sample=False,
        eos_token_id=generator.frame.end,
        pad_token_id=generator.pad_token,
        output_logits=True,
        return_dict_in_generate=True,
    )
    out = generator.model.generate(
        input_ids=ids.to(generator.device),
        attention_mask=mask.to(generator.device),
        generation_config=config,
    )
    return torch.stack(out.logits).float().log_softmax(-1)


def _scores(generator: "Generator", rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the log-probabilities of each row's tokens, in one batch."""
    ids, mask = pad([row.cpu().numpy() for row in rows], generator.pad_token)
    ids, mask = ids.to(generator.device), mask.to(generator.device)
    scored = mask.bool()
    scored[:, 0] = False
    flat = generator.token_log_probs(ids, mask, scored)
    return list(flat.split(scored.sum(1).tolist()))


def random_rows(generator: "Generator", lengths: Sequence[int]) -> list[Tensor]:
    """Return rows of random tokens, the same in every run; they don't ascend one by one."""
    random = torch.Generator().manual_seed(0)
    rows = [torch.randint(generator.embeddings, (n,), generator=random) for n in lengths]
    return [row.to(generator.device) for row in rows]


# In one line


def description(generator: "Generator") -> list[str]:
    """Return what a generator is, in the words of its one line."""
    most = generator.longest
    length = f"{generator.max_length:,} tokens"
    if generator.max_length == ANY_LENGTH:
        length = "any length"
    parts = [
        str(generator.model.config.model_type),
        "chat template" if generator.is_chat else "plain prompt",
        length if most is None else f"{length} of at most {most:,}",
    ]
    if generator.date is not None:
        parts.append(f"its prompts say {generator.date:%d %B %Y}")
    if not generator.padding.when_answering:
        parts.append("answers one by one: padding changes its answers")
    if not generator.padding.when_scoring:
        parts.append("scores one by one: padding changes its scores")
    return parts
