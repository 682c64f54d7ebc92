#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

usage() {
  cat <<'TEXT'
Runs the tests against real servers, which it installs, starts and stops.

usage: tests/run.sh [BACKEND...] [-- ARGUMENT...]
       tests/run.sh COMMAND [BACKEND...] [-- ARGUMENT...]

BACKEND is sqlite, postgres, mariadb, mysql or all (the default). `sqlite` includes everything that
needs no server. What follows `--` goes to the test programs, for example the name of a test:

       tests/run.sh postgres -- deadlock

The servers listen on free ports of 127.0.0.1 and keep their data in a temporary folder; nothing of
them is left at the end. tests/servers/versions lists them. Written for Debian 12.

Run as root, it INSTALLS PACKAGES that are missing (servers, client libraries, a C compiler), and says
first which; run as another user, it prints the command that installs them.

At the end, unless tests are named, servers refuse connections in every language that they speak. Then
transfers are made while connections and servers are lost: for DBOP_SOAK_SECONDS (5) on each server and
adapter, with the random numbers of DBOP_SOAK_SEED.

COMMAND is one of these; most are for servers that stay:

  refused   only those connections, on servers that do not stay
  lose      only those transfers, on servers that do not stay
  cluster   only those on several servers (PostgreSQL with a standby, Galera, Group Replication), for
            DBOP_SOAK_SECONDS
  storm     measure policies of retries under contention, on servers that do not stay; what follows `--`
            are the arguments of one run (see `-- --help`), without it tests/servers/storm.sh says which
  bench     measure what an operation costs, on servers that do not stay, and render docs/cost.md; what
            follows `--` are the arguments of one run (see `-- --help`), without it tests/servers/bench.sh
            says which. DBOP_BENCH_SIZE=quick only shows that it works
  prepare   only install what is missing
  up        start servers and print their addresses
  test      run the tests against the servers that are up, or against yours; installs nothing
  status    list the servers that are up
  logs      print the last lines of their logs (with -f: and what follows)
  down      stop them and remove their data
  languages make dbop-core's tables of the servers' messages in other languages

To test on a server of your own, or on a container of docker/compose.yaml, name it: DBOP_TEST_URL is
the server, DBOP_TEST_SERVER its name in reports. This works on every Linux that has the compiler and
the client library; tests/README.md says what the account must be allowed to.

       DBOP_TEST_URL=postgres://dbop:dbop@127.0.0.1:15432/dbop DBOP_TEST_SERVER='PostgreSQL 15' \
         tests/run.sh test postgres

DBOP_CACHE is the folder for downloads and for the servers that are up (/var/cache/dbop-tests for
root, ~/.cache/dbop-tests for others), TMPDIR the one in which the temporary folder is made. The log
of a server that failed is kept in `server-logs` in cargo's target folder.
TEXT
}

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$tests/servers/lib.sh"
source "$tests/servers/packages.sh"
source "$tests/servers/fetch.sh"
source "$tests/servers/postgres.sh"
source "$tests/servers/pgbouncer.sh"
source "$tests/servers/mariadb.sh"
source "$tests/servers/mysql.sh"
source "$tests/servers/galera.sh"
source "$tests/servers/group.sh"
source "$tests/servers/alone.sh"
source "$tests/servers/refused.sh"
source "$tests/servers/losses.sh"
source "$tests/servers/storm.sh"
source "$tests/servers/bench.sh"

results=()      # the lines to end with
failed=0        # the status to end with
child=          # the test program that is running
current=        # the folder of the server that has to be stopped
temporary=      # the folder with all of them
ran=            # how many tests of the backend have run, where tests are named
output=         # the file with the output of the test program
features=       # what the tests on servers are built with, beside the feature of their own
follow=         # whether `logs` waits for more
time_limit=900  # seconds for the tests of one server, which need a small part of it
own_url=        # a server that is not ours, for `test`
own_label=      # its name

