"""Turn examples and texts into batches."""
