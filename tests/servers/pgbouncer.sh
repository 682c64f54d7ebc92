# shellcheck shell=bash
# PgBouncer in front of a PostgreSQL server: one server connection, lent for a transaction at a time.

pgbouncer_url() { say "postgres://127.0.0.1:$1"; }

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

# pgbouncer_spawn DIR ROOT VERSION PORT
pgbouncer_spawn() {
  sed "/^\[pgbouncer\]/a listen_port = $4" "$1/pgbouncer.ini" >"$1/started.ini"
  spawn "$1" /usr/sbin/pgbouncer "$1/started.ini"
}

# pgbouncer_ask ROOT VERSION PORT: it has no data to recover, so an open port is enough.
pgbouncer_ask() {
  (: <>"/dev/tcp/127.0.0.1/$3") && /usr/sbin/pgbouncer --version | sed -n 's/^PgBouncer //p'
}
