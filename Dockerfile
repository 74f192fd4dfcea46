# The images: the service, alone on an empty root; nginx with the configuration of nginx/ over the files that the service publishes;
# and the system test. Each runs as a user without rights, on a root that can be read-only. docker-compose.yml runs them together,
# deploy/helm/statuslist in Kubernetes.
#
#   docker build --target statuslist -t statuslist .
#   docker build --target nginx -t statuslist-nginx .
#   docker build --target system-test -t statuslist-system-test .

# The base images, each named once. A tag moves with every update of the image: for builds that can be repeated, pin them by digest,
# here or by `--build-arg RUST=docker.io/library/rust:1-bookworm@sha256:…`. The digest of a tag:
#   docker buildx imagetools inspect docker.io/library/rust:1-bookworm --format '{{.Manifest.Digest}}'
# No digest is written here because none could be verified where this file was made, and because a pinned image gets no
# security updates until somebody pins the next one.
ARG RUST=docker.io/library/rust:1-bookworm
ARG DEBIAN=docker.io/library/debian:bookworm-slim
# Where the program comes from: the stage `build`, or an image that has it at /src/target/release/statuslist.
ARG PROGRAM=build
# What the labels say: scripts/release passes the commit.
ARG VERSION=0.1.0
ARG REVISION=unknown

FROM $RUST AS build
WORKDIR /src
# Dependencies first: they change rarely, and take most of the time. An empty program needs them all.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY client/Cargo.toml client/
# For builds without a network, with the registry's folder mounted: true.
ARG CARGO_NET_OFFLINE=false
RUN mkdir -p src client/src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs client/src/lib.rs \
 && cargo build --release --locked --bin statuslist \
 && rm -r src client/src target/release/statuslist target/release/deps/*statuslist[-_]*
COPY config config
COPY public public
COPY client client
COPY src src
RUN touch src/main.rs src/lib.rs client/src/lib.rs && cargo build --release --locked --bin statuslist


FROM $PROGRAM AS program


# What the program needs: the four libraries of glibc that it is linked with (Debian's, so that names are resolved as usual), the
# certificate authorities (for buckets, Redis over TLS and `statuslist check`), its user, and folders that belong to it.
FROM $DEBIAN AS root
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates
COPY --from=program /src/target/release/statuslist /image/usr/bin/statuslist
# The folders of the volumes belong to the user, so that new volumes do.
RUN cd /image \
 && ldd usr/bin/statuslist | grep -o '/[^ ]*' | while read -r library; do install -D -m 755 "$library" ".$library"; done \
 && install -D -m 644 /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ca-certificates.crt \
 && echo 'statuslist:x:10001:10001::/var/lib/statuslist:/usr/sbin/nologin' > etc/passwd && echo 'statuslist:x:10001:' > etc/group \
 && install -d -m 1777 tmp \
 && install -d -o 10001 -g 10001 var/lib/statuslist var/lib/statuslist/public/lists \
 && install -d -o 10001 -g 10001 -m 700 var/lib/statuslist/data var/lib/statuslist/keys


FROM scratch AS statuslist
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title=statuslist \
      org.opencontainers.image.description="A Status Issuer for the IETF Token Status List" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
COPY --from=root /image /
USER 10001:10001
WORKDIR /var/lib/statuslist
# Only what every container needs; the rest is in docker-compose.yml.
ENV PATH=/usr/bin \
    STATUSLIST__SERVER__LISTEN=0.0.0.0:8090 \
    STATUSLIST__LOG__FORMAT=json
EXPOSE 8090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["statuslist", "healthcheck"]
# PID 1 handles SIGTERM itself: it completes running requests and gives leased indices back.
ENTRYPOINT ["statuslist"]
CMD ["serve"]


# An issuer and a Relying Party, for `docker compose --profile system-test` and `helm test`.
FROM $DEBIAN AS system-test
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/*
COPY --from=program /src/target/release/statuslist /usr/bin/statuslist
COPY deploy/system-test/system-test /usr/bin/system-test
USER 10001:10001
CMD ["system-test"]


FROM $DEBIAN AS nginx
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title=statuslist-nginx \
      org.opencontainers.image.description="nginx for the lists and the write API of statuslist" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION
# Debian's nginx: the version that the tests run with, and its security updates.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/*
COPY nginx /etc/statuslist/nginx
# A new volume takes its owner from the first image that mounts it, which may be this one: so the folder belongs to the
# service's user.
# The changes that a container needs: the service has a name, logs go to the container's output, and the write API must be
# reachable from outside the container. docker-compose.yml publishes it on the loopback only.
RUN cd /etc/statuslist/nginx/conf.d && sed -i \
      -e 's|server 127.0.0.1:8090;|server statuslist:8090;|' \
      -e 's|listen 127.0.0.1:8091;|listen 8091;|' \
      -e 's|/var/log/nginx/status_lists.log|/dev/stdout|' \
      -e 's|/var/log/nginx/status_lists_api.log|/dev/stdout|' status_lists.conf \
 && test "$(grep -c -e 'server statuslist:8090;' -e 'listen 8091;' -e 'access_log /dev/stdout' status_lists.conf)" = 4 \
 && install -d -o 10001 -g 10001 /var/lib/statuslist/public/lists
# The explorer page is served from the image, the lists from the volume.
COPY public /var/lib/statuslist/public
USER www-data:www-data
EXPOSE 8080 8091
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080"]
STOPSIGNAL SIGQUIT
# Everything else that nginx writes goes to /tmp/, which can be a file system in memory.
CMD ["nginx", "-p", "/tmp/", "-c", "/etc/statuslist/nginx/nginx.conf", "-g", "daemon off;"]
