# shellcheck shell=bash
# MariaDB.

mariadb_url() { mysql_url "$@"; }

# mariadb_init DIR ROOT VERSION
mariadb_init() {
  mysql_accounts >"$1/accounts.sql"
  # Without the resolver the host in an account's name is compared with the address, as it must.
  "${as_service[@]}" "$2/usr/bin/mariadb-install-db" --no-defaults --basedir="$2/usr" \
    --datadir="$1/data" --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve
}

# mariadb_spawn DIR ROOT VERSION PORT [OPTION]
mariadb_spawn() {
  local dir=$1 root=$2 port=$4 flush=0
  shift 4
  ! is_durable "$dir" || flush=1
  # Without an option of its own it has a binary log, as most servers in production have.
  (($#)) || set -- --log-bin=binlog --sync-binlog=0
  # The names of socket and pid file are relative to the data: the former has a limit that TMPDIR
  # may exceed.
  spawn "$dir" "$root/usr/sbin/mariadbd" --no-defaults --basedir="$root/usr" \
    --plugin-dir="$root/usr/lib/mysql/plugin" --datadir="$dir/data" --port="$port" \
    --bind-address=127.0.0.1 --socket=mariadbd.sock --pid-file=mariadbd.pid --skip-name-resolve \
    --init-file="$dir/accounts.sql" --max-connections=300 \
    --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=$flush "$@"
}

# mariadb_ask ROOT VERSION PORT
mariadb_ask() {
  "$1/usr/bin/mariadb" --no-defaults --connect-timeout=5 --user=dbop --host=127.0.0.1 \
    --port="$3" -Nse 'SELECT version()' dbop
}
