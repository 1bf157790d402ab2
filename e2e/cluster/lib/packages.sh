# shellcheck shell=bash
# The system's own part: container runtime, CNI plugins and the usual tools.

# What is needed, as COMMAND-OR-FILE:DEBIAN-PACKAGE.
needed_programs=(
  busybox:busybox-static
  containerd:containerd
  ip:iproute2
  iptables:iptables
  nsenter:util-linux
  openssl:openssl
  runc:runc
  sha256sum:coreutils
  tar:tar
  unshare:util-linux
  /usr/lib/cni/host-local:containernetworking-plugins
  /usr/lib/cni/loopback:containernetworking-plugins
  /usr/lib/cni/portmap:containernetworking-plugins
  /usr/lib/cni/ptp:containernetworking-plugins
)

# missing_programs: one COMMAND-OR-FILE:PACKAGE per line.
missing_programs() {
  local entry
  for entry in "${needed_programs[@]}"; do
    command -v "${entry%:*}" > /dev/null || printf '%s\n' "$entry"
  done
  # Pods get busybox in an image without a C library.
  if command -v busybox > /dev/null && ldd "$(command -v busybox)" > /dev/null 2>&1; then
    printf '%s\n' 'busybox (statically linked):busybox-static'
  fi
}

install_packages() (
  # Debian starts a service it installs unless this file says no. The cluster
  # runs a containerd of its own and must not leave one behind on the system.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  export DEBIAN_FRONTEND=noninteractive
  install=(apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=300 "$@")
  # The lists of a fresh machine are empty or too old; fetch them only then.
  "${install[@]}" || {
    apt-get update --quiet -o DPkg::Lock::Timeout=300
    "${install[@]}"
  }
)

ensure_packages() {
  # Debian keeps some of them where a user's PATH may not look.
  PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  local entry missing packages
  mapfile -t missing < <(missing_programs)
  ((${#missing[@]})) || return 0
  mapfile -t packages < <(printf '%s\n' "${missing[@]##*:}" | sort -u)
  if [[ $(id -u) == 0 && -e /etc/debian_version ]]; then
    step "install ${packages[*]}" install_packages "${packages[@]}"
    mapfile -t missing < <(missing_programs)
    ((${#missing[@]})) || return 0
  fi
  say 'These programs are missing (and are not installed automatically: that is done only for root on Debian):'
  for entry in "${missing[@]}"; do
    say "  ${entry%:*} (Debian package ${entry##*:})"
  done
  exit 1
}
