"""Adapt a system to documents: stages, which of them run and why, the verdict, the switch."""
