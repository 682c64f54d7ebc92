# shellcheck shell=bash
# The tests that end connections and servers, on servers of their own that keep what they have
# committed: soak/.

losses="transfers under losses"

# lose_backends BACKEND...: nothing but these.
lose_backends() {
  begin "$@"
  lose "$@"
  summary
}

# lose BACKEND...: SQLite has neither connections nor servers.
lose() {
  local backend seconds=0
  for backend; do
    [[ $backend == sqlite ]] || lose_own_servers "$backend"
  done
  # The rest of the tests must not be left out for want of time.
  if ((!${DBOP_SOAK_SECONDS:-0} && seconds > 180)); then
    failure "TOO SLOW" "$losses: $seconds s, more than three minutes"
  fi
}

# lose_own_servers BACKEND: on one server of each version.
lose_own_servers() {
  local row rows target
  choose_target "$1"
  target=("${target[@]:0:4}" --test "soak_${target[3]}")
  build "$1: $losses" "${target[@]}" || return 0
  mapfile -t rows < <(servers_of "$1")
  for row in "${rows[@]}"; do
    [[ $row != *=* ]] || continue # the options are about other things
    current=$temporary/$(id_of "$row")-durable
    mkdir "$current"
    : >"$current/durable"
    if start "$current" "$row"; then
      lose_server "$current" || keep_log "$current"
    fi
    stop
  done
}

# lose_server DIR: the test may kill it, and has to start it again.
lose_server() {
  local label status=0 begin=$SECONDS time_limit=$((time_limit + 4 * ${DBOP_SOAK_SECONDS:-0}))
  label=$(<"$1/label")
  DBOP_TEST_URL=$(<"$1/url") DBOP_TEST_SERVER=$label DBOP_TEST_DIR=$1 RUST_TEST_NOCAPTURE=1 \
    run_tests "$label: $losses" "${target[@]}" || status=$?
  seconds=$((seconds + SECONDS - begin))
  return "$status"
}
