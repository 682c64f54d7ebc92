# shellcheck shell=bash
# PostgreSQL. Everybody on 127.0.0.1 is trusted.

# The languages in which a session can ask for messages. They are compiled into a folder of the tests'
# own, so that the machine stays as it is.
postgres_languages=(de_DE es_ES fr_FR it_IT ja_JP ko_KR pl_PL pt_BR ru_RU sv_SE tr_TR uk_UA zh_CN)

postgres_url() { say "postgres://postgres@127.0.0.1:$1/dbop"; }

# postgres_init DIR ROOT VERSION
postgres_init() {
  local data=$1/data bin=$2/usr/lib/postgresql/$3/bin
  compile_locales "$cache/locales" && ln -s "$cache/locales" "$1/locales" || return 1
  # The C locale, because it is the only one that exists on every machine.
  "${as_service[@]}" "$bin/initdb" --pgdata="$data" --username=postgres --auth=trust \
    --encoding=UTF8 --locale=C --no-sync &&
    # In single-user mode, so that the first connection already finds the database.
    "${as_service[@]}" "$bin/postgres" --single -D "$data" -c fsync=off postgres \
      <<<'CREATE DATABASE dbop'
}

# compile_locales FOLDER: what is missing of them. A second run at the same time waits.
compile_locales() (
  mkdir -p "$1"
  exec 9>"$1/lock"
  flock 9
  for language in "${postgres_languages[@]}"; do
    [[ -d $1/$language.UTF-8 ]] || say "$language"
  done | xargs -r -P 2 -I @ sh -c \
    'localedef --no-archive -i "$2" -f UTF-8 "$1/$2.new" && mv "$1/$2.new" "$1/$2.UTF-8"' sh "$1" @
)

# postgres_spawn DIR ROOT VERSION PORT [OPTION]
postgres_spawn() {
  local dir=$1 bin=$2/usr/lib/postgresql/$3/bin port=$4 fsync=off
  shift 4
  ! is_durable "$dir" || fsync=on
  # deadlock_timeout is how long a session waits before it looks for a deadlock: the tests cause
  # many of them. No socket in the file system, as its name has a limit that TMPDIR may exceed. What is
  # said to a client before it has a database is in the encoding of the server's own locale.
  spawn "$dir" env LOCPATH="$dir/locales" LC_ALL=C.UTF-8 "$bin/postgres" -D "$dir/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=$fsync -c deadlock_timeout=200ms -c max_connections=200 -c logging_collector=off "$@"
}

# postgres_ask ROOT VERSION PORT
postgres_ask() {
  PGCONNECT_TIMEOUT=5 "$1/usr/lib/postgresql/$2/bin/psql" --no-psqlrc -At \
    -c 'SHOW server_version' "$(postgres_url "$3")"
}
