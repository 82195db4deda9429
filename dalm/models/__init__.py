"""Tokens in, tensors out."""
