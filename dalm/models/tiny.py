"""Build small untrained models from a corpus without a download: an encoder and a generator.

Both tokenizers are trained on the corpus, so that its words are few tokens and an unknown name is
split into pieces that the corpus has. Both folders load like any other model.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.models.llama.modeling_llama import LlamaAttention

from dalm.progress import quiet_bars

EOS, PAD = "<eos>", "<pad>"
OUTPUT = 0.15  # scale at which an initialised head writes into the residual stream

SIZES: dict[str, dict[str, int]] = {
    "1m": {"width": 128, "layers": 3, "heads": 4, "vocabulary": 3072},
    "5m": {"width": 256, "layers": 4, "heads": 8, "vocabulary": 6144},
    "20m": {"width": 384, "layers": 8, "heads": 6, "vocabulary": 12288},
    "50m": {"width": 512, "layers": 12, "heads": 8, "vocabulary": 16384},
    "100m": {"width": 768, "layers": 10, "heads": 12, "vocabulary": 32000},
}
"""Generators by their number of weights: about vocabulary · width + 13 · layers · width²."""


def build_encoder(
    texts: Iterable[str],
    folder: str | Path,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    vocabulary: int = 768,
    max_length: int = 128,
    seed: int = 0,
) -> Path:
    """Save an untrained BERT with mean pooling, as `SentenceTransformer(folder)` loads it."""
    folder = Path(folder)
    tokenizer = _wordpiece(texts, vocabulary, max_length)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
    with quiet_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        body = Transformer(str(folder), max_seq_length=max_length)
        modules = [body, Pooling(width, pooling_mode="mean"), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def build_generator(
    texts: Iterable[str],
    folder: str | Path,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    vocabulary: int = 720,
    max_length: int = 512,
    seed: int = 0,
) -> Path:
    """Save an untrained Llama, as `AutoModelForCausalLM.from_pretrained(folder)` loads it.

    With two layers or more, heads of the first and of the last layer are initialised to copy what
    follows a word and to look up what a question names (see `_init_heads`). Without the latter, a
    model of two layers stays at 0.75 to 0.8 of the toy domain's held-out answers, those that their
    form gives away; with them it learns the jargon, too.
    """
    folder = Path(folder)
    tokenizer = _byte_pairs(texts, vocabulary, max_length)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=3 * width,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        attention_bias=True,  # the heads that attend one token back are made of biases
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        _init_heads(model)
    with quiet_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def _init_heads(model: LlamaForCausalLM) -> None:
    """Initialise induction and lookup heads in an untrained Llama, a half of the heads each.

    One of fewer than four heads has no lookup heads: one head stays free.

    Induction heads, having read `a b … a`, attend to `b`: a previous-token head of the first layer
    writes what it attends to into the residual stream; its partner in the last layer attends to the
    token where that equals the current token, and copies it to the output (Olsson et al.,
    In-context Learning and Induction Heads, 2022).

    Lookup heads can learn which word of a passage answers a word of the question: a head of the
    first layer attends to about the last ten tokens, the question when an answer begins; its
    partner in the last layer compares what that read with what a previous-token head read. The
    product of both is there from the first step, so that its gradient can turn "oil" into the
    passage's own word for it.

    All are random projections: they know no word, and training is free to change them.
    """
    first, last = model.model.layers[0].self_attn, model.model.layers[-1].self_attn
    model.model.embed_tokens.weight.normal_(std=0.08)  # large against untrained layers' outputs
    if first is last:
        return
    half, angles = model.config.num_attention_heads // 2, model.model.rotary_emb.inv_freq.float()
    sines = torch.zeros_like(angles)
    # Query and key rotate apart by the angle of each token between them: this peaks one token back.
    back = 5.0 * torch.cat([angles.cos(), -angles.sin()]), 5.0 * torch.cat([sines + 1.0, sines])
    near = torch.cat([((angles > 0.04) & (angles < 0.25)).float(), sines])  # falls over ten tokens
    logit = 2.1 * first.head_dim**0.5 / near.sum().clamp(min=1.0)  # 2.1 at no distance
    for head in range(half):
        content, previous = _init_reading_head(first, head, *back)
        _init_matching_head(last, head, angles, 3.0 * content, 3.0 * previous)
        if half == 1:
            continue
        _, read = _init_reading_head(first, half + head, logit * near, near)
        _init_matching_head(last, half + head, angles, read, previous)


def _init_reading_head(
    layer: LlamaAttention, head: int, query: Tensor, key: Tensor
) -> tuple[Tensor, Tensor]:
    """Let a head attend by position; return the projections by which it reads and writes."""
    size, width = layer.head_dim, layer.config.hidden_size
    rows = slice(head * size, (head + 1) * size)
    content, written = (_projection(width, size) for _ in range(2))
    layer.q_proj.weight[rows] *= 0.2
    layer.k_proj.weight[rows] *= 0.2
    layer.q_proj.bias[rows], layer.k_proj.bias[rows] = query, key
    layer.v_proj.weight[rows] = content.T
    layer.o_proj.weight[:, rows] = OUTPUT * written
    return content, written


def _init_matching_head(
    layer: LlamaAttention, head: int, angles: Tensor, query: Tensor, key: Tensor
) -> None:
    """Let a head attend to where a token's `key` is the `query`, and copy the token to the output.

    Both are projections of the residual stream, (width, size).
    """
    size, width = layer.head_dim, layer.config.hidden_size
    rows = slice(head * size, (head + 1) * size)
    slow = (angles < 0.02).nonzero().flatten()  # low frequencies compare at any distance
    slow = torch.cat([slow, slow + size // 2])
    copy = _projection(width, size)
    for weight, projection in (layer.q_proj.weight, query), (layer.k_proj.weight, key):
        weight[rows] = 0.0
        weight[rows][slow] = projection.T[: len(slow)]
    layer.v_proj.weight[rows] = copy.T
    layer.o_proj.weight[:, rows] = 0.3 * copy


def _projection(width: int, size: int) -> Tensor:
    """Return a random matrix with orthonormal columns."""
    columns: Tensor = torch.linalg.qr(torch.randn(width, size)).Q
    return columns


def _wordpiece(texts: Iterable[str], vocabulary: int, max_length: int) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    learnt = _wordpiece_tokenizer({})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=special + _continuations(texts := list(texts), learnt),
        show_progress=False,
    )
    learnt.train_from_iterator(texts, trainer)
    tokenizer = _wordpiece_tokenizer(learnt.get_vocab())
    tokenizer.add_special_tokens(special)
    pair = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=pair
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def _wordpiece_tokenizer(pieces: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _continuations(texts: Iterable[str], tokenizer: Tokenizer) -> list[str]:
    """Return the pieces of one character that continue a word, in order.

    Left to itself, the trainer numbers them as a hash table of this process has them, and settles
    ties by these numbers: each process would learn another vocabulary from the same texts.
    """
    found: set[str] = set()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal):
            found.update(word[1:])
    return [f"##{character}" for character in sorted(found)]


def _byte_pairs(texts: Iterable[str], vocabulary: int, max_length: int) -> PreTrainedTokenizerFast:
    """Train byte pairs that tokenise a word alike at the start of a text and after a space.

    An answer is tokenised separately from its passage; only if both have the same tokens can the
    answer be copied. Each digit is a token for the same reason.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(True)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
    )
