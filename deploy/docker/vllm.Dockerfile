# vLLM's own image with the plugin in it; nothing that vLLM brings along is changed.
#
#   docker build --file deploy/docker/vllm.Dockerfile --tag stopper-vllm:0.1.0 .
#
# On CPUs: --build-arg VLLM_IMAGE=vllm/vllm-openai-cpu:v0.32.0-x86_64 --build-arg RUN_AS=0:0
# (that image has no other user than root).

ARG PYTHON=3.12
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY probes probes
COPY calibration calibration
COPY stopper stopper
COPY adapters adapters
RUN python -m pip wheel --no-deps --wheel-dir /dist .

FROM ${VLLM_IMAGE}
USER 0:0
# Every version that is there is a constraint: what would move torch or vLLM fails here.
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    python3 -m pip list --format=freeze > /tmp/installed.txt \
    && wheel="$(ls /dist/stopper-*.whl)" \
    && python3 -m pip install --no-cache-dir --constraint /tmp/installed.txt "${wheel}[vllm]" \
    && rm /tmp/installed.txt
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vLLM with stopper" \
      org.opencontainers.image.description="vLLM's image and the stopper plugin." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# An allowlist: name other plugins here as well. It also opens GET /stopper/decisions.
ENV VLLM_PLUGINS=stopper
# The user `vllm` of vLLM's GPU image; its caches lie in /home/vllm.
ARG RUN_AS=2000:0
USER ${RUN_AS}
EXPOSE 8000
# The entry point is the image's own: `vllm serve`.
