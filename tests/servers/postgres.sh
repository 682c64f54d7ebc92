# shellcheck shell=bash
# PostgreSQL. Everybody on 127.0.0.1 is trusted.

postgres_url() { say "postgres://postgres@127.0.0.1:$1/dbop"; }

# postgres_init DIR ROOT VERSION
postgres_init() {
  local data=$1/data bin=$2/usr/lib/postgresql/$3/bin
  # The C locale, because it is the only one that exists on every machine.
  "${as_service[@]}" "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust \
    --encoding=UTF8 --locale=C --no-sync &&
    # In single-user mode, so that the first connection already finds the database.
    "${as_service[@]}" "$bin/postgres" --single -D "$data" -c fsync=off postgres \
      <<<'CREATE DATABASE dbop'
}

# postgres_spawn DIR ROOT VERSION PORT [OPTION]
postgres_spawn() {
  local dir=$1 bin=$2/usr/lib/postgresql/$3/bin port=$4 fsync=off
  shift 4
  ! is_durable "$dir" || fsync=on
  # deadlock_timeout is how long a session waits before it looks for a deadlock: the tests cause
  # many of them. No socket in the file system, as its name has a limit that TMPDIR may exceed.
  spawn "$dir" "$bin/postgres" -D "$dir/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=$fsync -c deadlock_timeout=200ms -c max_connections=200 -c logging_collector=off "$@"
}

# postgres_ask ROOT VERSION PORT
postgres_ask() {
  PGCONNECT_TIMEOUT=5 "$1/usr/lib/postgresql/$2/bin/psql" --no-psqlrc -At \
    -c 'SHOW server_version' "$(postgres_url "$3")"
}
