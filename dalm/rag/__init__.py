"""Retrieve, prompt and answer."""
