"""Small requests for the tests of asking."""

from dataclasses import dataclass
from typing import Any

from dalm.llm.chat_completions import Options
from dalm.llm.language_model import key_of, object_of, response_format
from dalm.prompts import Message

OPTIONS = Options(asks="--ask", address="--where", model="--who", key="--key-env", timeout="--wait")


@dataclass(frozen=True)
class Asked:
    text: str

    @property
    def key(self) -> str:
        return key_of(self.text)

    @property
    def about(self) -> dict[str, str]:
        return {"thing": self.text}

    @property
    def messages(self) -> list[Message]:
        return [{"role": "user", "content": self.text}]

    @property
    def response_format(self) -> dict[str, Any]:
        return response_format("said", object_of({"said": {"type": "string"}}))


def asked(number: int) -> list[Asked]:
    return [Asked(f"question {place}") for place in range(number)]
