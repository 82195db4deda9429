"""Vector stores that keep an index on disk or on a server."""
