"""Requests in, a model's replies out, each of them kept."""
