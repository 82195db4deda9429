"""Passages in, texts that go on to ask about themselves out: for domain pretraining.

After Cheng et al., 2023 (arXiv:2309.09530): a model that reads a domain's raw texts learns its
knowledge and forgets how to answer; exercises on what was read, mined from the text, keep both.
"""
