"""Generate with vLLM on the GPUs of a Ray cluster, through `ray.data.llm`."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.llm.language_model import ModelError, OnFailure, OnReply, R, Reply
from dalm.llm.thoughts import without_thoughts
from dalm.prompts import Message
from dalm.scaling import ray_cluster
from dalm.scaling.ray_pool import RayPool

BATCH = 64
"""Requests that an engine is given at once; it batches those under way by itself."""


def check_installed() -> None:
    """Refuse to run without vLLM.

    Raises:
        UserError: names what installs it.
    """
    if find_spec("vllm") is None:
        raise UserError(
            '--backend vllm needs vllm on machines with GPUs: pip install "ray[llm]"; --dry-run '
            "shows its configuration without it"
        )


class VllmModel:
    """Generate in engines of vLLM, one GPU each; a request's JSON schema is ignored."""

    length_option = "--max-new-tokens"

    def __init__(self, name: str, parameters: Mapping[str, Any], pool: RayPool) -> None:
        self.name = name
        self.parameters = parameters
        self.pool = pool
        self.engines = pool.actors or 1
        self.concurrency = BATCH * self.engines

    @cached_property
    def identity(self) -> str:
        """The model's name; of a folder with the sizes and times of its files."""
        folder = user_path(self.name)
        found = sorted(file for file in folder.rglob("*") if file.is_file())
        status = [(str(file.relative_to(folder)), file.stat()) for file in found]
        files = [(name, each.st_size, each.st_mtime_ns) for name, each in status]
        return f"{self.name} {files}" if files else self.name

    def configuration(self) -> dict[str, Any]:
        """Return the fields of `ray.data.llm.vLLMEngineProcessorConfig`."""
        most = max(self.engines, self.pool.max_actors or 0)
        return {
            "model_source": self.name,
            "batch_size": BATCH,
            "concurrency": [self.engines, most],
            "engine_kwargs": {"enable_prefix_caching": True, "enable_chunked_prefill": True},
        }

    def generate(
        self, requests: Sequence[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        """Report the replies in the order of the requests."""
        check_installed()
        with ray_cluster.connected(self.pool.address, self.engines) as cluster:
            cluster.tell_actors(self.engines, cluster.gpus_of(self.engines, 1.0, runs_model=True))
            for row in self._rows([request.messages for request in requests]):
                request, text = requests[row["row"]], row["text"]
                if not without_thoughts(text).strip():
                    on_failure(request, ModelError("the reply is empty"))
                    continue
                cut = row["tokens_out"] >= self.parameters["max_tokens"]
                finish = "length" if cut else "stop"
                reply = Reply(text, row["tokens_in"], row["tokens_out"], finish_reason=finish)
                on_reply(request, reply)

    def _rows(self, conversations: Sequence[Sequence[Message]]) -> Iterator[dict[str, Any]]:
        import ray
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        fields = self.configuration()
        fields["concurrency"] = tuple(fields["concurrency"])
        sampling = {**self.parameters, "detokenize": True}
        processor = build_processor(
            vLLMEngineProcessorConfig(**fields),
            preprocess=lambda row: {
                "row": row["row"],
                "messages": row["messages"],
                "sampling_params": sampling,
            },
            postprocess=lambda row: {
                "row": row["row"],
                "text": row["generated_text"],
                "tokens_in": row["num_input_tokens"],
                "tokens_out": row["num_generated_tokens"],
            },
        )
        items = [{"row": row, "messages": each} for row, each in enumerate(conversations)]
        yield from processor(ray.data.from_items(items)).iter_rows()

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:  # noqa: ARG002
        """Refuse: a batch has no streams."""
        raise ModelError("a batch of vLLM has no streams")
