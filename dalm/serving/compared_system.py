"""Load the system that answers beside the served one in comparisons."""

import logging
from collections.abc import Callable
from dataclasses import replace

from torch.nn import Module

from dalm.config import Serve
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.models.loading import check_model_is_there
from dalm.retrieval.index_folder import IndexFolder
from dalm.serving.generators import Generating, LocalGenerating
from dalm.serving.open_index import ServedIndex
from dalm.serving.service import Service

logger = logging.getLogger(__name__)


def check_compared(index_dir: str, settings: Serve) -> None:
    """Refuse a comparison with what can't be loaded, or with the served system itself.

    Raises:
        UserError: names the option.
    """
    index, generator = settings.compare_index, settings.compare_generator_name_or_path
    if generator is not None:
        check_model_is_there(generator, "generator")
    if settings.compare_previous:
        if index is not None:
            raise UserError("--compare-index and --compare-previous name two indexes; take one")
        folder = IndexFolder(index_dir)
        try:
            folder.number_before(folder.complete_pointer())
        except UserError as error:
            raise UserError(f"--compare-previous: {error}") from error
    if index is None:
        return
    IndexFolder(index).complete_pointer()
    if generator is None and user_path(index).resolve() == user_path(index_dir).resolve():
        raise UserError(
            f"--compare-index {index} is the index that is served; name another one, or a "
            "generator to compare with: --compare-generator-name-or-path"
        )


def add_compared(service: Service, generating: Callable[[Serve], Generating]) -> None:
    """Load the system that the options name; it answers in the same slots, and shares models.

    `generating` loads the generator of options.
    """
    settings = service.settings
    index, name = settings.compare_index, settings.compare_generator_name_or_path
    previous = settings.compare_previous
    if index is None and name is None and not previous:
        return
    if name is not None:
        settings = replace(
            settings,
            generator_name_or_path=name,
            generator_peft_model_path=None,
            generator_url=None,
            generator_model=None,
        )
    served = compared = service.served
    if index is not None or previous:
        path = index or served.folder.path
        compared = ServedIndex(path, settings, beside=served, previous=previous)
    other = Service(
        compared,
        service.generating if name is None else generating(settings),
        settings,
    )
    other.answering, other.searching = service.answering, service.searching
    service.compared = other
    own, more = _weights(service), _weights(other)
    added = sum(size for module, size in more.items() if module not in own)
    logger.info(
        "compared   with %s, %s: %.1f MB of weights beside the %.1f MB of what is served",
        *(other.served.folder.path, other.generating.name, added / 1e6, sum(own.values()) / 1e6),
    )


def _weights(service: Service) -> dict[int, int]:
    """Return the bytes of the weights of each model that is loaded here, by its identity."""
    modules: list[Module] = [service.index.retriever.retriever]
    if isinstance(service.generating, LocalGenerating):
        modules.append(service.generating.local.generator.model)
    return {id(each): sum(p.nbytes for p in each.parameters()) for each in modules}
