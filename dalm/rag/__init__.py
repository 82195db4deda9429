"""Retrieve, build the prompt, answer."""
