import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from llm_double import FOR_EVER, KEY, Act, Double, fails, first_choices, says
from patience import PATIENCE_S, until
from sqlalchemy import QueuePool, text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm import client, prompts
from llmser_tasks.llm.answers import PickAnswer
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import EndpointFatal, EndpointUnsupported, KeyRefused, QuotaExhausted
from llmser_tasks.llm.fleet import fanout
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.outcomes import Failure
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.warehouse import ledger
from llmser_tasks.warehouse.engine import engine, transaction

Make = Callable[..., list[PickQuestion]]


def _rows(warehouse: Warehouse) -> list[dict]:
    with transaction(warehouse) as connection:
        return [dict(row) for row in connection.execute(text("select * from answers")).mappings()]


def _thing(body: dict) -> int:
    """Number of the question, from its history."""
    return int(json.loads(body["messages"][-1]["content"])["history"][0].split()[1])


def test_answers_come_in_order_and_stand_in_the_ledger(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    endpoint = replace(endpoint, price_per_million_prompt=1.0, price_per_million_completion=10.0)
    double.script = lambda _, body: says(json.dumps({"picks": [f"c{_thing(body) % 4 + 1:02d}"]}))
    calls: list[tuple[int, int | None, str, str]] = []
    asked = questions(20)
    outcomes = answer(endpoint, asked, warehouse, lambda *told: calls.append(told))
    assert [json.loads(o.content)["picks"] for o in outcomes] == [[f"c{n % 4 + 1:02d}"] for n in range(20)]
    assert (outcomes.distinct, outcomes.asked, outcomes.calls, outcomes.from_ledger) == (20, 20, 20, 0)
    assert (outcomes.prompt_tokens, outcomes.completion_tokens) == (2000, 200)
    assert outcomes.cost == pytest.approx(20 * (100 + 100) / 1e6) and outcomes.complaint() is None
    assert calls[0][:2] == (0, 20) and calls[-1][:2] == (20, 20) and "tokens" in calls[-1][3]
    rows = _rows(warehouse)
    assert {row["question_key"] for row in rows} == {q.key("m") for q in asked}
    row = rows[0]
    assert (row["step"], row["model"], row["answered_by"], row["attempts"]) == ("snf", "m", "double-1", 1)
    assert row["cost"] == pytest.approx(200 / 1e6) and row["finish_reason"] == "stop" and row["latency_ms"] >= 0


def test_the_request_is_openais(endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse) -> None:
    answer(endpoint, questions(1), warehouse)
    body, headers = double.bodies[0], double.headers[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 72)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"]["properties"]["picks"]["items"]["enum"] == ["c01", "c02", "c03", "c04"]
    assert headers["authorization"] == f"Bearer {KEY}" and headers["content-type"] == "application/json"


def test_equal_questions_are_asked_once(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    outcomes = answer(endpoint, [*questions(3), *questions(3), *questions(3)], warehouse)
    assert (len(outcomes), outcomes.distinct, len(double.times), len(_rows(warehouse))) == (9, 3, 3, 3)
    assert list(outcomes)[:3] == list(outcomes)[6:]


def test_a_rerun_asks_only_what_is_missing(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    double.script = lambda _, body: fails(503) if _thing(body) % 5 == 0 else first_choices(body)
    first = answer(endpoint, questions(50), warehouse)
    assert (first.unanswered, first.calls) == (10, 40 + 10 * client.ATTEMPTS)
    assert all(isinstance(o, Failure) and o.retriable and o.kind == "server error" for o in list(first)[::5])
    assert "10 of 50 unanswered: 10 × server error; a rerun asks only for these" in (first.complaint() or "")
    assert len(_rows(warehouse)) == 40
    double.reset()
    second = answer(endpoint, questions(50), warehouse)
    assert (second.from_ledger, second.asked, second.calls, len(double.times)) == (40, 10, 10, 10)
    assert second.unanswered == 0 and len(_rows(warehouse)) == 50
    assert answer(endpoint, questions(50), warehouse).calls == 0
    assert len(double.times) == 10


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (fails(500), "server error"),
        (fails(429, "1302"), "rate limit"),
        (fails(408), "timeout"),
        (Act(body={"choices": [{"message": {"content": "x"}}]}, cut=True), "server error"),
        (Act(body=b"<html>login here</html>"), "server error"),
        (Act(body=b'{"choices": []}'), "server error"),
        (Act(body=b'{"error": {"message": "busy", "code": 503}}'), "server error"),
        (says("", finish="network_error"), "server error"),
        (Act(status=200, body=b"{", headers={"content-length": "1", "content-encoding": "gzip"}), "server error"),
    ],
)
def test_what_passes_is_retried_and_leaves_no_row(
    act: Act, kind: str, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    double.plays(act, act, says('{"picks": ["c01"]}'))
    outcomes = answer(endpoint, questions(1), warehouse)
    assert isinstance(outcomes.results[0], PickAnswer) and outcomes.calls == 3
    assert _rows(warehouse)[0]["attempts"] == 3
    double.reset()
    double.plays(act)
    (outcome,) = answer(endpoint, questions(1, first=1), warehouse)
    assert isinstance(outcome, Failure) and (outcome.kind, outcome.retriable) == (kind, True)
    assert len(double.times) == client.ATTEMPTS and len(_rows(warehouse)) == 1


def test_timeouts_cover_a_late_answer_and_a_slow_drip(
    endpoint: Endpoint,
    double: Double,
    questions: Make,
    warehouse: Warehouse,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    endpoint = replace(endpoint, timeout_s=0.3)
    double.plays(replace(says('{"picks": ["c01"]}'), delay=FOR_EVER), replace(says('{"picks": ["c01"]}'), drip=0.05))
    (outcome,) = answer(endpoint, questions(1), warehouse)
    assert isinstance(outcome, Failure) and (outcome.kind, outcome.retriable) == ("timeout", True)
    assert "0.3 s" in outcome.message and len(double.times) == 2


@pytest.mark.parametrize(
    ("act", "error", "says_what"),
    [
        (fails(401, "invalid_api_key"), KeyRefused, "password of the connection double"),
        (fails(403), KeyRefused, "password"),
        (fails(429, "1113", "您的账户已欠费"), QuotaExhausted, "top it up"),
        (fails(429, "insufficient_quota"), QuotaExhausted, "top it up"),
        (fails(404), EndpointUnsupported, "/v1"),
        (Act(status=302, headers={"location": "http://elsewhere.example/"}), EndpointUnsupported, "/v1"),
    ],
)
def test_a_hopeless_endpoint_stops_everything_at_once(
    act: Act,
    error: type[EndpointFatal],
    says_what: str,
    endpoint: Endpoint,
    double: Double,
    questions: Make,
    warehouse: Warehouse,
) -> None:
    double.script = lambda number, body: first_choices(body) if number < 30 else act
    outcomes = answer(endpoint, questions(500), warehouse)
    assert isinstance(outcomes.fatal, error) and outcomes.unanswered == 470
    said = str(outcomes.fatal)
    assert says_what in said and "double" in said and KEY not in said
    assert outcomes.calls == len(double.times) <= 30 + endpoint.max_concurrency
    assert len(_rows(warehouse)) == 30  # what was paid for is kept


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (fails(400, "1301"), "content-filter"),
        (fails(400, "1261"), "too-long"),
        (says(None, finish="content_filter"), "content-filter"),
        (says(None, refusal="I will not"), "content-filter"),
    ],
)
def test_what_fails_for_good_is_recorded_and_never_asked_again(
    act: Act, kind: str, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.script = lambda _, body: act if _thing(body) == 1 else first_choices(body)
    for calls in (3, 0):
        outcomes = answer(endpoint, questions(3), warehouse)
        failure = outcomes.results[1]
        assert isinstance(failure, Failure) and (failure.kind, failure.retriable) == (kind, False)
        assert outcomes.calls == calls and outcomes.unanswered == 0 and outcomes.complaint() is None
    (row,) = [row for row in _rows(warehouse) if row["failure"]]
    assert row["failure"] == kind and row["content"] is None


def test_a_sustained_failure_ends_the_batch(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    double.script = lambda number, body: first_choices(body) if number < 20 else fails(503)
    outcomes = answer(endpoint, questions(3000), warehouse)
    assert outcomes.stopped is not None and "in a row" in outcomes.stopped and "HTTP 503" in outcomes.stopped
    assert len(_rows(warehouse)) == 20 and outcomes.unanswered == 2980
    assert len(double.times) < 2900
    assert "not asked" in (outcomes.complaint() or "") and "Rerun" in (outcomes.complaint() or "")


def test_an_unreachable_endpoint_is_named(
    endpoint: Endpoint, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    endpoint = replace(endpoint, url=f"http://127.0.0.1:{port}/v1")
    outcomes = answer(endpoint, questions(3), warehouse)
    failure = outcomes.results[0]
    assert isinstance(failure, Failure) and (failure.kind, failure.retriable) == ("unreachable", True)
    assert f"127.0.0.1:{port}/v1 cannot be reached" in failure.message and "check that it runs" in failure.message
    assert failure.message in (outcomes.complaint() or "")


def test_a_reset_connection_is_retried(endpoint: Endpoint, questions: Make, warehouse: Warehouse, hasty: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = replace(endpoint, url=f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        reset = subprocess.Popen(
            [sys.executable, "-c", _RESETTER, str(server.fileno())], pass_fds=[server.fileno()], stdout=subprocess.PIPE
        )
        (outcome,) = answer(endpoint, questions(1), warehouse)
        reset.kill()
        reset.wait()
    assert isinstance(outcome, Failure) and (outcome.kind, outcome.retriable) == ("server error", True)
    assert "broke off" in outcome.message


_RESETTER = """
import socket, struct, sys
server = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = server.accept()
    connection.recv(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
"""


@pytest.mark.parametrize(
    "headers",
    [{"retry-after": "1"}, {"retry-after-ms": "1000"}, {"llm_provider-retry-after": "1"}],
)
def test_retry_after_pauses_every_worker(
    headers: dict[str, str], endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.script = lambda number, body: fails(429, headers=headers) if number == 8 else first_choices(body)
    outcomes = answer(endpoint, questions(40), warehouse)
    assert outcomes.unanswered == 0 and outcomes.calls == 41
    told = double.times[8]
    late = [moment - told for moment in double.times if moment > told + 0.1]
    assert len(late) >= 20 and min(late) >= 0.99


def test_a_pause_longer_than_patience_ends_the_batch(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.plays(fails(429, headers={"retry-after": "3600"}))
    outcomes = answer(endpoint, questions(100), warehouse)
    assert outcomes.stopped is not None and "3600 s" in outcomes.stopped
    assert len(double.times) <= endpoint.max_concurrency and outcomes.unanswered == 100


def test_concurrency_is_kept(endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse) -> None:
    double.script = lambda _, body: replace(first_choices(body), delay=0.02)
    answer(replace(endpoint, max_concurrency=5), questions(60), warehouse)
    assert double.most_in_flight == 5


@pytest.mark.parametrize("refusal", [400, 422, 500])
def test_the_format_is_probed_down_to_plain(
    refusal: int, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    def script(_: int, body: dict) -> Act:
        return (
            fails(refusal, None, "unknown field response_format") if "response_format" in body else first_choices(body)
        )

    double.script = script
    endpoint = replace(endpoint, max_concurrency=1)
    assert answer(endpoint, questions(5), warehouse).unanswered == 0
    forms = [body.get("response_format", {"type": "plain"}) for body in double.bodies]
    assert [form["type"] for form in forms] == ["json_schema", "json_object", "json_object"] + ["plain"] * 5
    assert forms[1]["schema"] == forms[0]["json_schema"]["schema"]
    assert forms[2] == {"type": "json_object"}
    assert answer(endpoint, questions(5, first=5), warehouse).calls == 5  # remembered


def test_an_unexplained_400_may_mean_the_format_too(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    def script(_: int, body: dict) -> Act:
        asked = body["response_format"]
        return first_choices(body) if asked == {"type": "json_object"} else fails(400, "1210", "API 调用参数有误")

    double.script = script
    assert answer(endpoint, questions(10), warehouse).unanswered == 0
    assert double.bodies[-1]["response_format"] == {"type": "json_object"}


def test_newer_parameters_are_found(endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse) -> None:
    def script(_: int, body: dict) -> Act:
        if "max_tokens" in body:
            return fails(
                400, "unsupported_parameter", "'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            )
        if "temperature" in body:
            return fails(400, "unsupported_value", "'temperature' does not support 0 with this model.")
        return first_choices(body)

    double.script = script
    assert answer(replace(endpoint, max_concurrency=1), questions(3), warehouse).calls == 5
    assert double.bodies[-1]["response_format"]["type"] == "json_schema"


def test_a_refusal_that_nothing_explains_is_no_permanent_failure(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.plays(fails(400, None, "bad"))
    (outcome,) = answer(endpoint, questions(1), warehouse)
    assert isinstance(outcome, Failure) and (outcome.kind, outcome.retriable) == ("refused", True)
    assert _rows(warehouse) == [] and len(double.times) == 4


@pytest.mark.parametrize(
    ("act", "content"),
    [
        (says('{"picks": ["c01"', finish="length"), '{"picks": ["c01"'),
        (says([{"type": "text", "text": '{"picks":'}, {"type": "text", "text": ' ["c01"]}'}]), '{"picks": ["c01"]}'),
        (says("nul \x00 and ☃"), "nul  and ☃"),
        (Act(body=b'{"choices":[{"message":{"content":"half \\ud800 pair"},"finish_reason":null}]}'), "half ? pair"),
        (says("x", usage={}), "x"),
        (says("x", usage={"prompt_tokens": "many", "completion_tokens": -1}), "x"),
        (says("x", model=None), "x"),
    ],
)
def test_odd_but_paid_replies_are_kept(
    act: Act, content: str, endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    double.plays(act)
    (outcome,) = answer(endpoint, questions(1), warehouse)
    assert isinstance(outcome, PickAnswer) and outcome.content == content
    assert _rows(warehouse)[0]["content"] == content


def test_what_is_paid_for_is_kept_before_it_is_read(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> PickAnswer:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(prompts, "parse", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        answer(endpoint, questions(1), warehouse)
    assert len(_rows(warehouse)) == 1


def test_anothers_earlier_answer_counts(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    (asked,) = questions(1)
    theirs = ledger.Entry(asked.key("m"), "snf", "t1", "m", 1, content="theirs")

    def script(_: int, body: dict) -> Act:
        ledger.insert(warehouse, [theirs])
        return first_choices(body)

    double.script = script
    outcomes = answer(endpoint, [asked], warehouse)
    assert isinstance(outcomes.results[0], PickAnswer) and outcomes.results[0].content == "theirs"
    assert len(_rows(warehouse)) == 1


def test_an_interrupt_keeps_what_was_answered(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    def progress(done: int, *_: object) -> None:
        if done == 60:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            answer(endpoint, questions(200), warehouse, progress)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 60 <= len(_rows(warehouse)) <= 60 + endpoint.max_concurrency


def test_answers_survive_a_postgres_that_comes_back(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = ledger.transaction, iter(range(3))
    monkeypatch.setattr(ledger, "RETRIES_S", (0.01,) * 4)
    asked = questions(5)
    armed = False

    def sometimes(warehouse: Warehouse):
        if armed and next(failures, None) is not None:
            raise StorageError("away")
        return real(warehouse)

    def script(_: int, body: dict) -> Act:
        nonlocal armed
        armed = True
        return first_choices(body)

    monkeypatch.setattr(ledger, "transaction", sometimes)
    double.script = script
    assert answer(endpoint, asked, warehouse).unanswered == 0
    assert len(_rows(warehouse)) == 5


def test_postgres_down_is_one_sentence(endpoint: Endpoint, double: Double, questions: Make) -> None:
    with pytest.raises(StorageError, match=r"Postgres at 127\.0\.0\.1:1/x cannot be used"):
        answer(endpoint, questions(1), Warehouse("postgresql+psycopg2://u:pw@127.0.0.1:1/x"))
    assert double.times == []


def test_no_questions_no_calls(endpoint: Endpoint, double: Double, warehouse: Warehouse) -> None:
    outcomes = answer(endpoint, [], warehouse)
    assert (len(outcomes), outcomes.calls, outcomes.complaint()) == (0, 0, None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_the_key_is_nowhere(
    status: int,
    endpoint: Endpoint,
    double: Double,
    questions: Make,
    warehouse: Warehouse,
    hasty: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in a log line at any level, in an exception with its whole chain, in an outcome, or in the database."""
    caplog.set_level(logging.DEBUG)
    double.script = lambda number, body: first_choices(body) if number < 3 else fails(status, None, f"bad key {KEY}")
    outcomes = answer(endpoint, questions(12), warehouse)
    said, link = repr(outcomes), outcomes.fatal
    while link is not None:
        said += repr(link) + str(link) + repr(vars(link))
        link = link.__cause__ or link.__context__
    assert said and KEY not in said
    assert KEY not in "".join(f"{r.getMessage()}{r.args}{r.exc_text}" for r in caplog.records)
    with transaction(warehouse) as connection:
        tables = connection.scalars(text("select tablename from pg_tables where schemaname = 'llmser'")).all()
        for table in tables:
            dumped = connection.scalar(text(f"select coalesce(json_agg(t)::text, '') from llmser.{table} t"))
            assert KEY not in dumped
    assert not [r for r in caplog.records if r.name == "httpx" and r.levelno < logging.WARNING]


_BATCH = """
import sys
sys.path[:0] = sys.argv[4:]
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import build_question
questions = [build_question(step="snf", prompt_version="t1", instructions="Pick.", history=[f"thing {n}"],
                            candidates=["a", "b", "c"], picks=2, seed=n) for n in range(int(sys.argv[3]))]
outcomes = answer(Endpoint("double", sys.argv[1], "m", max_concurrency=16), questions, Warehouse(sys.argv[2]))
print(outcomes.from_ledger, outcomes.calls, outcomes.unanswered)
"""


def test_killed_in_the_middle_and_rerun(double: Double, warehouse: Warehouse) -> None:
    """Lost to kill -9: at most the group that was not committed yet. Doubled: nothing."""
    total = 800
    double.script = lambda _, body: replace(first_choices(body), delay=0.005)
    root = str(Path(fanout.__file__).parents[3])
    command = [sys.executable, "-c", _BATCH, double.url, warehouse.url, str(total), root]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""})
    until(lambda: len(double.times) >= 450 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    double.settle()
    until(lambda: _strangers(warehouse) == 0)  # a commit that it had sent is over
    paid, kept = len(double.times), len(_rows(warehouse))
    assert 0 < kept < total and paid - kept <= 2 * (ledger.GROUP + 16)
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == [str(kept), str(total - kept), "0"]
    assert len(double.times) == paid + total - kept and len(_rows(warehouse)) == total


def test_one_event_loop_a_call_and_none_left_behind(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse
) -> None:
    answer(endpoint, questions(3), warehouse)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert answer(endpoint, questions(3, first=3), warehouse).calls == 3


_SIDE_BY_SIDE = """
import sys
sys.path[:0] = [sys.argv[4], sys.argv[4] + "/tests"]
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.fleet.fanout import answer
from llmser_tasks.llm.prompts import build_question

endpoint = Endpoint(name="double", url=sys.argv[1], model="m", key="k", max_concurrency=8, timeout_s=3600)
questions = [
    build_question(step="snf", prompt_version="t1", instructions="Pick.", history=[f"thing {number}", "lamp"],
                   candidates=["blue socks", "red hat", "green scarf", "garden hose"], picks=2, seed=number)
    for number in range(int(sys.argv[3]))
]
outcomes = answer(endpoint, questions, Warehouse(sys.argv[2]))
print(outcomes.calls, outcomes.from_ledger, outcomes.unanswered)
"""


def _batch(double: Double, warehouse: Warehouse, questions: int) -> subprocess.Popen[str]:
    root = str(Path(fanout.__file__).parents[3])
    command = [sys.executable, "-c", _SIDE_BY_SIDE, double.url, warehouse.url, str(questions), root]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ""}, stdout=subprocess.PIPE, text=True)


def test_batches_side_by_side_pay_once(double: Double, warehouse: Warehouse) -> None:
    double.script = lambda _, body: replace(first_choices(body), delay=0.02)
    batches = [_batch(double, warehouse, 300) for _ in range(3)]
    said = [batch.communicate(timeout=PATIENCE_S)[0].split() for batch in batches]
    assert len(double.times) == len(_rows(warehouse)) == 300
    assert sum(int(calls) for calls, _, _ in said) == 300 and sum(int(found) for _, found, _ in said) == 600
    assert all(unanswered == "0" for *_, unanswered in said)
    assert _claims(warehouse) == 0


def test_a_killed_batch_leaves_its_questions_to_others(double: Double, warehouse: Warehouse) -> None:
    def script(_: int, body: dict) -> Act:
        return replace(first_choices(body), delay=FOR_EVER if len(double.times) <= 8 else 0)

    double.script = script
    stuck = _batch(double, warehouse, 20)
    until(lambda: len(double.times) >= 8 or stuck.poll() is not None)
    other = _batch(double, warehouse, 20)
    until(lambda: _wants_nothing(warehouse) or other.poll() is not None)  # all that it has others are asking
    assert other.poll() is None and len(double.times) == 8
    stuck.kill()
    stuck.communicate()
    assert other.communicate(timeout=PATIENCE_S)[0].split() == ["20", "0", "0"]
    assert len(double.times) == 28 and _claims(warehouse) == 0


def test_what_one_batch_could_not_get_answered_another_asks(
    endpoint: Endpoint, double: Double, questions: Make, warehouse: Warehouse, hasty: None
) -> None:
    double.script = lambda _, body: fails(503) if _thing(body) == 3 else first_choices(body)
    assert answer(endpoint, questions(5), warehouse).unanswered == 1
    double.reset()
    assert answer(endpoint, questions(5), warehouse).calls == 1
    assert _claims(warehouse) == 0


def _wants_nothing(warehouse: Warehouse) -> int:
    """Batches that live and would send nothing now."""
    with transaction(warehouse) as connection:
        return connection.scalar(text("select count(*) from endpoint_workers where wanted = 0")) or 0


def _strangers(warehouse: Warehouse) -> int:
    """Connections to this database that are not this process' own."""
    of_all = "select count(*) from pg_stat_activity where datname = current_database() and backend_type like 'client%'"
    with transaction(warehouse) as connection:
        pool = engine(warehouse).pool
        assert isinstance(pool, QueuePool)
        return int(connection.scalar(text(of_all)) or 0) - pool.checkedin() - pool.checkedout()


def _claims(warehouse: Warehouse) -> int:
    with transaction(warehouse) as connection:
        return connection.scalar(text("select count(*) from claims")) or 0
