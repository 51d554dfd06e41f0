# The sidecar: `stopper serve`, and the other commands that need no engine.
#
#   docker build --file deploy/docker/sidecar.Dockerfile --tag stopper:0.1.0 .
#
# EXTRAS="serve,otel" adds OpenTelemetry; EXTRAS="serve,rag" adds torch, for --context.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY probes probes
COPY calibration calibration
COPY stopper stopper
COPY adapters adapters
RUN python -m pip wheel --no-deps --wheel-dir /dist .
ARG EXTRAS=serve
# The file by its name: a name alone would ask the index for another stopper.
RUN python -m venv /opt/stopper \
    && wheel="$(ls /dist/stopper-*.whl)" \
    && /opt/stopper/bin/python -m pip install "${wheel}[${EXTRAS}]" \
    && /opt/stopper/bin/python -m pip uninstall --yes pip

FROM python:${PYTHON}-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stopper sidecar" \
      org.opencontainers.image.description="Stop decisions and an OpenAI-compatible front to vLLM." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/stopper /opt/stopper
COPY deploy/docker/healthcheck.py /opt/stopper/healthcheck.py
# It writes to /tmp only, and there only with several workers; give it a tmpfs and a read-only root.
# It refuses to listen on all addresses without keys (STOPPER_KEYS_FILE) or STOPPER_ALLOW_OPEN=true.
ENV PATH=/opt/stopper/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    STOPPER_HOST=0.0.0.0 \
    STOPPER_PORT=8080
WORKDIR /
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/stopper/healthcheck.py", "/livez"]
ENTRYPOINT ["stopper"]
CMD ["serve"]
