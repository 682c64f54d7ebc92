# shellcheck shell=bash
# What has to be installed on this machine, through its own package manager.

# packages_for BACKEND...: the names of all packages needed to build and run the tests.
packages_for() {
  local backend
  # apt leaves out libc6-dev (it only "recommends" it), but no C compiler works without.
  command -v cc >/dev/null || say gcc libc6-dev
  command -v pkg-config >/dev/null || say pkg-config
  say ca-certificates
  for backend; do
    case $backend in
      sqlite) ;; # compiled from source
      postgres) say libpq-dev locales pgbouncer "postgresql-$(versions postgres)" ;;
      mariadb) say libmariadb-dev mariadb-server-core mariadb-client-core galera-4 galera-arbitrator-4 ;;
      mysql) say libmariadb-dev ;; # the server is not in Debian 12: see fetch.sh
    esac
  done
}

# install_packages BACKEND...: install what is missing, and say so first; without root, say how and end.
install_packages() {
  local package installed missing=() fetched=()
  for package in $(packages_for "$@"); do
    installed=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || true
    [[ $installed == installed || " ${missing[*]-} " == *" $package "* ]] || missing+=("$package")
  done
  mapfile -t fetched < <(to_fetch "$@")
  if ((${#missing[@]} == 0)); then
    ((${#fetched[@]} == 0)) || say "this unpacks ${fetched[*]} into $cache and installs nothing"
    return 0
  fi
  if ! is_debian; then
    [[ $* == sqlite ]] || die "servers are installed on Debian only; elsewhere name a server of your \
own, or of docker/compose.yaml: DBOP_TEST_URL=.. tests/run.sh test BACKEND (see tests/README.md)"
    command -v cc >/dev/null || die "there is no C compiler"
    return 0
  fi
  if [[ $(id -u) != 0 ]]; then
    warn "Some packages are missing. Please run this first:"
    warn "    sudo apt-get install --no-install-recommends ${missing[*]}"
    exit 1
  fi
  say "this installs ${missing[*]}${fetched:+ and unpacks ${fetched[*]} into $cache}"
  # One repository out of reach need not matter; whether the packages are available is seen next.
  apt-get update -qq || warn "apt-get update failed; trying with what is known"
  keep_services_down
  DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends "${missing[@]}" \
    >/dev/null </dev/null || die "apt-get install failed"
  allow_services
}

is_debian() { command -v apt-get >/dev/null && (. /etc/os-release && [[ $ID == debian ]]); }

# Debian starts a service as soon as it is installed, unless this program objects.
policy=/usr/sbin/policy-rc.d
policy_is_ours=

keep_services_down() {
  [[ -e $policy ]] && return
  policy_is_ours=yes
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

allow_services() {
  [[ -n $policy_is_ours ]] || return 0
  rm -f "$policy"
  policy_is_ours=
}
