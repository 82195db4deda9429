"""Search passages by vectors and by words, and mine hard negatives."""
