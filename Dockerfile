# gliorun alone: no TensorFlow, no network needed at run time.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY runtime runtime
COPY export export
COPY bench bench
RUN python -m venv /opt/gliorun && /opt/gliorun/bin/pip install --no-cache-dir .

FROM ${BASE_IMAGE}
COPY --from=build /opt/gliorun /opt/gliorun
ENV PATH=/opt/gliorun/bin:$PATH \
    NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home --uid 10001 gliorun
USER gliorun
WORKDIR /home/gliorun
ENTRYPOINT ["gliorun"]
