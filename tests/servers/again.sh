#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
# again.sh DIR [unready]: start a server of ../run.sh that has ended, for a test that has ended it.
set -euo pipefail
umask 022

servers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$servers/lib.sh"
source "$servers/postgres.sh"
source "$servers/mariadb.sh"
source "$servers/mysql.sh"

start_again "$@"
