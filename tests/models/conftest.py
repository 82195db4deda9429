"""Tokenizers as other families of models have them."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def sentencepiece(tiny_rows):
    """Return a function that trains a tokenizer like Llama 2's: a blank is ▁, BOS comes first."""

    def train(prepend_scheme: str) -> PreTrainedTokenizerFast:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=480, special_tokens=[*SPECIAL, *bytes_], show_progress=False
        )
        tokenizer.train_from_iterator([text for row in tiny_rows for text in row.values()], trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
        )

    return train


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How GPT-4's tokenizer splits a text before it merges bytes; Llama 3's and Qwen's do likewise."""
WORDS = ("Ġthe", "Ġpassage", "Answer", "Passage", "Question", ".ĊĊ", "ĊĊ", ":Ċ", "ĠUlm", "Ulm")


@pytest.fixture(scope="session")
def byte_pairs():
    """Return a function that makes a tokenizer of bytes and `WORDS`, as GPT-2 or GPT-4 splits."""

    def make(split: str) -> PreTrainedTokenizerFast:
        vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<eos>", *SPECIAL[3:]]
        merges = []
        for word in WORDS:
            for end in range(1, len(word)):
                merges.append((word[:end], word[end]))
                vocabulary.append(word[: end + 1])
        ids = {token: place for place, token in enumerate(dict.fromkeys(vocabulary))}
        tokenizer = Tokenizer(models.BPE(ids, list(dict.fromkeys(merges))))
        if split == "gpt2":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(CL100K), "isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        tokenizer.decoder = decoders.ByteLevel()
        made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
        made.add_special_tokens({"additional_special_tokens": SPECIAL[3:]})
        return made

    return make
