import pytest
from llm_double import KEY

from llmser_tasks.core.errors import InputError
from llmser_tasks.llm.endpoint import Endpoint


def test_the_key_shows_nowhere() -> None:
    endpoint = Endpoint("glm", "https://open.example/v4", "glm-4-flash", key=KEY)
    assert KEY not in repr(endpoint) + str(endpoint) + f"{endpoint}"
    assert endpoint.chat_url == "https://open.example/v4/chat/completions"


def test_a_connection_gives_everything() -> None:
    extra = {"model": "gpt", "max_concurrency": "8", "price_per_million_prompt": 0.5, "requests_per_minute": None}
    endpoint = Endpoint.from_mapping("o", "https://api.example/v1/", KEY, extra | {"price_per_million_completion": "2"})
    assert (endpoint.url, endpoint.max_concurrency, endpoint.requests_per_minute) == ("https://api.example/v1", 8, None)
    assert endpoint.cost(1_000_000, 500_000) == pytest.approx(1.5)
    assert endpoint.cost(None, 1) is None


@pytest.mark.parametrize(
    ("url", "key", "extra", "says"),
    [
        ("ftp://host/v1", None, {"model": "m"}, "https://host/v1"),
        ("https://user:secret-pw@host/v1", None, {"model": "m"}, "https://host/v1"),
        ("https://host/v1?api-key=secret-pw", None, {"model": "m"}, "https://host/v1"),
        ("https://host:99999/v1", None, {"model": "m"}, "https://host/v1"),
        ("", None, {"model": "m"}, "https://host/v1"),
        ("https://host/v1", None, {}, "model"),
        ("https://host/v1", "secret-pw\n", {"model": "m"}, "key"),
        ("https://host/v1", "secret-pw€", {"model": "m"}, "key"),
        ("https://host/v1", None, {"model": "m", "rpm": 3}, "rpm"),
        ("https://host/v1", None, {"model": "m", "max_concurrency": "many"}, "max_concurrency"),
        ("https://host/v1", None, {"model": "m", "max_concurrency": 1.5}, "max_concurrency"),
        ("https://host/v1", None, {"model": "m", "max_concurrency": 0}, "max_concurrency"),
        ("https://host/v1", None, {"model": "m", "timeout_s": float("nan")}, "timeout_s"),
        ("https://host/v1", None, {"model": "m", "price_per_million_prompt": -1}, "price_per_million_prompt"),
        ("https://host/v1", None, {"model": "m", "max_tokens": 0}, "max_tokens must be from 1 to 1,000,000"),
        ("https://host/v1", None, {"model": "m", "max_tokens": 10**7}, "max_tokens must be from 1 to 1,000,000"),
        ("https://host/v1", None, {"model": "m", "max_tokens": True}, "max_tokens must be a number"),
        ("https://host/v1", None, {"model": "m", "max_tokens": "plenty"}, "max_tokens must be a number"),
        ("https://host/v1", None, {"model": "m", "extra_body": ["secret-pw"]}, "extra_body must be a JSON object"),
        ("https://host/v1", None, {"model": "m", "extra_body": "{secret-pw"}, "extra_body must be a JSON object"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"model": "secret-pw"}}, "must not hold model"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"messages": []}}, "must not hold messages"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"stream": True}}, "must not hold stream"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"n": 9}}, "must not hold n: one answer is read"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"max_completion_tokens": 9}}, "set max_tokens beside"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"x": "y" * 70_000}}, "65,536 are the most"),
        ("https://host/v1", None, {"model": "m", "extra_body": {"x": {1, 2}}}, "something that JSON cannot"),
        ("https://host/v1", None, {"model": "m", "headers": "secret-pw"}, "headers must be a JSON object"),
        ("https://host/v1", None, {"model": "m", "headers": {"x-a": "secret-pw\r\nx-b: 1"}}, "the value of 'x-a'"),
        ("https://host/v1", None, {"model": "m", "headers": {"x a": "secret-pw"}}, "cannot be one"),
        ("https://host/v1", None, {"model": "m", "headers": {"x-a": 5}}, "must be text, in quotes"),
        ("https://host/v1", None, {"model": "m", "headers": {"Host": "secret-pw"}}, "belongs to the wire"),
        ("https://host/v1", None, {"model": "m", "headers": {"Authorization": "secret-pw"}}, "connection's password"),
        ("https://host/v1", KEY, {"model": "m", "key_header": "api-key", "headers": {"Api-Key": "secret-pw"}}, "both"),
        ("https://host/v1", None, {"model": "m", "key_header": "api-key"}, "the connection has no password"),
        ("https://host/v1", KEY, {"model": "m", "key_header": "api key"}, "key_header names a header that cannot be"),
        ("https://host/v1", None, {"model": "m", "query": {"a": "secret-pw\n"}}, "the value of 'a'"),
        ("https://host/v1", None, {"model": "m", "query": {"": "secret-pw"}}, "query holds a name"),
        ("https://host/v1", None, {"model": "m", "query": {f"a{n}": "x" for n in range(60)}}, "50 are the most"),
    ],
)
def test_bad_settings_are_named_and_secrets_are_not(url: str, key: str | None, extra: dict, says: str) -> None:
    with pytest.raises(InputError) as raised:
        Endpoint.from_mapping("mine", url, key, extra)
    assert says in str(raised.value) and "mine" in str(raised.value)
    assert "secret-pw" not in str(raised.value)


