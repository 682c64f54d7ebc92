#!/usr/bin/env bash
set -euo pipefail

# What generates the crates. Its usage and its main are replaced below.
source "$(dirname "${BASH_SOURCE[0]}")/../llvm-lines/run.sh"

usage() {
  cat <<'TEXT'
Measures what operations cost to compile: the CPU time of a release build.

usage: tests/build-cost/run.sh [--operations N] [--rounds N] [--out FILE]

Crates of N operations (100) are generated as tests/llvm-lines does it, once with Diesel's bare `transaction`
and once with dbop. Their dependencies are built first and do not count. Each is built --rounds times (3), in
turns, and the least CPU time counts: what else the machine does only ever adds to it.

A line of JSON is printed for each adapter, and added to FILE. The sync crate uses SQLite, the async one
PostgreSQL. Nothing is linked, so no client library is needed.
TEXT
}

operations=100
rounds=3
out=

main() {
  local adapter
  while (($#)); do
    case $1 in
      --operations) operations=$2 ;;
      --rounds) rounds=$2 ;;
      --out) out=$2 ;;
      -h | --help)
        usage
        exit
        ;;
      *)
        usage >&2
        exit 2
        ;;
    esac
    shift 2
  done
  [[ -z $out ]] || out=$(realpath -m "$out")
  target=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}/build-cost")
  export CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0
  generate_package
  for adapter in sync asynchronous; do
    measure "$adapter"
  done
}

# measure ADAPTER: print the line.
measure() {
  local way round name=sync line
  local -A least=()
  [[ $1 == sync ]] || name=async
  generate_crate "$1" "$operations" >"$package/src/lib.rs"
  # The first round builds the dependencies, and does not count.
  for ((round = 0; round <= rounds; round++)); do
    for way in bare run; do
      build "$way"
      if ((round)) && { [[ -z ${least[$way]-} ]] || ((milliseconds < least[$way])); }; then
        least[$way]=$milliseconds
      fi
    done
  done
  line=$(printf '{"adapter":"%s","operations":%d,"bare_s":%s,"dbop_s":%s}' \
    "$name" "$operations" "$(in_seconds "${least[bare]}")" "$(in_seconds "${least[run]}")")
  echo "$line"
  [[ -z $out ]] || echo "$line" >>"$out"
}

# build WAY: set `milliseconds` to the CPU time of the build, that of cargo included.
build() {
  local TIMEFORMAT=%U time
  touch "$package/src/lib.rs"
  time=$({ time cargo rustc --quiet --release --lib --manifest-path "$package/Cargo.toml" -- \
    -Awarnings --cfg "$1" 2>/dev/null; } 2>&1) || {
    echo "error: the crate does not build: see cargo rustc --manifest-path $package/Cargo.toml" >&2
    exit 1
  }
  milliseconds=$((10#${time/./}))
}

# in_seconds MILLISECONDS
in_seconds() { printf '%d.%03d' "$(($1 / 1000))" "$(($1 % 1000))"; }

main "$@"
