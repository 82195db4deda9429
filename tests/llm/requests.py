"""Small requests for the tests of language models."""

from dataclasses import dataclass
from typing import Any

from dalm.llm.chat_completions import Endpoint
from dalm.llm.language_model import object_schema, response_format
from dalm.llm.openai_client import OpenAIClient
from dalm.llm.response_cache import cache_key
from dalm.llm.server_options import ServerOptions
from dalm.prompts import Message

OPTIONS = ServerOptions(
    needed_by="--ask", url="--where", model="--who", api_key_env="--key-env", timeout="--wait"
)


@dataclass(frozen=True)
class Asked:
    text: str

    @property
    def key(self) -> str:
        return cache_key(self.text)

    @property
    def about(self) -> dict[str, str]:
        return {"thing": self.text}

    @property
    def messages(self) -> list[Message]:
        return [{"role": "user", "content": self.text}]

    @property
    def response_format(self) -> dict[str, Any]:
        return response_format("said", object_schema({"said": {"type": "string"}}))


def asked(number: int) -> list[Asked]:
    return [Asked(f"question {place}") for place in range(number)]


PARAMETERS = {"temperature": 0.0, "max_tokens": 200, "seed": 1}


def client(
    stub: Any, concurrency: int = 4, key: str | None = None, served: bool = False, **patience: Any
) -> OpenAIClient:
    """Make a client of a stub server, or of any address; `served`: with a command's options."""
    url = f"{stub if isinstance(stub, str) else stub.url}/chat/completions"
    patience = {"max_retries": 4, "timeout": 5.0, "first_wait": 0.01} | patience
    endpoint = Endpoint(url, "m", key, options=OPTIONS if served else None, **patience)
    return OpenAIClient(endpoint, PARAMETERS, concurrency)
