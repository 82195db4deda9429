"""Options of the folding of adapters and of the interpolation of weights."""

from dataclasses import dataclass
from typing import Literal

from dalm.settings.declaring import option, panel


@panel("Merging")
@dataclass(frozen=True, kw_only=True)
class Merge:
    """Options of `dalm merge`."""

    output_dir: str
    """Folder for the merged model."""
    overwrite_output_dir: bool = False
    """Replace the model that is there."""
    weight: float = option(1.0, over=0, most=1)
    """weight · tuned + (1 − weight) · base: under 1 the model forgets less of what the base knew,
    and keeps less of what it learnt."""
    base: str | None = None
    """Model to fold into, or to interpolate with; by default the one that the adapter names."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the weights written; auto: as those of the base are stored."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto: the accelerator if there is one."""
