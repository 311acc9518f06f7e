# Sluice in a container: built from source in one stage, only the binary and its libraries in the other.
#   docker build -t sluice . && docker run -p 8080:8080 -v sluice:/data -e DB_URL=mysql://... sluice
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY infra/packages.txt infra/packages.txt
COPY infra/scripts/dependencies.sh infra/scripts/dependencies.sh
RUN infra/scripts/dependencies.sh build
COPY . .
RUN make -j"$(nproc)" CONFIG=release all && install -s -D build/release/sluice /out/sluice

FROM debian:bookworm-slim
COPY infra/packages.txt /usr/local/lib/sluice/infra/packages.txt
COPY infra/scripts/dependencies.sh infra/scripts/probe.sh /usr/local/lib/sluice/infra/scripts/
RUN /usr/local/lib/sluice/infra/scripts/dependencies.sh container \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 sluice \
    && useradd --system --uid 10001 --gid sluice --no-create-home --home-dir /data sluice \
    && install -d -o sluice -g sluice -m 750 /data
COPY --from=build /out/sluice /usr/local/bin/sluice
# A library that is missing shows here, not in front of the users.
RUN sluice --version
USER sluice
WORKDIR /data
VOLUME /data
ENV HTTP_HOST=0.0.0.0 HTTP_PORT=8080 WAL_DIR=/data/wal
EXPOSE 8080
STOPSIGNAL SIGTERM
# Ready means: the log takes writes. A database that is away is no reason to restart a server that acks.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/lib/sluice/infra/scripts/probe.sh"]
ENTRYPOINT ["sluice"]
CMD ["serve"]
