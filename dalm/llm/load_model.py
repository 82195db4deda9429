"""Load the language model that an option names: by a server's address, or a model's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalm.config.evaluation import is_url
from dalm.errors import UserError
from dalm.llm.local_model import LocalModel, load_local_model
from dalm.llm.openai_client import OpenAIClient, greedy
from dalm.llm.server_options import ServerOptions
from dalm.models.loading import check_model_name, placement_of


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The values of the options that name a language model, and how they are spelled."""

    options: ServerOptions
    name: str
    """A server's address, or an instruct model: a folder or a name on the hub."""
    model: str | None
    """The server's name for its model."""
    api_key_env: str
    concurrency: int
    max_retries: int
    timeout: float
    max_new_tokens: int

    @property
    def is_served(self) -> bool:
        """Whether the model is on a server."""
        return is_url(self.name)

    def check(self) -> None:
        """Refuse an address that is none, and a model that obviously isn't there.

        Raises:
            UserError: names the option.
        """
        if self.is_served:
            self.served()
            return
        if ":" in self.name and not Path(self.name).exists():
            raise UserError(
                f"{self.options.url} {self.name}: not an address, which begins with http:// or "
                "https://, and not a model's folder or hub name"
            )
        check_model_name(self.name, self.options.url.removeprefix("--"))

    def served(self, resume: str = "the same command") -> OpenAIClient:
        """Return the model on the server; greedy, as a local one replies."""
        endpoint = self.options.endpoint(
            self.name,
            self.model,
            self.api_key_env,
            max_retries=self.max_retries,
            timeout=self.timeout,
            resume=resume,
        )
        return OpenAIClient(endpoint, greedy(self.max_new_tokens), self.concurrency)

    def load(self, machine: Any, resume: str) -> OpenAIClient | LocalModel:
        """Return the model on the device of the options `machine`.

        `resume` says in errors what continues an interrupted run.

        Raises:
            UserError: no model, or no address.
        """
        self.check()
        if self.is_served:
            return self.served(resume)
        model = load_local_model(self.name, placement_of(machine), self.max_new_tokens)
        model.length_option = self.options.max_tokens
        return model
