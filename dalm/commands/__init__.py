"""One recipe for each command, read top to bottom."""
