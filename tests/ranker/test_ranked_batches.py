"""The ranker's Batch API over real HTTP."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from patience import until
from served_ranker import question, ranker

from llmser_tasks.ranker import ranked_batches

CHAT = "/v1/chat/completions"


def requests(count: int, url: str = CHAT) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"q{number}",
            "method": "POST",
            "url": url,
            "body": question([f"lamp {number}"], ["argan oil", f"lamp {number} shade", "black eyeliner"], 1),
        }
        for number in range(count)
    ]


def upload(client: httpx.Client, lines: list[Any]) -> str:
    raw = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", raw)})
    assert answer.status_code == 200, answer.text
    facts = answer.json()
    assert (facts["object"], facts["purpose"], facts["bytes"]) == ("file", "batch", len(raw))
    return str(facts["id"])


def create(client: httpx.Client, file: str, endpoint: str = CHAT, **more: Any) -> dict[str, Any]:
    asked = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"} | more
    answer = client.post("/v1/batches", json=asked)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def ended(client: httpx.Client, batch: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}

    def over() -> bool:
        facts.update(client.get(f"/v1/batches/{batch}").json())
        return facts["status"] in {"completed", "failed", "expired", "cancelled"}

    until(over, lambda: facts)
    return facts


def lines_of(client: httpx.Client, file: str) -> dict[str, Any]:
    found = [json.loads(line) for line in client.get(f"/v1/files/{file}/content").text.splitlines()]
    return {line["custom_id"]: line for line in found}


@pytest.mark.parametrize("url", [CHAT, "/v4/chat/completions"])  # OpenAI's and GLM's
def test_a_file_of_requests_becomes_a_file_of_answers(url: str) -> None:
    with ranker("batch_seconds=0.05") as client:
        file = upload(client, requests(5, url))
        made = create(client, file, url, metadata={"llmser": "abc"})
        assert made["status"] == "validating" and made["metadata"] == {"llmser": "abc"}
        facts = ended(client, made["id"])
        assert facts["status"] == "completed" and facts["error_file_id"] is None
        assert facts["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
        answers = lines_of(client, facts["output_file_id"])
        for number, asked in enumerate(requests(5, url)):
            line = answers[f"q{number}"]
            assert (line["response"]["status_code"], line["error"]) == (200, None)
            single = client.post(CHAT, json=asked["body"]).json()
            assert line["response"]["body"]["choices"] == single["choices"]
        assert client.get("/stats").json()["calls"] == 10
        assert client.delete(f"/v1/files/{file}").json()["deleted"]
        assert client.get(f"/v1/files/{file}").status_code == 404


def test_what_goes_wrong_stands_in_the_error_file() -> None:
    with ranker("batch_seconds=0,429=0.2,timeout=0.2,truncated=0.2,batch_expired=0.2") as client:
        facts = ended(client, create(client, upload(client, requests(60)))["id"])
        assert facts["status"] == "expired"
        good, bad = lines_of(client, facts["output_file_id"]), lines_of(client, facts["error_file_id"])
    assert len(good) + len(bad) == 60 and not set(good) & set(bad)
    codes = {line["response"]["status_code"] for line in bad.values() if line["response"]}
    assert codes == {429, 504}
    assert {line["error"]["code"] for line in bad.values() if line["error"]} == {"batch_expired"}
    reasons = {line["response"]["body"]["choices"][0]["finish_reason"] for line in good.values()}
    assert reasons == {"stop", "length"}


def test_batches_are_listed_newest_first_and_can_be_cancelled() -> None:
    with ranker("batch_seconds=60") as client:
        file = upload(client, requests(1))
        ids = [create(client, file, metadata={"n": str(n)})["id"] for n in range(5)]
        first = client.get("/v1/batches", params={"limit": 2}).json()
        assert [facts["id"] for facts in first["data"]] == [ids[4], ids[3]] and first["has_more"]
        rest = client.get("/v1/batches", params={"limit": 9, "after": ids[3]}).json()
        assert [facts["metadata"]["n"] for facts in rest["data"]] == ["2", "1", "0"] and not rest["has_more"]
        assert client.post(f"/v1/batches/{ids[0]}/cancel").json()["status"] == "cancelled"
        assert client.get("/v1/batches/none").status_code == 404


@pytest.mark.parametrize(
    "lines",
    [
        ["{"],
        ["[1]"],
        [{"custom_id": "a"}],
        requests(1, "/v1/elsewhere"),
        requests(1) + requests(1),
        [requests(1)[0] | {"custom_id": 3}],
        [json.dumps(requests(1)[0] | {"body": None}).replace("null", "[" * 900 + "]" * 900)],
    ],
)
def test_a_file_that_is_none_fails_the_batch(lines: list[Any]) -> None:
    with ranker() as client:
        facts = ended(client, create(client, upload(client, lines))["id"])
        assert facts["status"] == "failed" and facts["errors"]["data"][0]["message"]


def sent(client: httpx.Client, size: int) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", b"x" * size)})


def test_a_file_that_is_too_large_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_batches, "LARGEST_FILE", 100_000)
    monkeypatch.setattr(ranked_batches, "LARGEST_FORM", 101_000)
    with ranker() as client:
        assert sent(client, 100_000).status_code == 200
        assert sent(client, 100_001).status_code == 413
        given = 0

        def endless() -> Iterator[bytes]:
            nonlocal given
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            while given < 256 << 20:
                yield b"x" * 65536
                given += 65536

        with contextlib.suppress(httpx.HTTPError):  # refused in the midst of sending
            headers = {"content-type": "multipart/form-data; boundary=b"}
            assert client.post("/v1/files", content=endless(), headers=headers).status_code == 413
        assert given < 32 << 20


def test_old_files_give_way_to_new_ones_but_not_those_of_a_batch_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = "\n".join(json.dumps(line) for line in requests(3))
    monkeypatch.setattr(ranked_batches, "MOST_STORED", len(raw) + 2500)
    with ranker("batch_seconds=60") as client:
        needed = upload(client, requests(3))
        create(client, needed)
        first, second, third = (sent(client, 1000).json()["id"] for _ in range(3))
        found = {name: client.get(f"/v1/files/{name}").status_code for name in (needed, first, second, third)}
        assert list(found.values()) == [200, 404, 200, 200]
        assert sent(client, 3000).status_code == 429  # not even if all the others went
        assert client.get(f"/v1/files/{second}").status_code == 200


def test_batches_are_forgotten_and_refused_beyond_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_batches, "MOST_BATCHES", 3)
    monkeypatch.setattr(ranked_batches, "MOST_AT_WORK", 2)
    with ranker("batch_seconds=60") as client:
        file = upload(client, requests(1))
        ids = []
        for _ in range(4):
            ids.append(create(client, file)["id"])
            assert client.post(f"/v1/batches/{ids[-1]}/cancel").json()["status"] == "cancelled"
        assert [client.get(f"/v1/batches/{one}").status_code for one in ids] == [404, 200, 200, 200]
        create(client, file), create(client, file)
        refused = client.post("/v1/batches", json={"input_file_id": file, "endpoint": CHAT})
        assert refused.status_code == 429 and "2 batches are at work" in refused.json()["error"]["message"]


@pytest.mark.parametrize("limit", ["x", "-1", "1.5", "", "9" * 5000, "٣"])
def test_a_limit_that_is_no_number_is_refused(limit: str) -> None:
    with ranker() as client:
        assert client.get("/v1/batches", params={"limit": limit}).status_code == 400


@pytest.mark.parametrize("metadata", [{"a": "x" * 600}, {str(n): "x" for n in range(17)}, {"a": 1}, [1], "x"])
def test_metadata_beyond_what_openai_takes_is_refused(metadata: Any) -> None:
    with ranker() as client:
        asked = {"input_file_id": upload(client, requests(1)), "endpoint": CHAT, "metadata": metadata}
        assert client.post("/v1/batches", json=asked).status_code == 400


def test_nonsense_is_refused() -> None:
    with ranker(key="k") as client:
        assert client.post("/v1/files").status_code == 401
    with ranker() as client:
        assert client.post("/v1/files", data={"purpose": "batch"}).status_code == 400
        assert client.post("/v1/batches", content=b"{").status_code == 400
        asked = {"input_file_id": "file-none", "endpoint": CHAT}
        assert client.post("/v1/batches", json=asked).status_code == 400
