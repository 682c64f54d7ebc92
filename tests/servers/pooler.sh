#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
# pooler.sh 'CONNECTION STRING' ROOT [OPTION...]: start a PgBouncer with one connection to this database, for a
# test, and print its folder and its port. ROOT is the folder under which it is installed, options are those of
# its configuration.
# pooler.sh stop DIR: stop it, and remove its folder.
set -euo pipefail
umask 022

servers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$servers/lib.sh"
source "$servers/pgbouncer.sh"

if [[ $1 == stop ]]; then
  stop_server "$2/pgbouncer"
  rm -rf "$2"
  exit
fi
dir=$(mktemp -d "$(realpath -m "${TMPDIR:-/tmp}")/dbop-pooler.XXXXXX")
chmod 711 "$dir" # the servers' account passes through
if ! TARGET=$1 start_server "$dir/pgbouncer" pgbouncer "$2" "" "${*:3}"; then
  tail -n 30 "$dir/pgbouncer/log" >&2
  rm -rf "$dir"
  die "PgBouncer does not start"
fi
{ read -r _; read -r _; read -r port; } <"$dir/pgbouncer/again"
say "$dir $port"
