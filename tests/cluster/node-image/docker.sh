#!/usr/bin/env bash
# Prepares a Debian or Ubuntu machine for the kind tests, as root: packages, and a running dockerd.
# Other machines need docker (or an engine that answers as it) and nothing of this.
#
#   docker.sh            installs what is missing and starts dockerd where none answers
set -euo pipefail

install_packages() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  pkg-config --exists libseccomp 2>/dev/null || missing+=(libseccomp-dev)
  command -v iptables >/dev/null || missing+=(iptables)
  [ ${#missing[@]} != 0 ] || return 0
  echo "docker.sh: installing ${missing[*]}" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# kind runs its nodes privileged, that is with every capability. Where root itself lacks one
# (CAP_SYS_RESOURCE, bit 24, in some virtual machines) runc answers "unable to apply caps", so
# dockerd gets a runtime that asks for that one capability less.
bound_runtime() {
  local bounding
  bounding=$((16#$(awk '/CapBnd/{print $2}' /proc/self/status)))
  ((bounding >> 24 & 1)) && return 0
  cat >/usr/local/sbin/runc-bounded <<'SH'
#!/bin/sh
# runc, asked for every capability but CAP_SYS_RESOURCE, which this machine's root does not have
file= command= before=
for word; do
  case $before in --bundle|-b) file=$word/config.json ;; --process|-p) file=$word ;; esac
  case $word in
    create|run|exec) command=${command:-$word} ;;
    --bundle=*) file=${word#*=}/config.json ;;
    --process=*) file=${word#*=} ;;
  esac
  before=$word
done
[ -z "$command" ] || [ ! -f "$file" ] || sed -i 's/"CAP_SYS_RESOURCE",\{0,1\}//g; s/,\]/]/g' "$file"
exec /usr/sbin/runc "$@"
SH
  chmod 755 /usr/local/sbin/runc-bounded
  mkdir -p /etc/docker
  [ -s /etc/docker/daemon.json ] ||
    echo '{"runtimes": {"bounded": {"path": "/usr/local/sbin/runc-bounded"}}, "default-runtime": "bounded"}' >/etc/docker/daemon.json
}

start_dockerd() {
  ! docker info >/dev/null 2>&1 || return 0
  bound_runtime
  setsid dockerd >/var/log/dockerd-modelseal.log 2>&1 </dev/null &
  for _ in $(seq 60); do
    ! docker info >/dev/null 2>&1 || return 0
    sleep 0.5
  done
  echo "docker.sh: dockerd did not start (see /var/log/dockerd-modelseal.log)" >&2
  return 1
}

install_packages
start_dockerd
