#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
# beside.sh DIR NAME: start another server, of the kind and version of the one in DIR, in DIR/NAME. For a
# test that needs several of them; it ends the others itself.
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
rm -rf "${1:?}/$2"
start_server "$1/$2" "$(<"$1/kind")" "$root" "$wanted" "$option"
