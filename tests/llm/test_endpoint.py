import pytest
from llm_double import KEY

from llmser_tasks.errors import InputError
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
