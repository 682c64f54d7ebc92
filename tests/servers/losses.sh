# shellcheck shell=bash
# The tests that end connections and servers, on servers of their own that keep what they have
# committed: soak/.

losses="transfers under losses"

# The tests that take several servers. They are no losses of connections, and have a time of their own.
several=()
of_several=(when_standbys_take_over a_read_sees_what_its_caller_has_committed)

# lose_backends BACKEND...: nothing but these.
lose_backends() {
  begin "$@"
  lose "$@"
  summary
}

# cluster_backends BACKEND...: nothing but the transfers on several servers.
cluster_backends() {
  local backend seconds=0 time_limit=$((time_limit + 2 * ${DBOP_SOAK_SECONDS:-0}))
  local -x RUST_TEST_NOCAPTURE=1
  begin "$@"
  ((${#test_arguments[@]})) || test_arguments=(what_is_said_about_transfers_is_true_when)
  for backend; do
    case $backend in
      postgres) alone soak "transfers on two servers" postgres ;;
      mariadb) test_galera ;;
      mysql) test_group ;;
    esac
  done
  summary
}

# lose BACKEND...: SQLite has neither connections nor servers.
lose() {
  local backend seconds=0 time_limit=$((time_limit + 4 * ${DBOP_SOAK_SECONDS:-0}))
  local several=("${of_several[@]}")
  for backend; do
    [[ $backend == sqlite ]] || RUST_TEST_NOCAPTURE=1 alone soak "$losses" "$backend"
    some_test_ran "$backend"
  done
  # The rest of the tests must not be left out for want of time.
  if ((!${DBOP_SOAK_SECONDS:-0} && seconds > 180)); then
    failure "TOO SLOW" "$losses: $seconds s, more than three minutes"
  fi
}
