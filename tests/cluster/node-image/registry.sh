#!/usr/bin/env bash
# Runs a registry beside a kind cluster until it is interrupted: what is pushed here to
# localhost:5001 its nodes pull by the same name, as kind's documentation recommends it. With it
# the tests can take a kind cluster for somebody's, of which they have only a kubeconfig.
#
#   registry.sh CLUSTER    needs docker and docker-registry (Debian's package of that name)
set -euo pipefail
port=5001
name=${1:?usage: registry.sh CLUSTER}
command -v docker-registry >/dev/null || { echo "registry.sh: install docker-registry" >&2; exit 1; }
gateway=$(docker network inspect kind -f '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' | grep -m1 -F .)
folder=$(mktemp -d)

# one storage behind two addresses: this machine's own, to which docker pushes without TLS, and
# the one at which the nodes see this machine; it listens nowhere else
serve() {
  REGISTRY_HTTP_ADDR=$1:$port REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$folder/images \
    exec docker-registry serve "$folder/config.yml" >>"$folder/log" 2>&1
}

cat >"$folder/config.yml" <<'YAML'
version: 0.1
log: {accesslog: {disabled: true}, level: warn}
storage: {filesystem: {}}
http: {}
YAML
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
trap exit INT TERM
for node in $(docker ps -q --filter "label=io.x-k8s.kind.cluster=$name"); do
  docker exec -i "$node" sh -c "mkdir -p /etc/containerd/certs.d/localhost:$port &&
    cat >/etc/containerd/certs.d/localhost:$port/hosts.toml" <<<"[host.\"http://$gateway:$port\"]"
done
serve 127.0.0.1 &
serve "$gateway" &
echo "export MODELSEAL_TEST_REGISTRY=localhost:$port"
wait -n || { cat "$folder/log" >&2; exit 1; }
