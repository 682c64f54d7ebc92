#!/usr/bin/env bash
set -euo pipefail

usage() {
  cat <<'TEXT'
Changes dbop-core in many small ways, by cargo-mutants: its unit tests have to notice.

usage: tests/mutants/run.sh [ARGUMENT...]

Fails if less than 95 % of the mutants are caught, or if one that is not caught is missing from
survivors.txt, which gives the reason for each. mutants.toml says which mutants are left out.

Arguments go to cargo-mutants; `--file dbop-core/src/retry.rs` looks at one file only. Without any,
a line of survivors.txt whose mutant is caught, or is no longer there, is an error too.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
least=95 # per cent

main() {
  local status=0
  if [[ ${1-} == -h || ${1-} == --help ]]; then
    usage
    exit
  fi
  cd "$here/../.."
  cargo mutants --version >/dev/null 2>&1 || die "this needs a tool: cargo install cargo-mutants"
  output=$(realpath -m "${CARGO_TARGET_DIR:-target}/mutants")
  mkdir -p "$output"
  # 2: some are missed, 3: some took too long.
  # Incremental, whatever the caller has set: each mutant changes one line.
  env -u CARGO_TARGET_DIR CARGO_INCREMENTAL=1 \
    cargo mutants --config "$here/mutants.toml" --package dbop-core --output "$output" "$@" || status=$?
  ((status == 0 || status == 2 || status == 3)) || exit "$status"
  judge "$#"
}

# judge ARGUMENTS: compare the result with the list and the least share.
judge() {
  local caught missed unlisted stale=
  caught=$(cat "$output"/mutants.out/{caught,timeout}.txt | wc -l)
  missed=$(wc -l <"$output/mutants.out/missed.txt")
  ((caught + missed)) || die "no mutant was tested"
  unlisted=$(comm -23 <(names "$output/mutants.out/missed.txt") <(names "$here/survivors.txt"))
  (($1)) ||
    stale=$(comm -13 <(names "$output/mutants.out/missed.txt") <(names "$here/survivors.txt"))
  printf '%d of %d caught: %d %%\n' "$caught" $((caught + missed)) $((100 * caught / (caught + missed)))
  [[ -z $unlisted ]] || printf 'not caught, and not in survivors.txt:\n%s\n' "$unlisted"
  [[ -z $stale ]] || printf 'in survivors.txt, but caught or gone:\n%s\n' "$stale"
  [[ -z $unlisted$stale ]] && ((100 * caught >= least * (caught + missed)))
}

# names FILE: its mutants without line and column, which change with every edit.
names() {
  sed -E '/^(#|$)/d; s/:[0-9]+:[0-9]+:/:/' "$1" | sort
}

die() {
  echo "error: $1" >&2
  exit 1
}

main "$@"
