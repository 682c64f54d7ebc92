#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
# member.sh DIR NAME [stop]: start another member, in DIR/NAME, of the Galera cluster or MySQL group whose first one is
# in DIR, for a test, and print its URL; or stop it.
set -euo pipefail
umask 022

servers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$servers/lib.sh"
source "$servers/mariadb.sh"
source "$servers/mysql.sh"
source "$servers/galera.sh"
source "$servers/group.sh"

case ${3-}$(<"$1/kind") in
  stop*) stop_server "$1/$2" ;;
  galera) another_node "$1" "$2" ;;
  group) another_member "$1" "$2" ;;
esac
