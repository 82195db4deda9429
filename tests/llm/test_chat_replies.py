"""What servers put into a response with status 200, and what it means."""

import json
import re

import pytest

from dalm.llm.response_cache import Journal, cached_replies
from dalm.llm.server_errors import UnavailableError
from tests.llm.requests import Asked, asked, client
from tests.llm.stub_server import Sent, completion

SAID = '{"said": "yes"}'


class Free(Asked):
    """A request for free text."""

    response_format = None


def outcome(stub, sent, *, free=False, **patience):
    """Return the reply to one request, or why there is none."""
    stub.plan.clear()
    stub.plan.extend([sent] * 9)
    found = []
    request = Free("x") if free else Asked("x")
    model = client(stub, 1, served=True, **{"max_retries": 0} | patience)
    model.generate([request], lambda _, r: found.append(r), lambda _, e: found.append(str(e)))
    [each] = found
    return each


def text(stub, sent, **how) -> str:
    return outcome(stub, sent, **how).text


def events(*chunks, end="data: [DONE]\n\n") -> Sent:
    lines = "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks)
    return Sent(f": wait\n\n{lines}{end}".encode(), headers={"Content-Type": "text/event-stream"})


def delta(**fields):
    return {"choices": [{"delta": fields, "finish_reason": None}]}


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
PARTS += [{"type": "text", "text": '{"said": '}, {"type": "output_text", "text": '"yes"}'}]


@pytest.mark.parametrize(
    "sent",
    [
        completion(SAID),
        completion(SAID, None),
        completion(SAID, usage={"prompt_tokens": None, "completion_tokens": "5"}),
        completion(SAID, usage=[], error=None),
        completion(SAID, usage={"prompt_tokens": -1, "completion_tokens": True}),
        completion({"content": PARTS}),
        completion({"content": {"said": "yes"}}),
        completion({"content": SAID, "reasoning_content": "hm"}),
        completion({"content": SAID, "tool_calls": None, "refusal": None}),
        completion({"content": None, "reasoning_content": SAID}),
        completion({"content": "", "reasoning": f"```json\n{SAID}\n```"}),
        completion({"content": None, "tool_calls": [{"function": {"arguments": SAID}}]}),
        completion({"content": None, "function_call": {"name": "f", "arguments": {"said": "yes"}}}),
        Sent({"choices": [{"text": SAID, "finish_reason": "stop"}]}),
        Sent({"choices": [{"message": None, "text": SAID}]}),
        events(delta(role="assistant"), delta(content='{"said": '), delta(content='"yes"}')),
        Sent(b"\n\n  " + completion(SAID).content),
        Sent(b"\xef\xbb\xbf" + completion(SAID).content),
    ],
)
def test_the_text_is_found_in_every_shape(stub, sent):
    found = text(stub, sent)
    assert json.loads(found.strip("`json\n")) == {"said": "yes"}


def test_tokens_that_are_no_number_of_them_are_not_counted(stub, tmp_path):
    stub.plan.append(completion(SAID, usage={"prompt_tokens": -1, "completion_tokens": True}))
    with Journal(tmp_path / "journal.jsonl") as journal:
        [(_, reply)] = cached_replies(client(stub), asked(1), journal, "again")
    assert (reply.text, reply.tokens_in, reply.tokens_out) == (SAID, 0, 0)


def test_bytes_that_are_no_utf_8_are_text_all_the_same(stub):
    body = json.dumps(completion("größer").body, ensure_ascii=False)
    assert text(stub, Sent(body.encode("latin-1"))) == "größer"
    charset = {"Content-Type": "application/json; charset=cp437"}
    assert text(stub, Sent(body.encode("cp437"), headers=charset)) == "größer"


