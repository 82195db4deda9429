"""Merge a tuned model with its base into plain weights."""

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dalm.config import Merge, check
from dalm.errors import UserError
from dalm.file_reading import user_path

logger = logging.getLogger(__name__)


def merge(adapter: str, settings: Annotated[Merge, Parameter(name="*")]) -> None:
    """Merge LoRA adapters into their base model, or interpolate fine-tuned weights with the base.

    Retriever or generator is detected. The result is written only if its outputs agree with the
    model before merging.

    Parameters
    ----------
    adapter
        Folder of a tuned retriever or generator: LoRA adapters, or whole weights along with --base.
    """
    from dalm.artifacts import claim, write_folder
    from dalm.models import loading, model_merging
    from dalm.next_step import RETRIEVER, evaluating, known_table, log_next
    from dalm.training import model_card

    check(settings)
    tuned, output = user_path(adapter), user_path(settings.output_dir)
    role = model_merging.role_of(tuned)
    _check_output(output, tuned, settings.overwrite_output_dir)
    base = model_merging.base_of(tuned, settings.base, settings.weight)
    loading.check_model_name(base, f"base {role}")
    placement = loading.placement_of(settings)
    with claim(output, "--output-dir"):
        _check_output(output, tuned, settings.overwrite_output_dir)  # since, another may have ended
        with write_folder(output) as staging:
            merged = model_merging.merge_weights(role, tuned, base, settings.weight, placement)
            dtype = model_merging.dtype_of(
                base, settings.dtype, trust_remote_code=settings.trust_remote_code
            )
            difference, rounding = model_merging.write_model(merged, role, base, staging, dtype)
            model_card.write_merged(staging, role, adapter, base, settings)

    logger.info("%-9s  %s: %g of %s on %s", role, output, settings.weight, adapter, base)
    logger.info(
        "outputs    differ by at most %.1e (limit %g); rounded to %s, by %.1e",
        *(difference, model_merging.TOLERANCE, str(dtype).removeprefix("torch."), rounding),
    )
    if merged.queries_only:
        logger.info("queries    it embeds queries only; passages are embedded by %s", base)
    command = "eval-retriever" if role == "retriever" else "eval-rag"
    words: list[object] = [f"--{role}-name-or-path", output]
    if role == "generator":
        words += ["--retriever-name-or-path", RETRIEVER, "--evaluate-generator"]
    words += ["--trust-remote-code"] * settings.trust_remote_code
    log_next(evaluating(command, known_table(tuned), settings, *words))


def _check_output(output: Path, tuned: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds something, or the tuned model.

    Raises:
        UserError: names the folder.
    """
    from dalm.artifacts import check_folder

    check_folder("--output-dir", output)
    target, source = output.resolve(), tuned.resolve()
    if target == source or target in source.parents:
        raise UserError(f"--output-dir {output} holds what is to be merged; name another folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / "dalm.json").is_file():
        raise UserError(
            f"--output-dir {output} holds files, and no model of DALM's; name another folder"
        )
    if not overwrite:
        raise UserError(
            f"--output-dir {output} holds a model; name another folder, or add "
            "--overwrite-output-dir"
        )
