"""Answers and what they were read from in, a judge's verdicts out."""
