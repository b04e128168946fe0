"""What a hostile endpoint can cost: bytes, memory, requests and seconds are bounded, and it ends in one sentence.

The same for single questions and for the Batch API. What was sent is counted by the server, memory by tracemalloc.
"""

from __future__ import annotations

import itertools
import json
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hostile_server import PART, Hostile, bomb, dripping, endless, head, hostile, whole
from patience import PATIENCE_S

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import exchange
from llmser_tasks.llm.batch_api import wire
from llmser_tasks.llm.batch_api.wire import BatchApi
from llmser_tasks.llm.client import ATTEMPTS
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import EndpointUnsupported, LlmError, Timeout, Unavailable
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.outcomes import Failure, Outcomes
from llmser_tasks.llm.prompts import PickQuestion

Make = Callable[..., list[PickQuestion]]

MIB = 1 << 20
SLACK = 8 * MIB  # what sockets and readers hold on their way
BOMB = 256 * MIB


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile(lambda path, body: whole({})) as server:
        yield server


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt of every request to the Batch API."""
    monkeypatch.setattr(wire, "WAITS_S", ())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second for every request to the Batch API."""
    for name in ("SILENCE_S", "UPLOAD_S"):
        monkeypatch.setattr(wire, name, 0.5)
    monkeypatch.setattr(exchange, "FILE_S", 0.5)


@pytest.fixture
def memory() -> Iterator[None]:
    """Python never held more than a few answers' worth."""
    bomb(BOMB, 1), bomb(BOMB, 2)  # made beforehand
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 * MIB


def endpoint(server: Hostile, timeout_s: float = PATIENCE_S) -> Endpoint:
    return Endpoint("hostile", server.url, "m", key="sk-planted-0123456789", timeout_s=timeout_s)


def only(outcomes: Outcomes) -> Failure:
    (failure,) = outcomes.results
    assert isinstance(failure, Failure)
    return failure


class TestSingleQuestions:
    @pytest.fixture(autouse=True)
    def _quick(self, hasty: None) -> None:
        pass

    def ask(self, server: Hostile, questions: Make, warehouse: Warehouse, timeout_s: float = PATIENCE_S) -> Outcomes:
        return answer(endpoint(server, timeout_s), questions(1), warehouse)

    def test_an_encoding_that_was_not_asked_for_is_refused_unread(
        self, server: Hostile, questions: Make, warehouse: Warehouse, memory: None
    ) -> None:
        server.script = lambda path, body: bomb(BOMB, 2)
        failure = only(self.ask(server, questions, warehouse))
        assert failure.kind == "server error" and "content-encoding gzip, gzip" in failure.message
        assert len(server.asked) == ATTEMPTS
        assert "accept-encoding: identity" in server.heads[0].lower()

    def test_an_error_that_is_compressed_counts_by_its_status(
        self, server: Hostile, questions: Make, warehouse: Warehouse, memory: None
    ) -> None:
        packed = bomb(BOMB, 1)
        server.script = lambda path, body: [packed[0].replace(b"200", b"503"), packed[1]]
        failure = only(self.ask(server, questions, warehouse))
        assert (failure.kind, "HTTP 503" in failure.message) == ("server error", True)

    def test_a_charset_in_the_encodings_place_is_no_encoding(
        self, server: Hostile, questions: Make, warehouse: Warehouse
    ) -> None:
        reply = {"choices": [{"message": {"content": '{"picks": ["c01"]}'}, "finish_reason": "stop"}]}
        server.script = lambda path, body: whole(reply, content_encoding="UTF-8")
        assert self.ask(server, questions, warehouse).unanswered == 0

    @pytest.mark.parametrize("status", [200, 500])
    def test_an_endless_body_is_read_up_to_its_bound(
        self, status: int, server: Hostile, questions: Make, warehouse: Warehouse, memory: None
    ) -> None:
        server.script = lambda path, body: endless(status)
        failure = only(self.ask(server, questions, warehouse))
        assert failure.kind == "server error"
        assert server.sent < len(server.asked) * (exchange.LARGEST_RESPONSE + SLACK)
        assert ("more than 4 MiB" if status == 200 else "HTTP 500") in failure.message

    @pytest.mark.parametrize("first", [head(), b"HTTP/1.1 200 OK\r\nx-drip: "])
    def test_a_drip_for_ever_is_a_timeout(
        self, first: bytes, server: Hostile, questions: Make, warehouse: Warehouse
    ) -> None:
        server.script = lambda path, body: dripping(first)
        failure = only(self.ask(server, questions, warehouse, timeout_s=0.3))
        assert (failure.kind, "within 0.3 s" in failure.message) == ("timeout", True)

    def test_endless_headers_are_bounded(self, server: Hostile, questions: Make, warehouse: Warehouse) -> None:
        server.script = lambda path, body: itertools.chain([b"HTTP/1.1 200 OK\r\nx: "], itertools.repeat(PART))
        assert only(self.ask(server, questions, warehouse)).kind == "server error"
        assert server.sent < len(server.asked) * SLACK

    @pytest.mark.parametrize("status", [200, 400, 503])
    def test_a_deeply_nested_body_is_no_answer_and_no_crash(
        self, status: int, server: Hostile, questions: Make, warehouse: Warehouse
    ) -> None:
        deep = b"[" * 1000 + b"]" * 1000
        server.script = lambda path, body: whole(b'{"error": {"code": %b, "message": "no"}}' % deep, status)
        outcomes = self.ask(server, questions, warehouse)
        assert outcomes.unanswered == 1

    def test_a_pause_of_years_is_believed_for_a_day_and_nobody_sleeps_through_it(
        self, server: Hostile, questions: Make, warehouse: Warehouse
    ) -> None:
        server.script = lambda path, body: whole({"error": {"message": "busy"}}, 429, retry_after="1e300")
        first = str(self.ask(server, questions, warehouse).complaint())
        again = str(self.ask(server, questions, warehouse).complaint())
        assert "It asks for a pause of 86400 s" in first
        assert re.search(r"asks for 8[56]\d{3} s more without requests", again)
        assert len(server.asked) == 1


