"""Ask a language model: one on a server or one loaded here, each reply kept."""
