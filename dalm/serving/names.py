"""Name the models that are served, as clients do: without the paths of this machine."""

from dalm.file_reading import user_path
from dalm.serving.open_index import OpenIndex


def model_name(name: str) -> str:
    """Return a folder's own name, and a hub name as it is."""
    path = user_path(name)
    return path.resolve().name if path.exists() else name


def retriever_name(index: OpenIndex) -> str:
    """Return the name of an index's retriever."""
    made = index.generation.description
    return model_name(made.adapter or made.retriever)


def reranker_name(index: OpenIndex) -> str:
    """Return the name of what orders texts: the reranker, or without one the retriever."""
    return retriever_name(index) if index.reranker is None else model_name(index.reranker.name)
