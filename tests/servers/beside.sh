#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
# beside.sh DIR: start a second server, of the kind and version of the one in DIR, in DIR/beside. For a
# test that needs two of them; it ends the second one itself.
set -euo pipefail
umask 022

servers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$servers/lib.sh"
source "$servers/postgres.sh"
source "$servers/mariadb.sh"
source "$servers/mysql.sh"

# shellcheck disable=SC2034 # used by postgres_init
cache=$(cache_folder)
{ read -r root; read -r wanted; read -r _; read -r option; } <"$1/again"
rm -rf "$1/beside"
start_server "$1/beside" "$(<"$1/kind")" "$root" "$wanted" "$option"
