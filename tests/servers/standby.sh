#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
# standby.sh DIR NAME OF: start a standby, in DIR/NAME, of the PostgreSQL server in DIR/OF. It has the port of the
# server that was in DIR/NAME before, if there was one. For a test, which ends it itself.
set -euo pipefail
umask 022

servers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$servers/lib.sh"
source "$servers/postgres.sh"

standby() {
  local dir=$1 of=$2 root wanted primary port version
  local -x TMPDIR=$dir/tmp
  { read -r root; read -r wanted; read -r primary; } <"$of/again"
  stop_server "$dir"
  if [[ -e $dir/again ]]; then
    port=$(sed -n 3p "$dir/again")
  else
    free_port
  fi
  rm -rf "$dir"
  mkdir -p "$dir"/{data,tmp}
  chmod 700 "$dir/data"
  [[ $(id -u) != 0 ]] || chown nobody: "$dir"/{data,tmp}
  say postgres >"$dir/kind"
  cp -P "$of/locales" "$dir/locales"
  "${as_service[@]}" "$root/usr/lib/postgresql/$wanted/bin/pg_basebackup" --pgdata="$dir/data" \
    --host=127.0.0.1 --port="$primary" --username=postgres --write-recovery-conf --checkpoint=fast \
    --wal-method=stream --no-sync >"$dir/log" 2>&1 || return 1
  postgres_spawn "$dir" "$root" "$wanted" "$port"
  ready "$dir" postgres "$root" "$wanted" "$port" || return 1
  postgres_url "$port" >"$dir/url"
  printf '%s\n' "$root" "$wanted" "$port" '' >"$dir/again"
}

standby "$1/$2" "$1/$3" || { tail -n 30 "$1/$2/log" >&2; exit 1; }
