# shellcheck shell=bash
# Tests that have a server to themselves: they may stop it, kill it and start it again.

# alone TARGET WHAT BACKEND [OPTION]: run the tests TARGET_BACKEND, on one server of each version. Adds
# to `seconds` how long they took.
alone() {
  local row rows target
  choose_target "$3" "$1"
  build "$3: $2" "${target[@]}" || return 0
  mapfile -t rows < <(servers_of "$3")
  for row in "${rows[@]}"; do
    [[ $row != *=* ]] || continue # the options are about other things
    current=$temporary/$(id_of "$row")-$1
    mkdir "$current"
    [[ $1 != soak ]] || : >"$current/durable"
    if start "$current" "$row${4:+ $4}"; then
      test_alone "$current" "$2" || keep_log "$current"
    fi
    stop
  done
}

# test_alone DIR WHAT: the test finds there how to start the server again. What takes `several` servers is
# tested behind the rest.
test_alone() {
  local status=0 begin=$SECONDS test_arguments=("${test_arguments[@]}")
  if ((${#test_arguments[@]} || ${#several[@]} == 0)); then
    test_on "$@" || status=$?
    seconds=$((seconds + SECONDS - begin))
    return "$status"
  fi
  test_arguments=("${several[@]/#/--skip=}")
  test_on "$@" || status=$?
  seconds=$((seconds + SECONDS - begin))
  test_arguments=("${several[@]}")
  test_on "$1" "several servers" || status=$?
  return "$status"
}

# test_on DIR WHAT
test_on() {
  local label
  label=$(<"$1/label")
  DBOP_TEST_URL=$(<"$1/url") DBOP_TEST_SERVER=$label DBOP_TEST_DIR=$1 \
    run_tests "$label: $2" "${target[@]}"
}
