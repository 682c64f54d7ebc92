# shellcheck shell=bash
# What an operation costs, beside the same work in Diesel's own words. ../bench.
#
# What is measured goes to `bench` in cargo's target folder. Without arguments everything is measured, and
# then drawn in docs/cost.md. DBOP_BENCH_SIZE=quick does so with tiny numbers, to see that it works: the page
# goes to that folder then, because the figures are worth nothing.

bench_example=
bench_expects= # while it is not empty, nothing is measured, but the time is added up
bench_expected=0
bench_pairs=20
bench_seconds=0.12
bench_operations=100
bench_docs=docs

# What the table of guarantees needs; for tasks, which differ in little, and for a server that syncs its files,
# what says most.
bench_guarantees=bare1,run1,checked1,settings1,nested3,readonly1,plain1
bench_on_servers=unset1,ledger1,keyed1
bench_few=bare1,run1,nested3

# bench_backends BACKEND...: on one server of each, the version that is tested first.
bench_backends() {
  local backend
  begin "$@"
  bench_out=$(realpath -m "${CARGO_TARGET_DIR:-target}/bench")
  case ${DBOP_BENCH_SIZE:-full} in
    full) ;;
    quick)
      bench_pairs=2 bench_seconds=0.02 bench_operations=4 bench_out+=-quick bench_docs=$bench_out
      rm -rf "$bench_out"
      ;;
    *) die "DBOP_BENCH_SIZE is full or quick, not $DBOP_BENCH_SIZE" ;;
  esac
  mkdir -p "$bench_out"
  build_bench || summary
  ((${#test_arguments[@]})) || tell_how_long_bench_takes "$@"
  for backend; do
    if [[ $backend == sqlite ]]; then
      bench_on sqlite
      continue
    fi
    bench_on_server "$backend" '' bench_on
    ((${#test_arguments[@]})) || bench_on_server "$backend" durable bench_on_durable
  done
  if ((${#test_arguments[@]} == 0)); then
    [[ " $* " != *" sqlite "* ]] || bench_without_server
    "$bench_example" render "$bench_out/results.jsonl" --docs "$bench_docs"
    say "==== the page is $bench_docs/cost.md"
  fi
  summary
}

build_bench() {
  local target=${CARGO_TARGET_DIR:-target}
  say "==== building: bench"
  in_session cargo build --release -p dbop-tests --features "sqlite,$features" --example bench || {
    failure FAILED "bench does not build"
    return 1
  }
  bench_example=$(realpath "$target/release/examples/bench")
}

# tell_how_long_bench_takes BACKEND...: before it begins.
tell_how_long_bench_takes() {
  local backend
  bench_expects=yes
  for backend; do
    bench_on "$backend"
    case $backend in
      sqlite) bench_expected=$((bench_expected + 150)) ;; # what counts instructions, and builds
      *)
        bench_on_durable "$backend"
        bench_expected=$((bench_expected + 15)) # servers start and stop
        ;;
    esac
  done
  bench_expects=
  say "==== measuring: this takes about $(((bench_expected + 59) / 60)) minutes, and nothing else should run meanwhile"
}

# bench_on_server BACKEND durable|'' FUNCTION: start one, durable or not, and measure on it.
bench_on_server() {
  local row rows
  mapfile -t rows < <(servers_of "$1")
  row=${rows[0]}
  current=$temporary/$(id_of "$row")-bench
  mkdir "$current"
  [[ -z $2 ]] || : >"$current/durable"
  if start "$current" "$row"; then
    "$3" "$1"
  fi
  stop
}

# bench_on BACKEND: on the current server, or on SQLite.
bench_on() {
  local all=$bench_guarantees
  if ((${#test_arguments[@]})); then
    bench "$1" "${test_arguments[@]}"
    return
  fi
  if [[ $1 == sqlite ]]; then
    # Writers of one file only wait for each other.
    bench sqlite op --sqlite --cases "$all"
    bench sqlite op --sqlite --cases "$bench_few" --async
    bench sqlite op --memory --cases run1,bare1 --conc 1,2,4,8,16,32,64
    return
  fi
  all+=,$bench_on_servers
  [[ $1 == postgres ]] || all+=,contained1
  bench "$1" op --cases "$all" --conc 16
  bench "$1" op --cases "$bench_few" --conc 16 --async
}

# bench_on_durable BACKEND: with and without a ledger or a key, where each COMMIT waits for the disk.
bench_on_durable() {
  bench "$1" op --cases runon1/runon1,ledger1,keyed1 --conc 32 --note durable
}

# bench BACKEND ARGUMENT...: one run.
bench() {
  local server=(env -u DBOP_TEST_URL) backend=$1
  shift
  if ((${#test_arguments[@]} == 0)); then
    set -- "$@" --pairs "$bench_pairs" --seconds "$bench_seconds" --out "$bench_out/results.jsonl"
  fi
  if [[ -n $bench_expects ]]; then
    bench_expected=$((bench_expected + $(DBOP_TEST_URL=${backend/mariadb/mysql}: "$bench_example" "$@" --expect)))
    return
  fi
  [[ $backend == sqlite ]] || server=(env DBOP_TEST_URL="$(<"$current/url")")
  if in_session "${server[@]}" "$bench_example" "$@"; then
    result MEASURED "$backend $*"
  else
    failure FAILED "$backend $*"
  fi
}

# bench_without_server: what is counted, and what compiling costs.
bench_without_server() {
  local script=$tests/instructions/run.sh
  if [[ ! -x $script ]]; then
    result "NOT AVAILABLE" "instructions: there is no $script"
  elif ! command -v valgrind >/dev/null; then
    result "NOT AVAILABLE" "instructions: this needs valgrind"
  elif in_session "$script" --markdown >"$bench_out/instructions.md"; then
    result COUNTED "instructions"
  else
    failure FAILED "instructions"
  fi
  if in_session "$tests/build-cost/run.sh" --operations "$bench_operations" --out "$bench_out/results.jsonl"; then
    result MEASURED "the CPU time of builds"
  else
    failure FAILED "the CPU time of builds"
  fi
}
