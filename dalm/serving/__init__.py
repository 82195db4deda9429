"""Serve an index over HTTP: search and answers, in the protocol of OpenAI and beside it."""
