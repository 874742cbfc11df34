# The images of Sapex. `make images` builds them from source, or from programs that are already built.

# The base images. They are pinned only here; .devcontainer/Dockerfile repeats BASE_BUILD. If no registry can be
# reached, deploy/bases.sh makes replacements from Debian packages.
ARG BASE_BUILD=rust:1-bookworm
ARG BASE_RUN=gcr.io/distroless/cc-debian12:nonroot
ARG BASE_PROMETHEUS=prom/prometheus:v3.5.0
# The stage that provides the programs: "built", or "prebuilt", whose build context is a folder that deploy/stage.sh
# wrote.
ARG PROGRAMS=built

FROM ${BASE_BUILD} AS source
# xtask fetches libraries from PyPI with pip. Its version is not pinned, because it depends on the base image.
# hadolint ignore=DL3008
RUN command -v pip3 >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*; }
WORKDIR /src
COPY . .
ARG REVISION=
ENV SAPEX_COMMIT=${REVISION} CARGO_INCREMENTAL=0

# The caches keep the crates and the build outputs, so that only changed crates are built again.
FROM source AS built
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
	cargo xtask mujoco \
	&& cargo build --release --locked -p cluster -p learner -p actor-node -p replay-server --features cluster/mujoco,actor-node/mujoco,cluster/formats,learner/minari \
	&& deploy/stage.sh target/release /out sapex learner actor-node replay-server

FROM source AS built-cuda
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
	cargo xtask libtorch --cuda \
	&& mv .libtorch-cuda /opt/libtorch-cuda
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
	LIBTORCH=/opt/libtorch-cuda cargo build --release --locked -p learner --features learner/torch,learner/minari \
	&& deploy/stage.sh target/release /out learner-cuda

FROM scratch AS prebuilt
COPY . /out

FROM prebuilt AS prebuilt-cuda

FROM ${PROGRAMS} AS programs

FROM ${PROGRAMS}-cuda AS programs-cuda

# Debug information of the programs, for `docker build --target debug --output FOLDER`.
FROM scratch AS debug
COPY --from=programs /out/debug /

FROM scratch AS empty
WORKDIR /empty

FROM ${BASE_RUN} AS base
# A new volume gets the owner of the folder that it is mounted on.
COPY --from=empty --chown=65532:65532 /empty /runs
COPY --from=empty --chown=65532:65532 /empty /etc/sapex/tls
# Address of the admin port, for the program and for its health check.
ENV SAPEX__TELEMETRY__ADMIN=0.0.0.0:9100 TMPDIR=/tmp
USER 65532:65532
WORKDIR /tmp
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.vendor="Sapex" \
	org.opencontainers.image.licenses="MIT OR Apache-2.0" \
	org.opencontainers.image.version="${VERSION}" \
	org.opencontainers.image.revision="${REVISION}"

FROM base AS sapex
LABEL org.opencontainers.image.title="sapex" \
	org.opencontainers.image.description="Train in one process; evaluate, report, export; certificates and shapes for clusters"
ENV SAPEX_MUJOCO_MODELS=/usr/share/sapex/mujoco
# A new volume gets the owner of the folder that it is mounted on.
COPY --from=empty --chown=65532:65532 /empty /certs
COPY --from=empty --chown=65532:65532 /empty /certs/learner
COPY --from=empty --chown=65532:65532 /empty /certs/replay-server
COPY --from=empty --chown=65532:65532 /empty /certs/actor-node
COPY --from=programs /out/sapex /
ENTRYPOINT ["/usr/local/bin/sapex"]

FROM base AS learner
LABEL org.opencontainers.image.title="learner" \
	org.opencontainers.image.description="Updates the networks of a Sapex run on processors, and publishes weights"
EXPOSE 5600 9100
HEALTHCHECK --interval=5s --timeout=20s --start-period=60s CMD ["/usr/local/bin/learner", "health"]
COPY --from=programs /out/learner /
ENTRYPOINT ["/usr/local/bin/learner"]

FROM base AS learner-cuda
LABEL org.opencontainers.image.title="learner-cuda" \
	org.opencontainers.image.description="Updates the networks of a Sapex run on an NVIDIA GPU, and publishes weights"
ENV LD_LIBRARY_PATH=/opt/libtorch-cuda/torch/lib NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 5600 9100
HEALTHCHECK --interval=5s --timeout=20s --start-period=60s CMD ["/usr/local/bin/learner", "health"]
COPY --from=programs-cuda /out/learner-cuda /
ENTRYPOINT ["/usr/local/bin/learner"]

FROM base AS actor-node
LABEL org.opencontainers.image.title="actor-node" \
	org.opencontainers.image.description="Steps environments for a Sapex run, MuJoCo's among them, or evaluates its policy"
ENV SAPEX_MUJOCO_MODELS=/usr/share/sapex/mujoco
EXPOSE 9100
HEALTHCHECK --interval=5s --timeout=20s --start-period=60s CMD ["/usr/local/bin/actor-node", "health"]
COPY --from=programs /out/actor-node /
ENTRYPOINT ["/usr/local/bin/actor-node"]

FROM base AS replay-server
LABEL org.opencontainers.image.title="replay-server" \
	org.opencontainers.image.description="Keeps and samples the rows of a Sapex run"
EXPOSE 5601 9100
HEALTHCHECK --interval=5s --timeout=20s --start-period=60s CMD ["/usr/local/bin/replay-server", "health"]
COPY --from=programs /out/replay-server /
ENTRYPOINT ["/usr/local/bin/replay-server"]

# Prometheus for docker-compose.yml. Name and user are the same for every base image.
FROM ${BASE_PROMETHEUS} AS prometheus
COPY --from=empty --chown=65532:65532 /empty /prometheus
USER 65532:65532
EXPOSE 9090
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