main() {
  local command=run backend backends=()
  local -A asked=()
  case ${1-} in
    refused | lose | cluster | storm | bench | prepare | up | test | status | logs | down | languages)
      command=$1
      shift
      ;;
  esac
  while (($#)); do
    case $1 in
      sqlite | postgres | mariadb | mysql | all) asked[$1]=yes ;;
      -f)
        [[ $command == logs ]] || wrong_usage "-f is for logs"
        follow=-F
        ;;
      -h | --help)
        usage
        exit
        ;;
      --)
        [[ $command =~ ^(run|refused|lose|cluster|storm|bench|test)$ ]] || wrong_usage "$command runs no tests"
        shift
        break
        ;;
      *) wrong_usage "unknown argument: $1" ;;
    esac
    shift
  done
  test_arguments=("$@")
  own_url=${DBOP_TEST_URL-} own_label=${DBOP_TEST_SERVER-}
  [[ $command != test || -z $own_url ]] || ask_for_own_server
  ((${#asked[@]})) || asked[all]=yes
  for backend in sqlite postgres mariadb mysql; do
    [[ -z ${asked[$backend]-${asked[all]-}} ]] || backends+=("$backend")
  done

  umask 022 # the servers' account reads what root makes
  # Most tests wait most of the time: for locks, for timeouts, for servers. On two cores, twelve at a time
  # take two thirds of the time that four take.
  local threads=$((2 * $(nproc)))
  export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((threads < 12 ? 12 : threads))}
  cache=$(realpath -m "$(cache_folder)")
  cd "$tests/.."
  logs=$(realpath -m "${CARGO_TARGET_DIR:-target}/server-logs")
  unset DBOP_TEST_{URL,SERVER,DIR,PGBOUNCER} # each test gets the ones of its own server
  trap cleanup EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  "${command}_backends" "${backends[@]}"
}

# ask_for_own_server: which backend it is of, unless that has been said.
ask_for_own_server() {
  local backend
  [[ -z ${asked[all]-} ]] || wrong_usage "DBOP_TEST_URL is the URL of one backend"
  for backend in postgres mariadb mysql; do
    [[ -z ${asked[$backend]-} ]] || is_server_of "$backend" ||
      wrong_usage "DBOP_TEST_URL is not the URL of $backend"
  done
  ((${#asked[@]} == 0)) || return 0
  # MariaDB has the same tests.
  for backend in postgres mysql; do
    ! is_server_of "$backend" || asked[$backend]=yes
  done
  ((${#asked[@]})) || wrong_usage "DBOP_TEST_URL is not the URL of a server: $own_url"
}

wrong_usage() {
  warn "error: $1"
  usage >&2
  exit 2
}

# What each command does with the backends.

run_backends() {
  local backend
  begin "$@"
  build_together "$@" || true # what does not build is told where it is tested
  for backend; do
    case $backend in
      sqlite) test_without_server ;;
      *) test_with_own_servers "$backend" ;;
    esac
    case $backend in
      mariadb) test_galera ;;
      mysql) test_group ;;
    esac
    some_test_ran "$backend"
  done
  if ((${#test_arguments[@]} == 0)); then
    refuse "$@"
    lose "$@"
  fi
  summary
}

# begin BACKEND...: prepare for servers that do not stay.
begin() {
  install_packages "$@"
  make_cache
  temporary=$(mktemp -d "$(realpath -m "${TMPDIR:-/tmp}")/dbop-tests.XXXXXX")
  chmod 711 "$temporary" # the servers' account passes through
  reachable "$temporary" TMPDIR
  # With the features of all of them, what the tests of two backends have in common is built once.
  features=$(printf '%s\n' "${@/#mariadb/mysql}" | sort -u | paste -sd,)
}

prepare_backends() { install_packages "$@"; }

up_backends() {
  local backend row rows dir
  install_packages "$@"
  make_cache
  mkdir -p "$cache/up"
  for backend; do
    [[ $backend != postgres ]] || find_tracking_pgbouncer fetch
    mapfile -t rows < <(servers_of "$backend")
    for row in "${rows[@]}"; do
      dir=$cache/up/$(id_of "$row")
      if ! alive "$dir"; then
        rm -rf "$dir"
        current=$dir
        start "$dir" "$row" || { stop; continue; }
        current= # it stays
      fi
      print_address "$dir"
    done
  done
  ((${#results[@]} == 0)) || summary
}

test_backends() {
  local backend dir found
  for backend; do
    if [[ $backend == sqlite ]]; then
      test_without_server
      some_test_ran "$backend"
      continue
    fi
    choose_target "$backend"
    build "$backend" "${target[@]}" || continue
    [[ $backend != postgres ]] || find_tracking_pgbouncer
    if [[ -n $own_url ]]; then
      test_own_server "$backend"
      some_test_ran "$backend"
      continue
    fi
    found=
    for dir in "$cache/up/$backend"-*; do
      alive "$dir" || continue
      found=yes
      test_server "$dir" || true
    done
    [[ -n $found ]] || failure FAILED "$backend: no server is up (see tests/run.sh --help)"
    some_test_ran "$backend"
  done
  summary
}

status_backends() {
  local backend dir
  for backend; do
    for dir in "$cache/up/$backend"-*; do
      if alive "$dir"; then
        print_address "$dir"
      elif [[ -e $dir ]]; then
        say "# $(basename "$dir") has ended"
      fi
    done
  done
}

logs_backends() {
  local backend log files=()
  for backend; do
    for log in "$cache/up/$backend"-*/log; do
      [[ ! -e $log ]] || files+=("$log")
    done
  done
  ((${#files[@]})) || die "no server is up"
  tail -v -n 200 ${follow:+"$follow"} "${files[@]}"
}

down_backends() {
  local backend dir
  for backend; do
    for dir in "$cache/up/$backend"-*; do
      [[ -e $dir ]] || continue
      current=$dir
      stop
      say "$(basename "$dir") is down"
    done
  done
}

# The messages come with the servers' packages, the newer ones with what fetch.sh brings.
languages_backends() {
  local kind version root='' reason=''
  install_packages postgres mariadb mysql
  make_cache
  for kind in postgres mariadb mysql; do
    while read -r version; do
      fetch "$kind" "$version" "$cache" || die "$kind $version: $reason"
    done < <(if [[ $kind == mysql ]]; then versions mysql; else versions "$kind" optional; fi)
  done
  DBOP_CACHE=$cache cargo run --quiet -p dbop-languages
}

# The servers.

# servers_of BACKEND: one server a line: kind, version, where its programs come from ("host", as
# packages of this machine, or "sid", see fetch.sh), and the options it is started with, if any.
servers_of() {
  local version
  version=$(versions "$1")
  case $1 in
    postgres) say "postgres $version host" ;;
    mariadb)
      say "mariadb $version host"
      say "mariadb $version host innodb_snapshot_isolation=ON innodb_rollback_on_timeout=ON"
      ;;
    mysql)
      say "mysql $version sid"
      say "mysql $version sid innodb_rollback_on_timeout=ON"
      ;;
  esac
  while read -r version; do
    say "$1 $version sid"
  done < <(versions "$1" optional)
}

# to_fetch BACKEND...: the servers that are not there yet and do not come from packages of this machine.
to_fetch() {
  local backend kind version source _
  [[ $command != prepare ]] || return 0
  for backend; do
    [[ $backend != sqlite ]] || continue
    while read -r kind version source _; do
      [[ $source != sid || -d $cache/sid/$kind-$version ]] || say "$kind-$version"
    done < <(
      servers_of "$backend"
      [[ $backend != postgres ]] || say "pgbouncer $tracking_pgbouncer sid"
    )
  done | sort -u
}

# id_of ROW: a name for the server of this line, fit for a file.
id_of() {
  local kind version _ option
  read -r kind version _ option <<<"$1"
  say "$kind-$version${option:+-${option//[= ]/-}}"
}

name_of() {
  case $1 in
    postgres) say PostgreSQL ;;
    mariadb) say MariaDB ;;
    mysql) say MySQL ;;
    galera) say "Galera on MariaDB" ;;
    group) say "MySQL Group Replication" ;;
  esac
}

make_cache() {
  mkdir -p "$cache"
  reachable "$cache" DBOP_CACHE
}

# start DIR ROW: start the server of this line in the folder, or note why not.
start() {
  local dir=$1 kind wanted source option root='' reason='' version label
  read -r kind wanted source option <<<"$2"
  label="$(name_of "$kind") $wanted${option:+ $option}"
  rm -f "$logs/$(basename "$dir").log"
  # Debian's development branch is a moving target: that it lacks something is nobody's failure.
  if [[ $source == sid ]] && ! fetch "${kind/#group/mysql}" "$wanted" "$cache"; then
    result "NOT AVAILABLE" "$label: $reason"
    return 1
  fi
  if ! start_server "$dir" "$kind" "$root" "$wanted" "$option"; then
    keep_log "$dir"
    failure "COULD NOT START" "$label"
    return 1
  fi
  label="$(name_of "$kind") $version${option:+ $option}"
  if [[ $version != "$wanted" && $version != "$wanted".* ]]; then
    if [[ $source == host ]]; then
      failure "WRONG VERSION" "$label: tests/servers/versions says $wanted"
      return 1
    fi
    label+=" (instead of $wanted)"
  fi
  say "$label" >"$dir/label"
}

# stop: stop the current server and remove what it left.
stop() {
  local dir=$current
  stop_server "$dir"
  rm -rf "$dir"
  current=
}

print_address() {
  say "DBOP_TEST_URL='$(<"$1/url")' DBOP_TEST_SERVER='$(<"$1/label")'"
}

# keep_log DIR: save the log of a server about to be removed, and show its end.
keep_log() {
  local log
  log=$logs/$(basename "$1").log
  mkdir -p "$logs"
  cp "$1/log" "$log"
  say "---- the end of $log"
  tail -n 30 "$log"
  say "----"
}

# The tests.

test_without_server() {
  local arguments
  arguments=(--workspace --exclude dbop-tests --exclude dbop-adoption --exclude dbop-languages
    --exclude dbop-observability
    --features "dbop-diesel/sqlite,dbop-diesel/anyhow,dbop-diesel-async/sqlite"
    --features dbop-diesel-async/testing)
  build_and_test "unit tests and doctests" "${arguments[@]}"
  # With them the examples of their modules are there.
  run_tests "examples of metrics and spans" -p dbop-diesel -p dbop-diesel-async \
    --features "dbop-diesel/sqlite,dbop-diesel/anyhow,dbop-diesel-async/sqlite,dbop-diesel-async/testing" \
    --features dbop-diesel-async/metrics,dbop-diesel-async/tracing --doc || true
  run_tests "examples of the README" -p dbop-tests --features sqlite --doc || true
  arguments=(-p dbop-tests --features sqlite --lib --test project)
  build_and_test "checks of the project" "${arguments[@]}"
  choose_target sqlite
  # Some targets have tests of both, and the features of all backends are on.
  local test_arguments=("${test_arguments[@]}" --skip postgres::)
  DBOP_TEST_SERVER=SQLite build_and_test SQLite "${target[@]}"
}

test_with_own_servers() {
  local row rows
  choose_target "$1"
  build "$1" "${target[@]}" || return 0
  # Some examples of the pages are about it alone.
  if [[ $1 == postgres ]]; then
    run_tests "examples for PostgreSQL" -p dbop-tests --features "sqlite,${features:-postgres}" --doc || true
    find_tracking_pgbouncer fetch
  fi
  mapfile -t rows < <(servers_of "$1")
  for row in "${rows[@]}"; do
    current=$temporary/$(id_of "$row")
    if start "$current" "$row"; then
      test_server "$current" || keep_log "$current"
    fi
    stop
  done
  test_messages "$1"
}

# test_messages BACKEND: by now the messages of all its versions that can be fetched are there.
test_messages() {
  case $1 in
    postgres)
      DBOP_CACHE=$cache build_and_test "messages of PostgreSQL" \
        -p dbop-languages --lib --test catalogs --test texts
      ;;
    mariadb) DBOP_CACHE=$cache build_and_test "messages of MariaDB" -p dbop-languages --test errmsg ;;
    # The tests begin with those of this machine's MariaDB.
    mysql)
      [[ ! -d /usr/share/mysql/english ]] ||
        DBOP_CACHE=$cache build_and_test "messages of MySQL" -p dbop-languages --test errmsg
      ;;
  esac
}

# is_server_of BACKEND: whether the URL that was given can be one of this backend.
is_server_of() {
  case $1 in
    postgres) [[ $own_url == postgres://* || $own_url == postgresql://* ]] ;;
    *) [[ $own_url == mysql://* ]] ;;
  esac
}

# test_own_server BACKEND: on the server that was given.
test_own_server() {
  local label=${own_label:-"$(name_of "$1") of your own"} test_arguments=("${test_arguments[@]}")
  # A session can only ask for languages that its server's system has; servers/postgres.sh compiles them.
  [[ $1 != postgres ]] || test_arguments+=(--skip ::languages::)
  # A pooler in front of it, which servers/pooler.sh starts.
  [[ $1 != postgres || -x /usr/sbin/pgbouncer ]] || test_arguments+=(--skip ::pooler::installed::)
  without_missing_poolers "$1"
  # The private servers let in accounts without a password, from 127.0.0.1.
  test_arguments+=(--skip provoked::each_that_refuses_a_connection)
  DBOP_TEST_URL=$own_url DBOP_TEST_SERVER=$label run_tests "$label" "${target[@]}" || true
}

test_server() {
  local label test_arguments=("${test_arguments[@]}")
  label=$(<"$1/label")
  without_missing_poolers "$(<"$1/kind")"
  DBOP_TEST_URL=$(<"$1/url") DBOP_TEST_SERVER=$label run_tests "$label" "${target[@]}"
}

# without_missing_poolers BACKEND: leave out the tests of a pooler that is not available, so that they do not pass.
without_missing_poolers() {
  [[ $1 == postgres ]] || return 0
  [[ -n ${DBOP_TEST_PGBOUNCER-} ]] || test_arguments+=(--skip ::pooler::tracking::)
  # On another system than Debian 12 the installed one may track statements as well.
  [[ $(pgbouncer_version "" 2>/dev/null) =~ ^1\.(1[0-9]|20)\. ]] ||
    test_arguments+=(--skip ::pooler::installed::untracked::)
}

# choose_target BACKEND [ALONE]: set `target` to what makes cargo test this backend, or run the tests of ALONE on
# it, which have a server to themselves.
choose_target() {
  local name=$1
  [[ $name != mariadb ]] || name=mysql # the same tests
  # The same packages and features for all, because others would be built again.
  target=(--package=dbop-tests --package=dbop-observability --package=dbop-adoption)
  target+=(--features="$features" --features "$name")
  case ${2-}$name in
    postgres | sqlite) target+=(--test "$name" --test "async_$name" --test observability --test adoption) ;;
    mysql) target+=(--test "$name" --test "async_$name" --test observability_mysql) ;;
    galeramysql | groupmysql) target+=(--test "$2") ;;
    *) target+=(--test "$2_$name") ;;
  esac
}

