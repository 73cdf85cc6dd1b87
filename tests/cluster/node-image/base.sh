#!/usr/bin/env bash
# Builds the two images that the Containerfiles start from, where the public ones can't be pulled:
# modelseal-local/builder (Debian trixie, Python 3.13 and pip) and modelseal-local/base (Python and
# its libraries, and like the distroless default no shell, no pip and no package manager).
#
#   base.sh            builds both; prints the tag, a hash of this script; as root
#   base.sh --tag      prints the tag and builds nothing
set -euo pipefail
suite=trixie
# what of the userland goes into the base: the closure of python3-minimal's and OpenVINO's libraries
packages="base-files ca-certificates gcc-14-base libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1
  liblzma5 libncursesw6 libpython3-stdlib libpython3.13-minimal libpython3.13-stdlib libreadline8t64
  libsqlite3-0 libssl3t64 libstdc++6 libtinfo6 libuuid1 libzstd1 media-types netbase openssl-provider-legacy
  python3 python3-minimal python3.13 python3.13-minimal tzdata zlib1g"

tag=$(sha256sum <"${BASH_SOURCE[0]}" | cut -c1-12)
if [ "${1:-}" = --tag ]; then echo "$tag"; exit; fi
work=${XDG_CACHE_HOME:-$HOME/.cache}/modelseal/cluster/base-$tag
environment='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

build() {
  local root=$work/root package
  if [ ! -e "$work/made" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates,tzdata,media-types,netbase "$suite" "$root"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/*
    touch "$work/made"
  fi
  tar -C "$root" -c . | docker import -c "$environment" - "modelseal-local/builder:$tag"
  {
    for package in $packages; do dpkg-query --admindir="$root/var/lib/dpkg" -L "$package"; done
    printf '/%s\n' etc/passwd etc/group etc/ssl/certs/ca-certificates.crt etc/ld.so.cache lib lib64 bin sbin
  } | sed 's#^/##; /^\.$/d' | sort -u | (cd "$root" && while read -r name; do
    [ ! -e "$name" ] && [ ! -L "$name" ] || echo "$name"
  done) >"$work/names"
  tar -C "$root" --no-recursion -T "$work/names" -c |
    docker import -c "$environment" -c "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" -c "USER 65532" - "modelseal-local/base:$tag"
}

mkdir -p "$work"
exec 9>"$work/lock"
flock 9
if ! docker image inspect "modelseal-local/base:$tag" "modelseal-local/builder:$tag" >/dev/null 2>&1; then
  set +e # `build || ...` in one line would switch errexit off inside the function
  (set -e; build) >"$work/log" 2>&1
  failed=$?
  set -e
  if [ $failed != 0 ]; then
    tail -20 "$work/log" >&2
    echo "base: failed to build the base images (all of it in $work/log)" >&2
    exit 1
  fi
fi
echo "$tag"