def test_the_environment_names_the_ranker_and_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_RANKER_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LLMSER_LLM_URL", "https://host/v1")
    monkeypatch.setenv("LLMSER_LLM_KEY", KEY)
    monkeypatch.setenv("LLMSER_LLM_MODEL", "gpt")
    monkeypatch.setenv("LLMSER_LLM_REQUESTS_PER_MINUTE", "60")
    ranker = Endpoint.from_environment("llmser_ranker")
    assert (ranker.model, ranker.key, ranker.is_local) == ("embedding-ranker", None, True)
    other = Endpoint.from_environment("mine")
    assert (other.model, other.key, other.requests_per_minute, other.is_local) == ("gpt", KEY, 60, False)
    monkeypatch.delenv("LLMSER_LLM_URL")
    with pytest.raises(InputError, match="LLMSER_LLM_URL"):
        Endpoint.from_environment("mine")


AZURE = {
    "model": "gpt",
    "key_header": "api-key",
    "query": {"api-version": "2024-10-21"},
    "headers": {"X-Team": "team-secret"},
    "extra_body": {"reasoning_effort": "low"},
    "max_tokens": "4000",
}


def test_azures_form_is_a_matter_of_the_connection() -> None:
    endpoint = Endpoint.from_mapping("azure", "https://a.example/openai/deployments/gpt", KEY, AZURE)
    assert endpoint.chat_url == "https://a.example/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert endpoint.address("batches", {"limit": "9"}).endswith("/batches?api-version=2024-10-21&limit=9")
    assert endpoint.credentials == {"x-team": "team-secret", "api-key": KEY}
    assert endpoint.max_tokens == 4000
    for secret in (KEY, "team-secret", "2024-10-21"):
        assert secret not in repr(endpoint) + str(endpoint)
    assert hash(endpoint) == hash(Endpoint.from_mapping("azure", endpoint.url, KEY, AZURE))


def test_the_environment_holds_objects_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_LLM_URL", "https://host/v1")
    monkeypatch.setenv("LLMSER_LLM_MODEL", "gpt")
    monkeypatch.setenv("LLMSER_LLM_EXTRA_BODY", '{"reasoning_effort": "low"}')
    assert Endpoint.from_environment("mine").extra_body == {"reasoning_effort": "low"}
    assert Endpoint.from_environment("mine").credentials == {}


def test_what_embeds_is_another_model_of_the_same_server_unless_it_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_LLM_URL", "https://host/v1")
    monkeypatch.setenv("LLMSER_LLM_KEY", KEY)
    monkeypatch.setenv("LLMSER_LLM_MODEL", "gpt")
    monkeypatch.setenv("LLMSER_LLM_MAX_CONCURRENCY", "5")
    monkeypatch.setenv("LLMSER_LLM_PRICE_PER_MILLION_PROMPT", "100")
    monkeypatch.setenv("LLMSER_LLM_EXTRA_BODY", '{"reasoning_effort": "low"}')
    with pytest.raises(InputError, match="no model is named"):
        Endpoint.from_environment("mine", embeds=True)
    monkeypatch.setenv("LLMSER_EMBEDDING_MODEL", "small")
    made = Endpoint.from_environment("mine", embeds=True)
    assert (made.url, made.model, made.key, made.max_concurrency) == ("https://host/v1", "small", KEY, 5)
    assert made.price_per_million_prompt is None and not made.extra_body, "these are the other model's"
    monkeypatch.setenv("LLMSER_EMBEDDING_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LLMSER_EMBEDDING_PRICE_PER_MILLION_PROMPT", "0.02")
    made = Endpoint.from_environment("mine", embeds=True)
    assert made.url == "http://127.0.0.1:9/v1" and made.for_embedding().cost(1_000_000, 0) == pytest.approx(0.02)
    assert Endpoint.from_environment("mine").model == "gpt"
