# The gate alone, for `freshgate serve`. A Streamlit app that freshgate starts itself is better off in an image of its own
# with Python in it: docs/installing.md.
FROM rust:1.90-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY crates crates
# No part of the program, but of the workspace that the lock file is about.
COPY examples/axum examples/axum
COPY fuzz fuzz
COPY python/src python/src
RUN cargo build --locked --release --package freshgate-gateway \
    && install -D target/release/freshgate /image/bin/freshgate \
    && install -d --mode=0700 /image/state

FROM debian:bookworm-slim
# Which providers' certificates are trusted.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/bin/freshgate /usr/local/bin/freshgate
COPY --from=build --chown=65532:65532 /image/state /var/lib/freshgate
# A number, so that whoever runs the image can see that it is not root's.
USER 65532:65532
WORKDIR /var/lib/freshgate
VOLUME /var/lib/freshgate
# The operators' listener is for the health check. To have metrics scraped, set it to 0.0.0.0:9501.
ENV FRESHGATE_CONFIG=/etc/freshgate/freshgate.toml \
    FRESHGATE_LISTEN=0.0.0.0:8501 \
    FRESHGATE_OPERATOR_LISTEN=127.0.0.1:9501 \
    FRESHGATE_STORE=sqlite:/var/lib/freshgate/sessions.db
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s CMD ["/usr/local/bin/freshgate", "health"]
ENTRYPOINT ["/usr/local/bin/freshgate"]
CMD ["serve"]
