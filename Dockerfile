# One image for every service. The plain torch wheel brings CUDA and runs without a GPU as well.
FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 50000 llmser && install -d -o llmser /opt/llmser /data
WORKDIR /opt/llmser
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 \
    PATH=/opt/llmser/.venv/bin:$PATH HF_HUB_OFFLINE=1

COPY --chown=llmser requirements.lock ./
USER llmser
RUN python -m venv .venv \
    && pip install uv==0.13.8 torch==2.13.0 \
    && uv pip install --no-deps --require-hashes -r requirements.lock

COPY --chown=llmser pyproject.toml README.md ./
COPY --chown=llmser llmser_tasks llmser_tasks
COPY --chown=llmser sql sql
COPY --chown=llmser dags dags
COPY --chown=llmser plugins plugins
RUN uv pip install --no-deps --no-build-isolation -e .

VOLUME /data
CMD ["llmser", "--help"]
