# shellcheck shell=bash
# The storms: many clients on a few rows, under one policy of retries after another. ../storm.
#
# What is measured goes to `storm` in cargo's target folder. Without arguments everything is measured, and
# then drawn in docs/storms.md.

storm_seconds=${DBOP_STORM_SECONDS:-5}
storm_example=

# storm_backends BACKEND...: on one server of each, the version that is tested first.
storm_backends() {
  local backend row
  begin "$@"
  storm_out=$(realpath -m "${CARGO_TARGET_DIR:-target}/storm")
  build_storm || summary
  for backend; do
    if [[ $backend == sqlite ]]; then
      storms_on sqlite
      continue
    fi
    row=$(servers_of "$backend" | head -n 1)
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

# storms_on BACKEND: on the current server, or on SQLite.
storms_on() {
  if ((${#test_arguments[@]})); then
    storm "$1" "${test_arguments[@]}"
    return
  fi
  storm "$1" --clients 8,32,64,128
  # Those who come one after the other, in two processes, and on tasks.
  storm "$1" --clients 32 --ramp 2 --cells "$(contended "$1")"
  storm "$1" --clients 32 --processes 2 --cells "$(contended "$1")"
  storm "$1" --clients 32 --async --cells "$(contended "$1")"
  # The same twice: the noise.
  storm "$1" --clients 32 --repeat 2 --cells "$(contended "$1")" \
    --policies 'one alone;loop without end;default'
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
  # It is stopped and started again, too.
  [[ $backend == sqlite ]] || server=(env DBOP_TEST_URL="$(<"$current/url")" DBOP_TEST_DIR="$current")
  if in_session "${server[@]}" "$storm_example" --seconds "$storm_seconds" --out "$storm_out" "$@"; then
    result MEASURED "$backend $*"
  else
    failure FAILED "$backend $*"
  fi
}
