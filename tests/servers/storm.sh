# shellcheck shell=bash
# The storms: many clients on a few rows, under one policy of retries after another. ../storm.
#
# What is measured goes to `storm` in cargo's target folder. Without arguments everything is measured, and
# then drawn in docs/storms.md.

storm_seconds=${DBOP_STORM_SECONDS:-3}
storm_example=
storm_expects= # while it is not empty, nothing is measured, but the time is added up
expected=0

# The policies that say most: for the cells in which not every one is measured.
few='one alone;one alone, by dbop;loop;backon;5 retries;default;20 retries, 10 ms;gate by name;gate by key'
# Where there is only a queue, and nothing to retry.
in_a_queue='one alone;one alone, by dbop;loop;default;gate by name;gate by key'
# In several processes there is no one alone.
in_company='loop;default;20 retries, 10 ms;gate by name;gate by key'

# storm_backends BACKEND...: on one server of each, the version that is tested first.
storm_backends() {
  local backend row rows
  begin "$@"
  storm_out=$(realpath -m "${CARGO_TARGET_DIR:-target}/storm")
  build_storm || summary
  measures_nothing || tell_how_long "$@"
  for backend; do
    if [[ $backend == sqlite ]]; then
      storms_on sqlite
      continue
    fi
    mapfile -t rows < <(servers_of "$backend")
    row=${rows[0]}
    current=$temporary/$(id_of "$row")-storm
    if start "$current" "$row"; then
      storms_on "$backend"
    fi
    stop
  done
  if ((${#test_arguments[@]} == 0)); then
    "$storm_example" --render docs --out "$storm_out"
  fi
  summary
}

build_storm() {
  local target=${CARGO_TARGET_DIR:-target}
  say "==== building: storm"
  in_session cargo build --release -p dbop-tests --features "sqlite,$features" --example storm || {
    failure FAILED "storm does not build"
    return 1
  }
  storm_example=$(realpath "$target/release/examples/storm")
}

# measures_nothing: whether the arguments only ask for a list or for help.
measures_nothing() {
  local argument
  for argument in "${test_arguments[@]}"; do
    case $argument in
      --list | --help | -h) return 0 ;;
    esac
  done
  return 1
}

# tell_how_long BACKEND...: before it begins.
tell_how_long() {
  local backend
  storm_expects=yes
  for backend; do
    storms_on "$backend"
  done
  storm_expects=
  say "==== measuring: this takes about $(((expected + 59) / 60)) minutes, and nothing else should run meanwhile"
}

# storms_on BACKEND: on the current server, or on SQLite.
storms_on() {
  local all
  if ((${#test_arguments[@]})); then
    storm "$1" "${test_arguments[@]}"
    return
  fi
  all=$(contended "$1")
  # Every policy, where there are most conflicts; elsewhere those that say most.
  storm "$1" --clients 32 --cells "$all"
  storm "$1" --clients 8,64,128 --cells "$all" --policies "$few"
  case $1 in
    sqlite) storm sqlite --clients 8,32 --cells busy-hot-row,waiting-transfers --policies "$few" ;;
    postgres)
      storm postgres --clients 8,32,64,128 --policies "$few" \
        --cells transfers-1s,serializable-hot-row
      storm postgres --clients 32 --policies "$few" --cells serializable-transfers
      ;;
    *) storm "$1" --clients 8,32,64 --cells serializable-hot-row --policies "$few" ;;
  esac
  [[ $1 == sqlite ]] || storm "$1" --clients 32 --cells hot-row --policies "$in_a_queue"
  # On tasks; and those who come one after the other, or in two processes.
  storm "$1" --clients 32 --async --cells "$all" --policies "$in_company"
  storm "$1" --clients 32 --ramp 2 --cells "$all" --policies "$in_company"
  storm "$1" --clients 32 --processes 2 --cells "$all" --policies "$in_company"
  # The same twice: the noise.
  storm "$1" --clients 32 --repeat 2 --cells "$all" --policies 'one alone;backon;default;gate by key'
  [[ $1 != postgres ]] || storm postgres --outage 20
}

# contended BACKEND: the cell with the most conflicts.
contended() {
  case $1 in
    sqlite) say busy-transfers ;;
    *) say transfers ;;
  esac
}

# storm BACKEND ARGUMENT...: one run.
storm() {
  local server=(env -u DBOP_TEST_URL) backend=$1
  shift
  set -- --seconds "$storm_seconds" --out "$storm_out" "$@"
  if [[ -n $storm_expects ]]; then
    expected=$((expected + $(DBOP_TEST_URL=${backend/mariadb/mysql}: "$storm_example" --expect "$@")))
    return
  fi
  # It is stopped and started again, too.
  [[ $backend == sqlite ]] || server=(env DBOP_TEST_URL="$(<"$current/url")" DBOP_TEST_DIR="$current")
  if in_session "${server[@]}" "$storm_example" "$@"; then
    result MEASURED "$backend $*"
  else
    failure FAILED "$backend $*"
  fi
}
