#!/usr/bin/env bash
# Builds the programs of a Kubernetes cluster from Go modules: nothing else can be had where no
# image and no release page can be reached.
#
#   binaries.sh            builds everything
#   binaries.sh NAME...    builds those groups: kubernetes etcd kwok helm helm3 kind containerd ...
#   binaries.sh --folder   prints the folder that they are in, and builds nothing
#
# The folder lies in the user's cache and is named by a hash of this script, which holds the
# versions. A group that was built is not built again; two runs at once wait for each other.
set -euo pipefail

KUBERNETES=1.37.2 ETCD=3.7.3 KWOK=0.8.0 KIND=0.33.0 HELM=4.3.1 HELM3=3.22.0
CONTAINERD=2.4.2 RUNC=1.5.2 CNI=1.9.1 CRICTL=1.36.0 COREDNS=1.14.6
KUBE_ROUTER=2.2.1 # k3s's fork: the original's own path has no late version on the module proxy
ALL="kubernetes etcd kwok helm helm3 kind containerd runc cni crictl coredns kube_router pause"

work=${XDG_CACHE_HOME:-$HOME/.cache}/modelseal/cluster/bin-$(sha256sum <"${BASH_SOURCE[0]}" | cut -c1-12)
bin=$work/bin
export CGO_ENABLED=0 GOFLAGS="-mod=mod -trimpath -buildvcs=false" GOTOOLCHAIN=local

# go_build NAME MODULE VERSION [arguments of go build]: a throw-away main module that requires
# MODULE. `go install` refuses modules with replace lines and those without a list of versions.
go_build() {
  local folder=$work/modules/$1
  mkdir -p "$folder"
  cd "$folder"
  printf 'module local/%s\n\ngo 1.26.0\n\nrequire %s v%s\n%s\n' "$1" "$2" "$3" "${replace:-}" >go.mod
  go build -ldflags "-s -w ${stamp:-}" "${@:4}"
}

build_kubernetes() {
  local package=k8s.io/component-base/version source replace stamp
  source=$(cd / && GOFLAGS='' go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  # in the repository the staging modules are folders; published they are v0.x.y
  replace=$(grep -oE '^\s*k8s.io/[a-z-]+ => ' "$source/go.mod" |
    awk -v version="0.${KUBERNETES#1.}" '{print "replace " $1 " => " $1 " v" version}')
  stamp="-X $package.gitVersion=v$KUBERNETES -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<$KUBERNETES) -X $package.gitTreeState=clean"
  go_build kubernetes k8s.io/kubernetes $KUBERNETES -o "$bin/" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kube-proxy,kubelet,kubeadm,kubectl}
}
build_etcd() { go_build etcd go.etcd.io/etcd/server/v3 $ETCD -o "$bin/etcd" go.etcd.io/etcd/server/v3; }
build_kwok() { # its stage files lie in the module: without them it refuses to start
  go_build kwok sigs.k8s.io/kwok $KWOK -o "$bin/" sigs.k8s.io/kwok/cmd/kwok
  rm -rf "$bin/kwok-stages"
  cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage" "$bin/kwok-stages"
}
build_helm() {
  local stamp="-X helm.sh/helm/v4/internal/version.version=v$HELM"
  go_build helm helm.sh/helm/v4 $HELM -o "$bin/" helm.sh/helm/v4/cmd/helm
}
build_helm3() {
  local stamp="-X helm.sh/helm/v3/internal/version.version=v$HELM3"
  go_build helm3 helm.sh/helm/v3 $HELM3 -o "$bin/helm3" helm.sh/helm/v3/cmd/helm
}
build_kind() { # with the files of its node image, which image.sh needs
  go_build kind sigs.k8s.io/kind $KIND -o "$bin/" sigs.k8s.io/kind
  rm -rf "$bin/kind-files"
  cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' sigs.k8s.io/kind)/images/base/files" "$bin/kind-files"
}
build_containerd() {
  local module=github.com/containerd/containerd/v2
  go_build containerd $module $CONTAINERD -tags 'no_btrfs no_zfs no_aufs no_devmapper' -o "$bin/" \
    $module/cmd/containerd $module/cmd/ctr $module/cmd/containerd-shim-runc-v2
}
build_runc() { # Debian's own does all but hostUsers: false
  pkg-config --exists libseccomp || { echo "no libseccomp-dev: the image keeps Debian's runc"; return; }
  CGO_ENABLED=1 go_build runc github.com/opencontainers/runc $RUNC -tags seccomp -o "$bin/runc" github.com/opencontainers/runc
}
build_cni() {
  local module=github.com/containernetworking/plugins
  mkdir -p "$bin/cni"
  go_build cni $module $CNI -o "$bin/cni/" \
    $module/plugins/{ipam/host-local,main/loopback,main/ptp,meta/portmap}
}
build_crictl() { go_build crictl sigs.k8s.io/cri-tools $CRICTL -o "$bin/" sigs.k8s.io/cri-tools/cmd/crictl; }
build_coredns() { go_build coredns github.com/coredns/coredns $COREDNS -o "$bin/coredns" github.com/coredns/coredns; }
build_kube_router() {
  local module=github.com/cloudnativelabs/kube-router/v2
  local replace="replace $module => github.com/k3s-io/kube-router/v2 v$KUBE_ROUTER"
  go_build kube-router $module $KUBE_ROUTER -o "$bin/kube-router" $module/cmd/kube-router
}
build_pause() { # holds a pod's namespaces and, as pid 1, reaps orphans
  mkdir -p "$work/modules/pause"
  cd "$work/modules/pause"
  printf 'module local/pause\n\ngo 1.26.0\n' >go.mod
  cat >main.go <<'GO'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for each := range signals {
		if each != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
GO
  go build -ldflags '-s -w' -o "$bin/pause" .
}

# group NAME: build one group unless it is there; the log is shown when it fails.
# (`build || ...` in one line would switch errexit off inside the function.)
group() {
  [ ! -e "$work/$1.built" ] || return 0
  local before=$SECONDS failed
  set +e
  (set -e; "build_$1") >"$work/$1.log" 2>&1
  failed=$?
  set -e
  if [ $failed != 0 ]; then
    tail -20 "$work/$1.log" >&2
    echo "binaries: failed to build $1 (all of it in $work/$1.log)" >&2
    exit 1
  fi
  echo $((SECONDS - before)) >"$work/$1.built"
  echo "binaries: built $1 in $((SECONDS - before)) s" >&2
}

if [ "${1:-}" = --folder ]; then echo "$bin"; exit; fi
command -v go >/dev/null || { echo "binaries: Go 1.26 or newer is needed to build a cluster's programs" >&2; exit 1; }
mkdir -p "$bin"
exec 9>"$work/lock"
for name in ${*:-$ALL}; do
  flock 9 # for each group: who needs one only need not wait for the others
  group "$name"
  flock -u 9
done