CALLS: dict[str, Callable[[BatchApi], Any]] = {
    "upload": lambda api: api.upload(b"{}\n"),
    "create": lambda api: api.create("file-1", "mark"),
    "find": lambda api: api.find("file-1", "mark"),
    "get": lambda api: api.get("batch_1"),
    "lines": lambda api: list(api.lines("file-1", 10)),
}


def failing(server: Hostile, call: Callable[[BatchApi], Any], timeout_s: float = PATIENCE_S) -> LlmError:
    with pytest.raises(LlmError) as error, BatchApi(endpoint(server, timeout_s)) as api:
        call(api)
    assert "hostile" in str(error.value) and "sk-planted" not in str(error.value)
    assert str(error.value).count("\n") == 0 and len(str(error.value)) < 500
    return error.value


@pytest.mark.usefixtures("once")
class TestBatchApi:
    @pytest.mark.parametrize("name", CALLS)
    def test_an_encoding_that_was_not_asked_for_is_refused_unread(
        self, name: str, server: Hostile, memory: None
    ) -> None:
        server.script = lambda path, body: bomb(BOMB, 2)
        assert "content-encoding gzip, gzip" in str(failing(server, CALLS[name]))
        assert len(server.asked) == 1

    @pytest.mark.parametrize("name", CALLS)
    def test_an_endless_body_is_read_up_to_its_bound(
        self, name: str, server: Hostile, memory: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wire, "SMALLEST_FILE_BOUND", 4 * MIB)
        server.script = lambda path, body: endless()
        assert isinstance(failing(server, CALLS[name]), Unavailable | EndpointUnsupported)
        assert server.sent < 4 * MIB + SLACK

    @pytest.mark.parametrize("name", CALLS)
    def test_an_endless_error_is_told_by_its_status(self, name: str, server: Hostile, memory: None) -> None:
        server.script = lambda path, body: endless(404)
        assert "HTTP 404" in str(failing(server, CALLS[name]))
        assert server.sent < exchange.LARGEST_ERROR + SLACK

    @pytest.mark.parametrize("name", CALLS)
    @pytest.mark.parametrize("first", [head(), b"HTTP/1.1 200 OK\r\nx-drip: "])
    def test_a_drip_for_ever_is_a_timeout(self, first: bytes, name: str, server: Hostile, impatient: None) -> None:
        server.script = lambda path, body: dripping(first)
        assert isinstance(failing(server, CALLS[name], 0.4), Timeout)

    @pytest.mark.parametrize("name", ["upload", "create"])
    @pytest.mark.parametrize(
        "found",
        [{}, [], None, 3, *({"id": one} for one in (None, "", "..", "a b", "a\nb", 3.5, True, [], {}, "x" * 9999))],
    )
    def test_an_object_without_a_usable_id_is_one_sentence(self, found: Any, name: str, server: Hostile) -> None:
        server.script = lambda path, body: whole(found)
        assert isinstance(failing(server, CALLS[name]), Unavailable)

    @pytest.mark.parametrize("name", ["create", "find", "get"])
    def test_deep_nesting_is_one_sentence(self, name: str, server: Hostile) -> None:
        server.script = lambda path, body: whole(b'{"a":' * 100_000)
        assert isinstance(failing(server, CALLS[name]), Unavailable)

    @pytest.mark.parametrize("data", [None, 3, "batches", {"id": 1}, [1, "x", None, [2]]])
    def test_a_list_of_batches_that_is_none_holds_none_of_ours(self, data: Any, server: Hostile) -> None:
        server.script = lambda path, body: whole({"data": data, "has_more": True})
        with BatchApi(endpoint(server)) as api:
            assert api.find("file-1", "mark") is None

    def test_a_list_of_batches_without_end_is_given_up(self, server: Hostile) -> None:
        server.script = lambda path, body: whole({"data": [{"id": "b"}], "has_more": True})
        with BatchApi(endpoint(server)) as api:
            assert api.find("file-1", "mark") is None
        assert len(server.asked) == wire.PAGES

    def test_an_id_leads_nowhere_else(self, server: Hostile) -> None:
        server.script = lambda path, body: whole({"id": "x"})
        with BatchApi(endpoint(server)) as api:
            api.get("../../admin?x=#y")
        assert server.asked == ["/v1/batches/..%2F..%2Fadmin%3Fx=%23y"]

    @pytest.mark.parametrize("status", [None, 3, [], {"completed": 1}, "\x1b[2Jcompleted" * 50])
    def test_a_status_is_a_clean_line_or_none(self, status: Any, server: Hostile) -> None:
        server.script = lambda path, body: whole({"status": status})
        with BatchApi(endpoint(server)) as api:
            said = api.get("batch_1")["status"]
        assert said is None or (len(said) <= 40 and said.isprintable())