THOUGHT = "The passage is about"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (completion(""), "the reply is empty$"),
        (completion({"content": None}), "the reply is empty$"),
        (completion("<think>hm</think>\n"), "the reply ends with the model's reasoning"),
        (completion({"content": None, "refusal": "I can't."}), "the model refuses: I can't."),
        (completion({"content": [{"type": "refusal", "refusal": "No."}]}), "refuses: No."),
        (completion('{"sa', "content_filter"), "the server's content filter stopped the reply"),
        (completion("", "SAFETY"), "filter stopped the reply .finish_reason safety"),
        (completion({"content": None, "reasoning_content": THOUGHT}), "field reasoning_content;"),
        (
            completion({"content": None, "tool_calls": [{"function": {"name": "search"}}]}),
            "the model calls the tool search in place of an answer",
        ),
        (Sent({"choices": []}), "the reply has no choices"),
        (completion("", "error"), "the reply broke off .finish_reason error"),
        (completion(SAID, "insufficient_system_resource"), "the reply broke off"),
        (events(delta(content='{"sa'), end=""), "the stream broke off"),
        (Sent({"choices": [{"index": 0}]}), "the response is no chat completion"),
        (Sent({"data": []}), "the response is no chat completion"),
        (Sent([1]), "the response is no chat completion"),
    ],
)
def test_a_reply_without_an_answer_says_why(stub, sent, said):
    assert re.search(said, outcome(stub, sent))


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("finish", ["length", "max_tokens", "MODEL_LENGTH"])
@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": THOUGHT},
        {"content": f"<think>{THOUGHT}"},
        {"content": f"<|channel|>analysis<|message|>{THOUGHT}"},
    ],
)
def test_reasoning_that_is_cut_off_names_the_limit(stub, message, finish, free):
    assert outcome(stub, completion(message, finish), free=free) == (
        "the reply was cut off at 200 tokens, while the model was still reasoning; "
        "raise --max-new-tokens, or turn the reasoning off on the server"
    )


def test_a_reply_that_the_server_cut_names_the_servers_limit(stub):
    usage = {"prompt_tokens": 2000, "completion_tokens": 48}
    said = "cut off at a limit of the server's; raise the server's limit .*num_ctx"
    cut = completion("It is said that", "length", usage=usage)
    assert re.search(said, outcome(stub, cut, free=True))
    cut = completion("", "length", usage=usage)
    assert re.search(said, outcome(stub, cut))


def test_what_is_there_of_a_cut_reply_is_kept_and_marked(stub):
    cut = completion('{"said": "yes"}, {"said": "n', "length")
    assert (outcome(stub, cut).text, outcome(stub, cut).finish_reason) == (
        '{"said": "yes"}, {"said": "n',
        "length",
    )
    usage = {"completion_tokens": 200}
    cut = completion("It is said that", "length", usage=usage)
    assert outcome(stub, cut, free=True).finish_reason == "length"
    assert outcome(stub, completion("It is."), free=True).finish_reason == "stop"


def test_json_that_ends_too_early_is_cut_even_if_the_server_does_not_say_so(stub):
    assert outcome(stub, completion('{"said": "y', None)).finish_reason == "length"
    assert outcome(stub, completion('{"said": "y', "stop")).finish_reason == "stop"
    assert outcome(stub, completion("{so", None), free=True).finish_reason == "stop"


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": SAID},
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": SAID}}]},
    ],
)
def test_free_text_is_never_taken_from_other_fields(stub, message):
    assert isinstance(outcome(stub, completion(message), free=True), str)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "Insufficient credits: add more", "code": 402}}, "no credit left"),
        ({"error": {"message": "x", "code": "insufficient_quota"}}, "no credit left"),
        ({"error": {"message": "No auth", "code": 401}}, "set the key in the environment"),
        ({"error": {"message": "bad key", "type": "authentication_error"}}, "set the key"),
        ({"error": "model 'm' not_found"}, "check --where .* and --who"),
    ],
)
def test_an_error_with_status_200_ends_the_run_like_its_own_status(stub, body, said):
    with pytest.raises(ValueError, match=said):
        outcome(stub, Sent(body), max_retries=8)
    assert len(stub.bodies) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "the context holds 512 tokens", "code": 400}}, "reports: the conte"),
        ([{"error": {"message": "it is long", "status": "INVALID_ARGUMENT"}}], "reports: it is lo"),
        ({"object": "error", "message": "it is long", "code": 400}, "reports: it is long"),
        ({"detail": [{"msg": "field required"}]}, "reports: field required"),
        ({"error": "it is long"}, "reports: it is long"),
        ({"error": {"message": "slow down", "code": 429}}, "reports: slow down"),
        ({"error": {"message": "so many", "type": "rate_limit_error"}}, "reports: so many"),
    ],
)
def test_an_error_with_status_200_is_one_of_the_request(stub, body, said):
    assert said in outcome(stub, Sent(body))


