#!/usr/bin/env bash
# Builds a kind node image where none can be pulled, from Debian packages and the Go modules of
# binaries.sh. Its name ends in a hash of both scripts; an image that exists is not built again.
#
#   image.sh           builds it and prints its name; as root, with docker and debootstrap
#   image.sh --name    prints the name and builds nothing
#
# It differs from kind's own image in what an offline machine with cgroup v1 needs: containerd's
# template for one node's pod network instead of kindnetd, kube-router for NetworkPolicy, the
# in-tree host-path provisioner behind the default StorageClass, and a kubelet that accepts v1.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=bookworm # systemd 252 still boots on cgroup v1, trixie's 257 does not
packages=systemd,systemd-sysv,dbus,runc,conntrack,iptables,ipset,nftables,iproute2,ethtool,util-linux,mount,kmod,libseccomp2,pigz,e2fsprogs,bash,ca-certificates,curl,jq,procps

bin=$("$here/binaries.sh" --folder)
hash=$(cat "$here/binaries.sh" "$here/image.sh" | sha256sum | cut -c1-12)
work=${XDG_CACHE_HOME:-$HOME/.cache}/modelseal/cluster/node-$hash

# The Debian userland is that of kind's own Dockerfile, less NFS, iSCSI and fuse-overlayfs, plus runc.
make_rootfs() {
  local cached; cached=$(dirname "$work")/rootfs-$(echo "$suite $packages" | sha256sum | cut -c1-12)
  rootfs=$cached
  [ ! -e "$cached.made" ] || return 0
  rm -rf "$cached"
  debootstrap --variant=minbase --include="$packages" "$suite" "$cached"
  (cd "$cached" && rm -rf var/cache/apt/* var/lib/apt/lists/* var/cache/debconf/* var/log/* usr/share/doc/* \
    usr/share/man/* usr/share/locale/* usr/share/info/* tmp/* var/tmp/* etc/machine-id && : >etc/machine-id)
  touch "$cached.made"
}

# pack NAME ENTRYPOINT: what lies under $work/image becomes the image that kubeadm asks for by NAME.
pack() {
  tar -C "$work/image" -c . | docker import \
    -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    -c "ENTRYPOINT [\"$2\"]" - "$(grep "/$1:" "$work/images")"
  rm -rf "$work/image"
}

# kube-proxy runs iptables and nft: they come out of the rootfs with their libraries.
pack_kube_proxy() {
  local image=$work/image name suffix
  install -D "$bin/kube-proxy" "$image/usr/local/bin/kube-proxy"
  mkdir -p "$image"/usr/{sbin,lib/x86_64-linux-gnu,lib64} "$image"/{run,tmp,etc}
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$image/$name"; done
  cp -a "$rootfs"/usr/sbin/{xtables-nft-multi,nft} "$image/usr/sbin/"
  for name in iptables ip6tables; do
    for suffix in '' -save -restore; do ln -s xtables-nft-multi "$image/usr/sbin/$name$suffix"; done
  done
  cp -a "$rootfs/usr/lib/x86_64-linux-gnu/xtables" "$image/usr/lib/x86_64-linux-gnu/"
  chroot "$rootfs" sh -c 'ldd /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/lib/x86_64-linux-gnu/xtables/*.so' |
    grep -oE '/lib[^ :]+' | grep -v /xtables/ | sort -u |
    (cd "$rootfs" && while read -r name; do cp -L --parents ".$name" "$image/"; done)
  pack kube-proxy /usr/local/bin/kube-proxy
}

make_control_plane() {
  local name
  "$bin/kubeadm" config images list --kubernetes-version "$("$bin/kubeadm" version -o short)" >"$work/images"
  for name in kube-apiserver kube-controller-manager kube-scheduler etcd; do
    install -D "$bin/$name" "$work/image/usr/local/bin/$name"
    pack $name /usr/local/bin/$name
  done
  install -D "$bin/coredns" "$work/image/coredns"
  pack coredns /coredns
  install -D "$bin/pause" "$work/image/pause"
  pack pause /pause
  pack_kube_proxy
  # shellcheck disable=SC2046 # one word for each image
  docker save $(cat "$work/images") -o "$work/control-plane.tar"
}

# As in kind's own Dockerfile: its files, and systemd without what a container has no use for.
add_kinds_files() {
  cp -r --no-preserve=mode,ownership "$bin/kind-files/." "$node/"
  chmod 755 "$node"/kind/bin/* "$node"/usr/local/bin/* "$node"/kind "$node"/kind/bin
  rm -f "$node/etc/systemd/system/containerd-fuse-overlayfs.service" "$node/usr/local/bin/clean-install" \
    "$node"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
    "$node"/lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* "$node"/etc/systemd/system/*.wants/* \
    "$node"/lib/systemd/system/sockets.target.wants/*{udev,initctl}*
  echo ReadKMsg=no >>"$node/etc/systemd/journald.conf"
}

add_binaries() {
  mkdir -p "$node"/etc/kubernetes/manifests "$node"/opt/cni/bin "$node"/etc/cni/net.d "$node"/usr/local/sbin
  install "$bin"/{containerd,ctr,containerd-shim-runc-v2,crictl,kube-router} "$node/usr/local/bin/"
  install "$bin"/{kubelet,kubeadm,kubectl} "$node/usr/bin/"
  install "$bin"/cni/* "$node/opt/cni/bin/"
  if [ -e "$bin/runc" ]; then install "$bin/runc" "$node/usr/local/sbin/runc"
  else ln -sf /usr/sbin/runc "$node/usr/local/sbin/runc"; fi
  chroot "$node" /usr/local/sbin/runc --version
  "$bin/kubeadm" version -o short | tr -d '\n' >"$node/kind/version"
}

add_network() {
  # containerd renders the pod network's configuration from the node's podCIDR; one node only
  printf '\n[plugins."io.containerd.grpc.v1.cri".cni]\n  conf_template = "/etc/cni/kind-local.conflist.tmpl"\n' >>"$node/etc/containerd/config.toml"
  cat >"$node/etc/cni/kind-local.conflist.tmpl" <<'JSON'
{"cniVersion": "1.0.0", "name": "kind-local", "plugins": [
  {"type": "ptp", "ipMasq": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "{{.PodCIDR}}"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  # kube-router's firewall needs iptables and ipset only; kindnetd's needs nft_queue in the kernel
  cat >"$node/etc/systemd/system/kube-router.service" <<'UNIT'
[Unit]
Description=NetworkPolicy enforcement (kube-router, firewall only)
After=kubelet.service
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/sh -c 'exec /usr/local/bin/kube-router --kubeconfig=/etc/kubernetes/admin.conf --hostname-override=%H --run-router=false --run-service-proxy=false --run-firewall=true --service-cluster-ip-range=$(sed -n "s/.*--service-cluster-ip-range=//p" /etc/kubernetes/manifests/kube-apiserver.yaml)'
Restart=always
RestartSec=2
UNIT
  cat >"$node/etc/systemd/system/kube-router.path" <<'UNIT'
[Path]
PathExists=/etc/kubernetes/manifests/kube-apiserver.yaml

[Install]
WantedBy=multi-user.target
UNIT
}

# kind applies these two files when it creates a cluster.
add_manifests() {
  mkdir -p "$node/kind/manifests"
  cat >"$node/kind/manifests/default-cni.yaml" <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: kind-local-cni, namespace: kube-system}
data: {note: "the pod network comes from containerd's conf_template (ptp, one node)"}
YAML
  cat >"$node/kind/manifests/default-storage.yaml" <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/host-path
YAML
}

configure() {
  local config=$node/etc/containerd/config.toml
  sed -i "s#sandbox_image = .*#sandbox_image = \"$(grep /pause: "$work/images")\"#" "$config"
  sed -i '/fuse-overlayfs/,+3{/fuse-overlayfs/d;/type = "snapshot"/d;/address = /d}; /^\[proxy_plugins\]/d' "$config"
  # without CAP_SYS_RESOURCE nobody may lower oom_score_adj, so containerd must not try to
  sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$config"
  sed -i 's/$/ --fail-cgroupv1=false/' "$node/etc/default/kubelet"
  # every container gets kind's product-file hook, as in kind's Dockerfile
  "$bin/ctr" oci spec |
    jq '.hooks.createContainer[.hooks.createContainer|length] |= . + {"path": "/kind/bin/mount-product-files.sh"} | del(.process.rlimits)' \
      >"$node/etc/containerd/cri-base.json"
}

make_base() {
  node=$work/node
  rm -rf "$node"
  cp -a "$rootfs" "$node"
  add_kinds_files
  add_binaries
  add_manifests
  configure
  add_network # at the end of containerd's configuration
  chroot "$node" systemctl enable kubelet.service containerd.service undo-mount-hacks.service kube-router.path
  chroot "$node" systemctl mask systemd-binfmt.service
  tar -C "$node" -c . | docker import - "$name-import"
  # `docker import` takes no STOPSIGNAL, a Dockerfile does
  printf '%s\n' "FROM $name-import" 'ENV container=docker' 'STOPSIGNAL SIGRTMIN+3' \
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' | DOCKER_BUILDKIT=0 docker build -t "$name-base" -
  docker rmi --no-prune "$name-import"
  rm -rf "$node"
}

# The control plane's images are loaded into containerd's store the way kind itself does it.
preload() {
  local container=modelseal-node-build-$$
  docker run -d --name $container --entrypoint sleep --security-opt seccomp=unconfined --network none "$name-base" infinity
  # shellcheck disable=SC2064 # the name of now
  trap "docker rm -f -v $container" EXIT
  docker exec -d $container containerd
  for _ in $(seq 50); do ! docker exec $container ctr version >/dev/null 2>&1 || break; sleep .2; done
  docker exec -i $container ctr -n k8s.io images import --label=io.cri-containerd.pinned=pinned \
    --all-platforms --no-unpack --digests - <"$work/control-plane.tar"
  docker exec $container ctr -n k8s.io images ls -q
  docker exec $container sh -c 'kill $(cat /proc/[0-9]*/stat | awk "\$2==\"(containerd)\"{print \$1}"); sleep 1; rm -rf /run/containerd /tmp/* /var/log/*'
  docker commit -c 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' $container "$name"
}

build() {
  make_rootfs
  make_control_plane
  make_base
  preload
}

version=$(sed -n 's/^KUBERNETES=\([0-9.]*\).*/\1/p' "$here/binaries.sh")
name=modelseal-local/node:v$version-$hash
if [ "${1:-}" = --name ]; then echo "$name"; exit; fi
"$here/binaries.sh" kubernetes etcd kind containerd runc cni crictl coredns kube_router pause
mkdir -p "$work"
exec 8>"$work/lock"
flock 8
if ! docker image inspect "$name" >/dev/null 2>&1; then
  set +e # `build || ...` in one line would switch errexit off inside the function
  (set -e; build) >"$work/log" 2>&1
  failed=$?
  set -e
  if [ $failed != 0 ]; then
    tail -20 "$work/log" >&2
    echo "image: failed to build the node image (all of it in $work/log)" >&2
    exit 1
  fi
fi
echo "$name"
