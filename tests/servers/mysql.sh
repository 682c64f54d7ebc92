# shellcheck shell=bash
# MySQL, and what MariaDB has in common with it.

mysql_url() { say "mysql://dbop@127.0.0.1:$1/dbop"; }

# mysql_accounts: the SQL that a server runs when it starts, one statement a line. The tests' user
# may do everything: they kill connections and look at the locks of others. It has no password, as
# only this machine can reach it.
mysql_accounts() {
  cat <<'SQL'
CREATE DATABASE IF NOT EXISTS dbop;
CREATE USER IF NOT EXISTS dbop@'127.0.0.1';
GRANT ALL ON *.* TO dbop@'127.0.0.1' WITH GRANT OPTION;
SQL
}

# mysql_paths DIR ROOT: set `mysqld` to the program and where it finds its files.
mysql_paths() {
  mysqld=("$2/usr/sbin/mysqld" --no-defaults --basedir="$2/usr" --datadir="$1/data"
    --plugin-dir="$2/usr/lib/mysql/plugin" --lc-messages-dir="$2/usr/share/mysql"
    --character-sets-dir="$2/usr/share/mysql/charsets")
}

# mysql_init DIR ROOT VERSION
mysql_init() {
  local mysqld
  mysql_paths "$1" "$2"
  mysql_accounts >"$1/accounts.sql"
  "${as_service[@]}" "${mysqld[@]}" --initialize-insecure
}

# mysql_spawn DIR ROOT VERSION PORT [OPTION]
mysql_spawn() {
  local dir=$1 port=$4 mysqld quick=(--skip-log-bin --innodb-flush-log-at-trx-commit=0)
  mysql_paths "$dir" "$2"
  shift 4
  ! is_durable "$dir" || quick=(--innodb-flush-log-at-trx-commit=1)
  # The names of socket and pid file are relative to the data: the former has a limit that TMPDIR
  # may exceed. The default of --secure-file-priv is a folder that only a package creates. The
  # performance schema tells the tests who waits for whom.
  spawn "$dir" "${mysqld[@]}" --port="$port" --bind-address=127.0.0.1 --mysqlx=OFF \
    --socket=mysqld.sock --pid-file=mysqld.pid --skip-name-resolve --secure-file-priv=NULL \
    --init-file="$dir/accounts.sql" --max-connections=300 --performance-schema=ON \
    --innodb-buffer-pool-size=64M "${quick[@]}" "$@"
}

# mysql_ask ROOT VERSION PORT
mysql_ask() {
  "$1/usr/bin/mysql" --no-defaults --connect-timeout=5 --user=dbop --host=127.0.0.1 \
    --port="$3" -Nse 'SELECT version()' dbop
}
