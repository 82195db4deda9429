"""Merge a tuned model with its base: an adapter's folder in, plain weights out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import Merge


def merge(adapter: str, settings: Annotated[Merge, Parameter(name="*")]) -> None:
    """Fold LoRA adapters into their base, or interpolate tuned weights with those of the base.

    Whether it is a retriever or a generator is found out from the files. The merged model is
    written only if its outputs are those of the model before.

    Parameters
    ----------
    adapter
        Folder of a tuned retriever or generator: LoRA adapters, or whole weights along with --base.
    """
    import logging
    from pathlib import Path

    from dalm.config import check
    from dalm.models import loading, model_merging
    from dalm.models import model_merging as folders
    from dalm.training import model_card

    logger = logging.getLogger("dalm.models.model_merging")
    check(settings)
    tuned, output = Path(adapter).expanduser(), Path(settings.output_dir).expanduser()
    role = folders.role_of(tuned)
    growing = folders.check_output(output, tuned, settings.overwrite_output_dir)
    base = folders.base_of(tuned, settings.base, settings.weight)
    loading.check_model_name(base, f"base {role}")
    placement = loading.place(settings.device, "fp32")
    folds = (tuned / folders.ADAPTER).is_file()
    name, lora = (base, str(tuned)) if folds else (str(tuned), None)
    model = model_merging.load(role, name, placement, lora)
    alone = bool(getattr(model, "adapts_queries_alone", False))
    if folds:
        model_merging.scale(model, settings.weight)
    else:
        model_merging.interpolate(model, model_merging.load(role, base, placement), settings.weight)
    before = model_merging.outputs(model, queries_alone=alone)
    if folds:
        model = model_merging.fold(model, base)
    dtype = folders.dtype_of(base, settings.dtype)
    difference, rounding = model_merging.write(model, growing, dtype, before)
    if alone:
        model_merging.mark_query_encoder(growing, base)
    model_card.write_merged(growing, role, adapter, base, settings)
    folders.publish(growing, output)

    logger.info("%-9s  %s: %g of %s on %s", role, output, settings.weight, adapter, base)
    logger.info(
        "outputs    differ by at most %.1e (over %g is refused); rounded to %s, by %.1e",
        *(difference, model_merging.TOLERANCE, str(dtype).removeprefix("torch."), rounding),
    )
    if alone:
        logger.info("queries    it embeds queries alone; passages are embedded by %s", base)
    command = "eval-retriever" if role == "retriever" else "eval-rag"
    logger.info("next       dalm %s DATASET --%s-name-or-path %s", command, role, output)
