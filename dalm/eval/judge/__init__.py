"""Let a language model judge answers."""