# build_together BACKEND...: build all their tests at once, which keeps all cores busy: the large ones take
# minutes, on one core each.
build_together() {
  local backend alone all=() target
  (($# > 1 && ${#test_arguments[@]} == 0)) || return 0
  for backend; do
    choose_target "$backend"
    all+=("${target[@]}")
    [[ $backend != sqlite ]] || continue
    for alone in refused soak; do
      choose_target "$backend" "$alone"
      all+=("${target[@]}")
    done
    case $backend in
      mariadb) all+=(--test galera) ;;
      mysql) all+=(--test group) ;;
    esac
  done
  build "the tests of $*" "${all[@]}"
}

build_and_test() {
  ! build "$@" || run_tests "$@" || true
}

# build LABEL CARGO_ARGUMENT...: on its own, so that no server waits for the compiler.
build() {
  say "==== building: $1"
  in_session cargo test "${@:2}" --no-run || {
    failure FAILED "$1: the tests do not build"
    return 1
  }
}

# run_tests LABEL CARGO_ARGUMENT...
run_tests() {
  local label=$1 begin=$SECONDS status=0 copy writer
  shift
  say "==== testing: $label"
  output=$(mktemp)
  exec {copy}> >(tee "$output")
  writer=$!
  in_session timeout --kill-after=10 "$time_limit" \
    cargo test --no-fail-fast "$@" -- "${test_arguments[@]}" >&"$copy" 2>&1 {copy}>&- || status=$?
  exec {copy}>&-
  wait "$writer" || true
  case $status in
    0) result PASSED "$label  ($((SECONDS - begin)) s)" ;;
    124) failure FAILED "$label: no end after $time_limit seconds" ;;
    *) failure FAILED "$label  ($((SECONDS - begin)) s)" ;;
  esac
  ((status == 0)) || results+=("$(failed_tests <"$output")")
  rm -f "$output"
  output=
  ((${#test_arguments[@]} == 0)) || ran=$((ran + $(count_tests "$@")))
  return "$status"
}

# failed_tests: the tests that failed, and what they said, from the output of the test programs.
failed_tests() {
  awk '
    /^---- .* stdout ----$/ { lines = 0; inside = 1; print "        " $2; next }
    /^stack backtrace:|^failures:$/ { inside = 0 }
    inside && NF && lines < 6 { lines++; print "          " substr($0, 1, 300) }
  ' | head -n 60
}

# count_tests CARGO_ARGUMENT...: those that `test_arguments` choose.
count_tests() {
  cargo test --quiet "$@" -- "${test_arguments[@]}" --list 2>/dev/null </dev/null | grep -c ': test$' || true
}

# some_test_ran BACKEND: no test with the name that was given is a failure, unless none could run.
some_test_ran() {
  [[ $ran != 0 ]] || failure "NO TEST" "$1: ${test_arguments[*]}"
  ran=
}

# in_session COMMAND...: wait for it in such a way that a signal ends the waiting. A session of its
# own makes it possible to end the command with everything that it started.
in_session() {
  local status=0
  setsid "$@" </dev/null &
  child=$!
  wait "$child" || status=$?
  child=
  return "$status"
}

# The end.

result() { results+=("$1  $2"); }

failure() {
  result "$@"
  failed=1
}

summary() {
  say ""
  printf '%s\n' "${results[@]}"
  exit "$failed"
}

cleanup() {
  trap '' HUP INT TERM # impatience must not leave anything behind
  if [[ -n $child ]]; then
    kill -TERM -- "-$child" 2>/dev/null || true
    wait "$child" || true
  fi
  [[ -z $output ]] || rm -f "$output"
  [[ -z $current ]] || stop
  [[ -z $temporary ]] || rm -rf "$temporary"
  allow_services
}

main "$@"
