"""Read a request for a chat completion or a completion: the question, and how to answer it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from dalm.llm.sampling import Sampling
from dalm.retrieval.hybrid import MODES, Mode
from dalm.serving.api_errors import ApiError, invalid
from dalm.serving.request_fields import Fields, text_of
from dalm.serving.service import Question, Service

_MOST_STOPS = 4


@dataclass(frozen=True)
class AnswerRequest:
    """What a client asks."""

    model: str
    questions: Sequence[Question]
    """One, but for `/v1/completions` with several prompts."""
    stream: bool
    include_usage: bool


def check_model(name: str, *known: str) -> None:
    """Refuse a model that isn't served.

    Raises:
        ApiError: 404 with OpenAI's code.
    """
    if name not in known:
        served = ", ".join(dict.fromkeys(known))
        raise ApiError(
            404,
            f"there is no model {name[:60]!r} here; there is {served}",
            param="model",
            code="model_not_found",
        )


def chat_request(fields: Fields, service: Service) -> AnswerRequest:
    """Read a request for a chat completion.

    Raises:
        ApiError: 400 for a field that can't be honoured, 404 for another model.
    """
    model = _model(fields, service)
    system, history, question = _conversation(fields.take("messages"))
    for name in ("tools", "functions"):
        fields.only(name, [])
    for name in ("tool_choice", "function_call"):
        fields.only(name, "none", "auto")
    fields.only("modalities", ["text"])
    fields.only("response_format", {"type": "text"})
    fields.only("logprobs", False)
    fields.only("top_logprobs", 0)
    fields.without_effect("parallel_tool_calls")
    options = _options(fields)
    asked = Question(text=question, system=system, history=history, **options)
    return _finished(fields, model, [asked])


def completion_request(fields: Fields, service: Service) -> AnswerRequest:
    """Read a request for a completion, whose prompt is a question, or several.

    Raises:
        ApiError: 400 for a field that can't be honoured, 404 for another model.
    """
    model = _model(fields, service)
    prompt = fields.take("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if not 1 <= len(prompts) <= 16:
        raise invalid(f"prompt has {len(prompts)} texts, not 1 to 16", "prompt")
    texts = [_question(text_of(each, "prompt"), "prompt") for each in prompts]
    fields.only("echo", False)
    fields.only("best_of", 1)
    fields.only("suffix", "")
    fields.only("logprobs", 0)
    options = _options(fields)
    return _finished(fields, model, [Question(text=text, **options) for text in texts])


def _model(fields: Fields, service: Service) -> str:
    name = fields.required_text("model")
    check_model(name, service.generating.name)
    return name


def _options(fields: Fields) -> dict[str, Any]:
    fields.only("n", 1)
    for name in ("presence_penalty", "frequency_penalty"):
        fields.only(name, 0, 0.0)
    fields.only("logit_bias", {})
    fields.without_effect("user", "metadata", "store", "safety_identifier", "service_tier")
    fields.without_effect("prompt_cache_key")
    lengths = [fields.whole(name, 1, 1_000_000) for name in ("max_completion_tokens", "max_tokens")]
    given = {length for length in lengths if length is not None}
    if len(given) > 1:
        raise invalid("max_tokens and max_completion_tokens differ; send one", "max_tokens")
    top_p = fields.number("top_p", 0, 1)
    sampling = Sampling(
        max_tokens=max(given, default=None),
        temperature=fields.number("temperature", 0, 2) or 0.0,
        top_p=1.0 if top_p is None else top_p,
        seed=fields.whole("seed", -(2**63), 2**63 - 1),
        stop=_stops(fields.take("stop")),
    )
    where = fields.text("where")
    return {
        "sampling": sampling,
        "mode": cast("Mode | None", fields.choice("search", *MODES)),
        "where": where,
        "reader_passages": fields.whole("reader_passages", 1, 100),
    }


def _finished(fields: Fields, model: str, questions: Sequence[Question]) -> AnswerRequest:
    stream = fields.flag("stream")
    options = fields.take("stream_options")
    include_usage = False
    if options is not None:
        if not stream or not isinstance(options, dict):
            raise invalid("stream_options is an object, and needs stream", "stream_options")
        of_stream = Fields(dict(options))
        include_usage = of_stream.flag("include_usage")
        of_stream.without_effect("include_obfuscation")
        of_stream.finish()
    fields.finish()
    if stream and len(questions) > 1:
        raise invalid("prompt: a stream has one prompt; send a request for each", "prompt")
    return AnswerRequest(model, questions, stream, include_usage)


def _stops(value: object) -> tuple[str, ...]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    stops = tuple(text_of(each, "stop") for each in values)
    if len(stops) > _MOST_STOPS or not all(stops):
        raise invalid(f"stop has at most {_MOST_STOPS} texts, none of them empty", "stop")
    return stops


# Messages


def _conversation(messages: object) -> tuple[str | None, list[tuple[str, str]], str]:
    """Return the system message, the earlier questions with answers, and the question."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages is a list with at least one message", "messages")
    system: list[str] = []
    history: list[tuple[str, str]] = []
    asked: list[str] = []
    for place, message in enumerate(messages):
        role, content = _message(message, f"messages[{place}]")
        if role in ("system", "developer"):
            system.append(content)
        elif role == "user":
            asked.append(content)
        elif asked:
            history.append(("\n\n".join(asked), content))
            asked = []
        # An answer to nothing is a greeting: no question refers to it.
    if not asked:
        raise invalid("the last message is the assistant's: end with a question", "messages")
    return "\n\n".join(filter(str.strip, system)) or None, history, "\n\n".join(asked)


def _message(message: object, name: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise invalid(f"{name} is {message!r:.60}, not an object", "messages")
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        raise invalid(
            f"{name}.role is {role!r:.60}, not system, developer, user or assistant", "messages"
        )
    if any(message.get(each) for each in ("tool_calls", "function_call", "audio")):
        raise invalid(f"{name} calls a tool; tools aren't supported", "messages")
    content = _content(message.get("content"), f"{name}.content")
    return role, _question(content, f"{name}.content") if role == "user" else content


def _content(content: object, name: str) -> str:
    """Return the text of a message: a text, or the texts of its parts."""
    if not isinstance(content, list):
        return text_of(content, name)
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise invalid(f"{name}[{place}] has type {kind!r:.60}; only text is read", "messages")
        texts.append(text_of(part.get("text"), f"{name}[{place}].text"))
    return "\n\n".join(texts)


def _question(text: str, name: str) -> str:
    if not text.strip():
        raise invalid(f"{name} is empty; ask something", name.partition("[")[0])
    return text
