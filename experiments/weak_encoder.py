"""Make a weaker encoder: the first two of all-MiniLM-L6-v2's six layers.

PubMedQA is saturated for all-MiniLM-L6-v2; what can be learnt from it shows in an encoder that has
something to learn. 14 million weights, most of them the embeddings of words.
"""

import os

from common import WORK, minilm

LAYERS = 2


def weak_encoder() -> str:
    """Return the folder of the encoder, which is made if it is missing."""
    folder = WORK / f"minilm-{LAYERS}-layers"
    if not folder.exists():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(minilm(), device="cpu")
        encoder = model[0].auto_model
        encoder.encoder.layer = encoder.encoder.layer[:LAYERS]
        encoder.config.num_hidden_layers = LAYERS
        model.max_seq_length = encoder.config.max_position_embeddings  # not 256: it reads 512
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        model.save(str(unfinished))
        unfinished.rename(folder)
    return str(folder)


if __name__ == "__main__":
    print(weak_encoder())
