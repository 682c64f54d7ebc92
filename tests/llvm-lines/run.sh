#!/usr/bin/env bash
set -euo pipefail

usage() {
  cat <<'TEXT'
Measures what each further operation costs to compile: the lines of LLVM IR in a release build.

usage: tests/llvm-lines/run.sh [--check]

Crates of 20 and of 40 operations are generated and compiled, with the features that observe them, once with Diesel's bare `transaction`
and once with dbop: with `Runner::run`, with `run` of a named operation that has a lock timeout, and
with `run_on`. The lines counted are those of function definitions, without empty ones. What is
printed is the slope from 20 to 40 operations, so that what a crate needs only once does not count:
for bare Diesel, for dbop, and the difference, which is what dbop adds.

--check fails if dbop adds more than the limit, and measures only the rows that have one.

The sync crate uses SQLite, the async one PostgreSQL. Nothing is linked, so no client library is needed.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
few=20
many=40

# What has a limit: ADAPTER METHOD LINES. A row without one is for information.
rows=(
  "sync run 290"
  "asynchronous run 340"
  "sync operation"
  "asynchronous operation"
  "sync run_on"
  "asynchronous run_on"
)

main() {
  local check=
  case ${1-} in
    --check) check=yes ;;
    "") ;;
    -h | --help)
      usage
      exit
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  target=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}/llvm-lines")
  export CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0
  declare -gA slopes=()
  generate_package

  local row adapter method limit added status=0
  printf '%-14s%-11s%8s%8s%8s%8s\n' adapter method bare dbop added limit
  for row in "${rows[@]}"; do
    read -r adapter method limit <<<"$row"
    [[ -z $check || -n $limit ]] || continue
    slope "$adapter" bare
    slope "$adapter" "$method"
    added=$((slopes[$adapter $method] - slopes[$adapter bare]))
    printf '%-14s%-11s%8d%8d%8d%8s\n' "$adapter" "$method" \
      "${slopes[$adapter bare]}" "${slopes[$adapter $method]}" "$added" "$limit"
    if [[ -n $check ]] && ((added > limit)); then
      status=1
    fi
  done
  if ((status)); then
    echo "error: an operation costs more lines of LLVM IR than the limit" >&2
  fi
  return "$status"
}

# A package that no workspace knows, with the versions that the workspace is tested with.
generate_package() {
  local root
  root=$(realpath "$here/../..")
  package=$target/package
  mkdir -p "$package/src"
  cp "$root/Cargo.lock" "$package/Cargo.lock"
  cat >"$package/Cargo.toml" <<TOML
[package]
name = "operations"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
dbop-diesel = { path = "$root/dbop-diesel", features = ["metrics", "sqlite", "tracing"] }
dbop-diesel-async = { path = "$root/dbop-diesel-async", features = ["postgres"] }
diesel = { version = "*", default-features = false }
diesel-async = { version = "*", default-features = false }

[profile.release]
codegen-units = 1
TOML
}

# slope ADAPTER METHOD: set it, in lines for each operation.
slope() {
  local with_few with_many
  [[ -z ${slopes[$*]-} ]] || return 0
  count "$@" "$few"
  with_few=$lines
  count "$@" "$many"
  with_many=$lines
  slopes[$*]=$(((with_many - with_few) / (many - few)))
}

# count ADAPTER METHOD OPERATIONS: set `lines` to those of the crate's functions.
count() {
  local ir=$target/$1-$2-$3.ll
  rm -f "$ir"
  generate_crate "$1" "$3" >"$package/src/lib.rs"
  cargo rustc --quiet --release --lib --manifest-path "$package/Cargo.toml" -- \
    -Awarnings --cfg "$2" --emit "llvm-ir=$ir"
  lines=$(awk '/^define /, /^}/ { count += NF > 0 } END { print count + 0 }' "$ir")
  ((lines)) || {
    echo "error: no function in $ir" >&2
    exit 1
  }
}

# generate_crate ADAPTER OPERATIONS
generate_crate() {
  local i kinds=(read transfer name list)
  cat "$here/$1.rs"
  for ((i = 0; i < $2; i++)); do
    printf '%s!(operation_%d, %d);\n' "${kinds[i % ${#kinds[@]}]}" "$i" "$i"
  done
}

# ../build-cost has use for the crates.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
