"""DALM: adapt retrieval-augmented generation to a domain."""

__version__ = "0.1.0"
