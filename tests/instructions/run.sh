#!/usr/bin/env bash
set -euo pipefail

usage() {
  cat <<'TEXT'
Counts the instructions that operations take in the client, and fails where they are more than allowed.

usage: tests/instructions/run.sh [--markdown] [postgres | mysql]

Without a backend the operations run on SQLite in memory, once as they are and once with everything compiled
in that can observe them, and is off. With one they run on the server at DBOP_TEST_URL, sync and async.

Each row compares an operation with another way to do the same: `bare` is Diesel's own transaction, `by_hand`
sends the very SQL that dbop sends. The difference of two runs leaves only what each further time costs.
Needs valgrind.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
few=200
many=400
# What a newer compiler adds, in percent, need not be a failure.
room=5

# ADAPTER CASE PARTNER MORE PERCENT: how many instructions more than its partner it may take, and how many
# percent of its partner's. `-`: for information.
on_sqlite=(
  "sync run1 by_hand1 1500 -"
  "sync run1 bare1 - 133"
  "sync named by_hand1 1500 -"
  "sync report by_hand1 2700 -"
  "sync lock_timeout bare1 - 200"
  "sync deadline bare1 - 158"
  "sync run_read bare_read - 177"
  "sync read_only bare_read - 316"
  "sync without_transaction plain_read 3600 -"
  "sync nested3 by_hand3 5900 -"
  "sync nested3 bare3 - 110"
  "sync steps3 bare3 - 101"
)
on_postgres=(
  "sync run1 by_hand1 - -"
  "sync run1 bare1 - -"
  "sync nested3 bare3 - -"
  "sync steps3 bare3 - -"
  "async run1 by_hand1 - -"
  "async run1 bare1 - -"
  "async nested3 bare3 - -"
  "async steps3 bare3 - -"
)
on_mysql=("${on_postgres[@]}")

main() {
  local backend=sqlite style=plain
  while (($#)); do
    case $1 in
      --markdown) style=markdown ;;
      postgres | mysql) backend=$1 ;;
      -h | --help)
        usage
        exit
        ;;
      *)
        usage >&2
        exit 2
        ;;
    esac
    shift
  done
  command -v valgrind >/dev/null || { echo "this needs valgrind: apt-get install valgrind" >&2; exit 1; }
  output=$(mktemp)
  trap 'rm -f "$output"' EXIT
  status=0
  declare -gA counts=()
  local -n rows=on_$backend
  case $backend in
    sqlite)
      unset DBOP_TEST_URL
      compare "SQLite" ""
      compare "SQLite, with what observes, switched off" observed
      ;;
    *)
      : "${DBOP_TEST_URL:?the server to count on}"
      compare "$backend" "$backend"
      ;;
  esac
  return "$status"
}

# compare TITLE FEATURES: build the program and print all rows.
compare() {
  local row adapter case partner more percent count base verdict
  (cd "$here/../.." && cargo build --quiet --release -p dbop-instructions --features "$2")
  program=${CARGO_TARGET_DIR:-$here/../../target}/release/dbop-instructions
  counts=()
  head_of "$1"
  for row in "${rows[@]}"; do
    read -r adapter case partner more percent <<<"$row"
    count_once "$adapter" "$case"
    count_once "$adapter" "$partner"
    count=${counts[$adapter $case]} base=${counts[$adapter $partner]}
    verdict=
    if [[ $more != - ]] && (((count - base) * 100 > more * (100 + room))); then
      verdict="TOO MANY"
    fi
    if [[ $percent != - ]] && ((count * 100 > base * (percent + room))); then
      verdict="TOO MANY"
    fi
    [[ -z $verdict ]] || status=1
    row_of "$adapter" "$case" "$count" "$partner" "$base" "$((count - base))" "$more" \
      "$(((count * 100 + base / 2) / base))" "$percent" "$verdict"
  done
}

head_of() {
  case $style in
    markdown)
      printf '\n%s\n\n' "$1"
      printf '| | | instructions | compared with | instructions | more | limit | percent | limit |\n'
      printf '|---|---|---|---|---|---|---|---|---|\n'
      ;;
    *)
      printf '%s\n' "$1"
      printf '%-6s%-20s%8s  %-11s%8s%8s%7s%5s%6s\n' \
        "" operation count "compared to" count more limit % limit
      ;;
  esac
}

row_of() {
  case $style in
    markdown) printf '| %s | %s | %d | %s | %d | %d | %s | %d | %s |\n' "${@:1:9}" ;;
    *) printf '%-6s%-20s%8d  %-11s%8d%8d%7s%5d%6s  %s\n' "$@" ;;
  esac
}

# count_once ADAPTER CASE: the instructions that each further time takes, unless they are counted already.
count_once() {
  local small large
  [[ -z ${counts[$*]-} ]] || return 0
  small=$(count "$@" "$few")
  large=$(count "$@" "$many")
  counts[$*]=$(((large - small) / (many - few)))
}

# count ADAPTER CASE TIMES: the instructions of the whole program.
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>"$output" ||
    { cat "$output" >&2; exit 1; }
  sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$output"
}

main "$@"