def line(number: int) -> bytes:
    return json.dumps({"custom_id": f"q{number}"}).encode() + b"\n"


def asked(server: Hostile) -> list[str]:
    with BatchApi(endpoint(server)) as api:
        return [one["custom_id"] for one in api.lines("file-1", 10)]


def test_a_line_of_100_mb_is_passed_over_and_the_others_are_read(server: Hostile, memory: None) -> None:
    def script(path: str, body: bytes) -> Iterable[bytes]:
        yield head()
        yield line(1) + b'{"custom_id": "'
        yield from itertools.repeat(PART, 100 * MIB // len(PART))
        yield b'"}\n' + line(2) + b"[" * 5000 + b"\n[1]\n\n" + line(3).strip()

    server.script = script
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "SMALLEST_FILE_BOUND", 200 * MIB)
        assert asked(server) == ["q1", "q2", "q3"]


def test_a_download_that_breaks_off_begins_again(server: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WAITS_S", (0.01,))
    broken = [head(content_length=1000), line(1)]
    server.script = lambda path, body: broken if len(server.asked) == 1 else whole(line(1) + line(2))
    assert asked(server) == ["q1", "q1", "q2"]


def test_lines_are_put_together_wherever_the_network_cuts_them(server: Hostile) -> None:
    raw = b"".join(line(number) for number in range(50))
    server.script = lambda path, body: [head(content_length=len(raw)), *(raw[n : n + 7] for n in range(0, len(raw), 7))]
    assert asked(server) == [f"q{number}" for number in range(50)]


def test_an_upload_arrives_as_a_form_with_its_length(server: Hostile) -> None:
    sent: list[bytes] = []

    def script(path: str, body: bytes) -> Iterable[bytes]:
        sent.append(body)
        return whole({"id": 731919453})  # GLM's, once

    server.script = script
    with BatchApi(endpoint(server)) as api:
        assert api.upload(b'{"a": 1}\n' * 100_000) == "731919453"
    assert sent[0].count(b'{"a": 1}\n') == 100_000 and b'name="purpose"\r\n\r\nbatch\r\n' in sent[0]
    assert "transfer-encoding" not in server.heads[0].lower()
