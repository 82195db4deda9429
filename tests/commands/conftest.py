"""What the commands' tests share with those of the stages."""

from tests.synth.conftest import engines, stub

__all__ = ["engines", "stub"]
