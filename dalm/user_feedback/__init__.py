"""Keep answers and what people say of them beside an index, and make training tables of it."""
