# syntax=docker/dockerfile:1
# Two images from one file; each copies pyproject.toml and the folders that it runs.
#   docker build --target operator -t modeldeploy/operator .
#   docker build --target server   -t modeldeploy/server   .
#   docker build --target server --build-arg MORE=server-torch -t modeldeploy/server:torch .
#   docker build --target server --build-arg EXTRAS=server,server-onnx -t modeldeploy/server:onnx .
# The tag says what it is, the digest which one: Dependabot and `make pin` renew it. A mirror of yours takes its place by
# `--build-context base=docker-image://MIRROR/python:3.12-slim@sha256:...`.
FROM python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea AS base

# --- build: a virtual environment that is copied whole -------------------------------------------
# What is installed has the hash in constraints.txt; only wheels are, since building one runs its code.
FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all: PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY .ci/pins .ci/pins
RUN python -m venv /opt/modeldeploy \
 && python .ci/pins build > build.txt \
 && python -m pip install --require-hashes --no-deps -r build.txt

FROM build AS build-operator
COPY operator operator
# The dashboard of the chart is the command line, in the same image.
COPY cli cli
COPY crds crds
RUN python .ci/pins operator,dashboard > requirements.txt \
 && /opt/modeldeploy/bin/pip install --require-hashes --no-deps -r requirements.txt \
 && python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/modeldeploy/bin/pip install --no-deps dist/*.whl \
 && /opt/modeldeploy/bin/pip uninstall --yes pip

FROM build AS build-server
# What models of tables need, and what `spec.server` can switch on. PyTorch and Keras are larger than the rest together.
ARG EXTRAS=server,server-sklearn,server-pandas,server-skops,server-xgboost,server-lightgbm,server-onnx,server-accelerate,server-fairness,server-scan,server-grpc,server-otel,server-parquet,server-stream-nats,server-stream-redis,server-stream-rabbitmq,server-stream-kafka,signing
ARG MORE=
COPY server_image server_image
# pip stays, for `installRequirements`.
RUN python .ci/pins "${EXTRAS}${MORE:+,${MORE}}" > requirements.txt \
 && /opt/modeldeploy/bin/pip install --require-hashes --no-deps -r requirements.txt \
 && python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/modeldeploy/bin/pip install --no-deps dist/*.whl

# --- run: no compiler, no pip cache, no root -----------------------------------------------------
# The root file system may be read-only: nothing is written outside /tmp and the mounted volumes.
FROM base AS run
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="modeldeploy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 65532 nonroot \
 && useradd --uid 65532 --gid 65532 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin nonroot \
 && python -m pip uninstall --yes pip
ENV PATH=/opt/modeldeploy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /tmp
USER 65532:65532

FROM run AS operator
LABEL org.opencontainers.image.description="The modeldeploy operator"
COPY --from=build-operator /opt/modeldeploy /opt/modeldeploy
ENTRYPOINT ["python", "-m", "model_operator"]

FROM run AS server
LABEL org.opencontainers.image.description="The modeldeploy model server"
COPY --from=build-server /opt/modeldeploy /opt/modeldeploy
# OpenMP, which LightGBM's wheel does not bring.
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python", "-m", "model_server"]
