"""Chat: conversations in, a model's answers out."""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.batching import by_length, pad
from dalm.models.generator import GENERATE_TOKENS, Generator, load_generator
from dalm.prompts import Message

Answered = Callable[[int, str, int, int, float], None]
"""Take a conversation's place, the answer, tokens in and out, and seconds."""
MOST_AT_ONCE = 64  # conversations in a batch: answers arrive, and are kept, batch by batch


class ChatModel:
    """Answer conversations by an instruct model's own chat template.

    Answers are greedy. In half precision an answer may depend on what else is in its batch, in the
    choice between two nearly equal words.
    """

    def __init__(self, generator: Generator, name: str) -> None:
        if not getattr(generator.tokenizer, "chat_template", None):
            raise UserError(
                f"generator {name} has no chat template, so it follows no instructions; "
                "name an instruct model"
            )
        self.generator = generator
        self.tokenizer = generator.tokenizer
        config = generator.model.config.get_text_config().to_dict()
        self.longest: int | None = config.get("max_position_embeddings")

    def fingerprint(self) -> str:
        """Return a hash of the weights, bit by bit, and of the chat template."""
        hashed = hashlib.blake2b(self.tokenizer.chat_template.encode(), digest_size=16)
        for key, weight in self.generator.model.state_dict().items():
            hashed.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
            plain = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            hashed.update(memoryview(plain.numpy()))
        return hashed.hexdigest()

    def tokenise(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation's tokens up to where the answer begins."""
        try:
            text = self._render(list(messages))
        except Exception:  # a template is a program; some know no system message
            *others, last = messages
            said = "\n\n".join(message["content"] for message in (*others, last))
            text = self._render([{"role": "user", "content": said}])
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _render(self, messages: list[Message]) -> str:
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    def answer(
        self,
        conversations: Sequence[Sequence[int]],
        max_new_tokens: int,
        answered: Answered,
        too_long: Callable[[int], None],
    ) -> None:
        """Answer tokenised conversations in batches of similar length, the longest first.

        `answered` is called for each as soon as its batch is done, `too_long` for each that leaves
        the model no room for an answer.
        """
        lengths = np.array([len(tokens) for tokens in conversations], np.int64)
        room = (self.longest or 2**62) - max_new_tokens
        for place in np.flatnonzero(lengths > room).tolist():
            too_long(place)
        fitting = np.flatnonzero(lengths <= room)
        groups = by_length(lengths[fitting] + max_new_tokens, GENERATE_TOKENS, most=MOST_AT_ONCE)
        with torch.no_grad(), loading.evaluating(self.generator):
            for group in groups:
                places = fitting[group].tolist()
                start = time.perf_counter()
                answers = self._batch([conversations[place] for place in places], max_new_tokens)
                seconds = (time.perf_counter() - start) / len(places)
                for place, ids in zip(places, answers, strict=True):
                    text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
                    answered(place, text, int(lengths[place]), len(ids), round(seconds, 3))

    def _batch(self, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """Return the new tokens of each row, up to its end."""
        model, device = self.generator.model, self.generator.device
        # Padded on the right a model would go on from padding.
        ids, mask = (t.to(device) for t in pad(rows, self.generator.pad_token, left=True))
        ends = self._ends()
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(ends),
            pad_token_id=self.generator.pad_token,
        )
        with self.generator.placement.autocast():
            out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        return [_until(row, ends) for row in out[:, ids.shape[1] :].tolist()]

    def _ends(self) -> set[int]:
        own: Any = self.generator.model.generation_config.eos_token_id
        others = own if isinstance(own, list) else [] if own is None else [own]
        return {self.generator.frame.end, *others}


def load_chat(name: str, placement: loading.Placement) -> ChatModel:
    """Load an instruct model; `name` is a folder, or a name on the hub.

    Raises:
        UserError: no such model, no causal one, or one without a chat template.
    """
    # The length is that of training prompts, and bounds nothing here.
    return ChatModel(load_generator(name, placement, max_length=16), name)


def _until(ids: list[int], ends: set[int]) -> list[int]:
    """Return the tokens before the first end."""
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]
