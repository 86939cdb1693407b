# gliorun alone: no TensorFlow, no network, no root; writes to /tmp, its caches and your outputs.
# docker run --rm --network none --read-only --cap-drop all --memory 2g --tmpfs /tmp \
#     --user "$(id -u):$(id -g)" -v "$PWD:/data" gliorun slide.svs --out heatmap.png
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY runtime runtime
RUN python -m venv /opt/gliorun \
    && /opt/gliorun/bin/pip install --no-cache-dir . \
    && /opt/gliorun/bin/pip uninstall --yes openvino-telemetry setuptools pip \
    && rm /opt/gliorun/bin/glioexport /opt/gliorun/bin/gliobench
# Left out: OpenVINO's other devices and model formats, codecs but JPEG, scripts but the report's, tests
WORKDIR /opt/gliorun/lib
RUN rm -r python3*/site-packages/openvino/libs/libopenvino_intel_[gn]pu_plugin.so \
        python3*/site-packages/openvino/libs/cache.json \
        python3*/site-packages/openvino/include \
    && find . -path '*/openvino/libs/*_frontend.so*' ! -name 'libopenvino_ir_*' -delete \
    && find . -path '*/imagecodecs/_*.so' \
        ! -name '_jpeg8.*' ! -name '_shared*' ! -name '_imcd.*' -delete \
    && find . -path '*/imagecodecs.libs/*' ! -name 'libjpeg*' -delete \
    && find . -path '*/bokeh/server/static/js/*' -type f \
        ! -name bokeh.min.js ! -name bokeh-widgets.min.js -delete \
    && find . -type d -name tests -prune -exec rm -r {} +

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="gliorun" \
      org.opencontainers.image.description="Nucleus density of brain glioma, over whole slides. Research use only." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/gliorun /opt/gliorun
# One cache for any processor and any user; a volume, so that it can be written on a read-only root
ENV PATH=/opt/gliorun/bin:$PATH \
    XDG_CACHE_HOME=/var/cache/gliorun \
    NUMBA_CACHE_DIR=/var/cache/gliorun/numba \
    NUMBA_CPU_NAME=generic \
    MPLCONFIGDIR=/var/cache/gliorun/matplotlib
RUN useradd --uid 10001 --no-create-home gliorun \
    && mkdir /data \
    && gliorun --demo --quiet --out /tmp/a.png --out /tmp/a.html \
        --out /tmp/a.nuclei.geojson --out /tmp/a.mask.ome.tif \
    && rm /tmp/a.* \
    && chmod -R a+rwX /var/cache/gliorun
VOLUME /var/cache/gliorun
USER 10001
WORKDIR /data
HEALTHCHECK --interval=1h --timeout=5m \
    CMD ["gliorun", "--demo", "--quiet", "--out", "/tmp/health.csv"]
ENTRYPOINT ["gliorun"]
