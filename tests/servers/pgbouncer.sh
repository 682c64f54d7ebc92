# shellcheck shell=bash
# PgBouncer in front of a PostgreSQL server: server connections that are lent for a transaction at a time. The
# one of this Debian knows nothing of prepared statements. One that tracks them (from 1.21 on) comes from
# Debian's development branch, where that is available.

# The version that the pages say was measured.
tracking_pgbouncer=1.26

pgbouncer_url() { say "postgres://127.0.0.1:$1"; }

# find_tracking_pgbouncer [fetch]: tell the tests, by DBOP_TEST_PGBOUNCER, under which folder it is installed. Where
# it is not, note so: its tests are left out then.
find_tracking_pgbouncer() {
  local root=$cache/sid/pgbouncer-$tracking_pgbouncer reason="not fetched, which tests/run.sh up does" version
  unset DBOP_TEST_PGBOUNCER
  if [[ ${1-} == fetch ]]; then
    fetch pgbouncer "$tracking_pgbouncer" "$cache" || true
  fi
  if [[ ! -d $root ]] || ! version=$(pgbouncer_version "$root"); then
    result "NOT AVAILABLE" "PgBouncer $tracking_pgbouncer: ${reason:-it does not run}; its tests are left out"
    return
  fi
  say "==== with PgBouncer $version"
  export DBOP_TEST_PGBOUNCER=$root
}

# pgbouncer_version ROOT
pgbouncer_version() { "$1/usr/sbin/pgbouncer" --version | sed -n 's/^PgBouncer //p'; }

# pgbouncer_init DIR: TARGET has the connection string of the server, of which its clients need know nothing.
pgbouncer_init() {
  cat >"$1/pgbouncer.ini" <<TEXT
[databases]
dbop = ${TARGET:?}
[pgbouncer]
listen_addr = 127.0.0.1
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
ignore_startup_parameters = extra_float_digits
TEXT
}

# pgbouncer_spawn DIR ROOT VERSION PORT [OPTION]
pgbouncer_spawn() {
  local dir=$1 root=$2 port=$4
  shift 4
  {
    cat "$dir/pgbouncer.ini"
    printf '%s\n' "listen_port = $port" "${@#--}"
  } >"$dir/started.ini"
  spawn "$dir" "$root/usr/sbin/pgbouncer" "$dir/started.ini"
}

# pgbouncer_ask ROOT VERSION PORT: it has no data to recover, so an open port is enough.
pgbouncer_ask() {
  (: <>"/dev/tcp/127.0.0.1/$3") && pgbouncer_version "$1"
}
