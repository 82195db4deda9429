"""Passages in; questions with answers, and the quotes that support them, out."""
