# One image for every service. The plain torch wheel brings CUDA and runs without a GPU as well.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
FROM ${PYTHON_IMAGE}

RUN useradd --create-home --uid 50000 llmser && install -d -o llmser /opt/llmser /data
WORKDIR /opt/llmser
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONUTF8=1 \
    PATH=/opt/llmser/.venv/bin:$PATH HF_HUB_OFFLINE=1

COPY --chown=llmser requirements.lock torch.lock torch-cuda.lock ./
USER llmser
RUN python -m venv .venv \
    && pip install --no-deps --require-hashes -r torch.lock \
    && uv pip install --no-deps --require-hashes -r torch-cuda.lock -r requirements.lock

COPY --chown=llmser pyproject.toml README.md LICENSE NOTICE ./
COPY --chown=llmser llmser_tasks llmser_tasks
COPY --chown=llmser sql sql
COPY --chown=llmser dags dags
COPY --chown=llmser plugins plugins
RUN uv pip install --no-deps --no-build-isolation -e .

VOLUME /data
CMD ["llmser", "--help"]
