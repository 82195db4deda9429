"""Write tuned models for other libraries and servers."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Export, check
from dalm.errors import UserError
from dalm.file_reading import user_path

if TYPE_CHECKING:
    from dalm.models.onnx_export import Written
    from dalm.models.standalone_model import Standalone

logger = logging.getLogger(__name__)


def export(tuned: str, settings: Annotated[Export, Parameter(name="*")]) -> None:
    """Write tuned models as plain folders that other libraries and servers load without DALM.

    LoRA adapters are merged into their base. What was written is loaded again and compared with
    what was trained. The generator's chat template reads the prompt of the training from the
    messages that every client can send (see docs/elsewhere.md).

    Parameters
    ----------
    tuned
        Folder of a training run, or of one tuned retriever or generator.
    """
    from dalm.artifacts import claim, seal, write_folder, write_text
    from dalm.models import loading, onnx_export, standalone_model
    from dalm.models.retriever import Retriever
    from dalm.next_step import log_next
    from dalm.training import model_card

    check(settings)
    source, output = user_path(tuned), user_path(settings.output_dir)
    found = standalone_model.models_in(source)
    _check_output(output, source, settings.overwrite_output_dir)
    for role, folder in found.items():
        standalone_model.check_exportable(folder, role)
    if settings.onnx:
        onnx_export.check_installed()
        if "retriever" not in found:
            raise UserError(f"--onnx is for retrievers, and {source} holds none; leave it out")
    placement = loading.placement_of(settings)
    with claim(output, "--output-dir"):
        _check_output(output, source, settings.overwrite_output_dir)
        with write_folder(output) as staging:
            for role, folder in found.items():
                place = staging / role
                written = standalone_model.write(role, folder, place, settings.dtype, placement)
                model_card.write_exported(place, role, str(folder), written.base, settings)
                standalone_model.copy_licences(folder, written.base, place)
                _tell(role, output / role, written, place)
                if settings.onnx and isinstance(written.model, Retriever):
                    _tell_onnx(onnx_export.export(written.model, place))
                seal(place)
                del written  # one model at a time
            card = model_card.repository_card([staging / role for role in found])
            write_text(staging / model_card.CARD, card)
    log_next(_next(source, output, *found))


def _check_output(output: Path, source: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds something else, or what is to be exported.

    Raises:
        UserError: names the folder.
    """
    from dalm.artifacts import MANIFEST, check_folder

    check_folder("--output-dir", output)
    if output.resolve() in (source.resolve(), *source.resolve().parents):
        raise UserError(f"--output-dir {output} holds what is to be exported; name another folder")
    content = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if content - {"retriever", "generator", "README.md", MANIFEST} or (
        content and MANIFEST not in content
    ):
        raise UserError(f"--output-dir {output} holds files, and no export; name another folder")
    if content and not overwrite:
        raise UserError(
            f"--output-dir {output} holds an export; name another folder, or add "
            "--overwrite-output-dir"
        )


def _tell(role: str, folder: Path, written: "Standalone", place: Path) -> None:
    """Log what was written, how far its outputs are from the trained model's, and its prompt."""
    from dalm.models import model_merging, standalone_model
    from dalm.models.generator import Generator

    dtype = str(written.dtype).removeprefix("torch.")
    merged = f", merged into {written.base}" if written.base else ""
    logger.info("%-9s  %s: %s%s", role, folder, dtype, merged)
    what = "log-probabilities" if role == "generator" else "vectors"
    logger.info(
        "outputs    loaded again, %s differ by at most %.1e (limit %g); rounded to %s, by %.1e",
        *(what, written.difference, model_merging.TOLERANCE, dtype, written.rounding),
    )
    if not isinstance(written.model, Generator):
        return
    differing = standalone_model.forms_that_differ(written.model, place)
    if differing:
        logger.warning(
            "the prompt's tokens differ from the training's when sent as %s: this tokenizer joins "
            "texts at their borders",
            " or as ".join(differing),
        )
    else:
        logger.info("prompt     token for token that of the training, in every form")


def _tell_onnx(written: "Written") -> None:
    from dalm.models import model_merging

    logger.info(
        "onnx       fp32: vectors differ by at most %.1e (limit %g); int8: cosine of at least %.3f",
        *(written.difference, model_merging.TOLERANCE, written.least_cosine),
    )


def _next(source: Path, output: Path, *roles: str) -> list[object]:
    from dalm.next_step import indexing, known_table

    if "retriever" not in roles:
        return ["ask", "--help"]
    table = known_table(source)
    if table is None:
        return ["index", "--help"]
    return indexing([table], output / "retriever", f"{output}-index")
