"""Load, score, merge and save retrievers and generators."""