def test_a_busy_server_with_status_200_is_asked_again(stub):
    stub.plan.append(Sent({"error": {"message": "overloaded", "code": 529}}))
    found = []
    client(stub, 1).generate(asked(1), lambda _, r: found.append(r), lambda *_: None)
    assert len(found) == 1
    assert len(stub.bodies) == 2


def test_a_reply_that_never_ends_is_none(stub, monkeypatch):
    monkeypatch.setattr("dalm.llm.openai_client.LARGEST_REPLY", 2**20)
    assert outcome(stub, completion("x" * 2**21)) == "the reply has more than 1 MiB"
    assert len(text(stub, completion("x" * 2**19))) == 2**19


def test_a_login_page_is_the_wrong_address(stub):
    page = b"<!DOCTYPE html><html><head><title>Sign &amp; in</title></head><body>x</body></html>"
    with pytest.raises(ValueError, match=r"a web page \(Sign & in\), no .*; check --where"):
        outcome(stub, Sent(page), max_retries=8)
    assert len(stub.bodies) == 1


def test_a_proxys_error_page_is_told_by_its_title(stub):
    page = Sent(b"<html><head><title>502 Bad Gateway</title></head><body>nginx", 502)
    assert outcome(stub, page) == "502 502 Bad Gateway"
    assert outcome(stub, Sent(b"<html><body><p>No <b>way</b>", 500)) == "500 No way"


def test_a_server_whose_replies_are_all_cut_is_not_asked_to_the_end(stub):
    cut = completion({"content": None, "reasoning_content": THOUGHT}, "length")
    stub.plan.extend([cut] * 99)
    with pytest.raises(UnavailableError, match="gave no answer to 3 requests in a row, most rece"):
        client(stub, 1).generate(asked(50), lambda *_: None, lambda *_: None)
    assert len(stub.bodies) == 3


# Streams


def streamed(stub, *sent):
    stub.plan.extend(sent)
    return "".join(client(stub, served=True).stream([{"role": "user", "content": "hello"}]))


def test_a_stream_may_end_without_a_last_event(stub):
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    assert streamed(stub, events(delta(content="In Ulm"), end, end="")) == "In Ulm"


@pytest.mark.parametrize(
    ("fields", "finish", "said"),
    [
        ({"reasoning_content": "hm"}, "length", "cut off at 200 tokens, .* raise --max-new-tokens"),
        ({"reasoning": "hm"}, "stop", "all of its text is in the field reasoning"),
        ({"refusal": "I can't."}, "stop", "the model refuses: I can't"),
        ({"content": ""}, "content_filter", "content filter"),
        ({"content": ""}, "stop", "the reply is empty"),
    ],
)
def test_a_stream_without_text_says_why(stub, fields, finish, said):
    end = {"choices": [{"delta": {}, "finish_reason": finish}]}
    with pytest.raises(ValueError, match=said):
        streamed(stub, events(delta(**fields), end))


def test_a_stream_of_an_empty_account_is_not_tried_again(stub):
    with pytest.raises(ValueError, match="no credit left"):
        streamed(stub, *[Sent({"error": {"message": "Insufficient Balance"}}, 402)] * 5)
    assert len(stub.bodies) == 1


def test_a_server_that_only_streams_is_asked_for_streams(stub):
    only = Sent({"error": {"message": "This model only supports streaming calls."}}, 400)
    stub.plan.append(only)
    found = []
    client(stub, 1).generate(asked(3), lambda _, r: found.append(r.text), found.append)
    assert sorted(found) == [f"an answer to: question {n}" for n in range(3)]
    assert [body.get("stream") for body in stub.bodies] == [None, True, True, True]
