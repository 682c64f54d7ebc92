#!/usr/bin/env bash
set -euo pipefail

usage() {
  cat <<'TEXT'
Packages the published crates as for a registry, and uses the packages as a newcomer does.

usage: tests/packages/run.sh [BACKEND...]
       tests/packages/run.sh minimal-versions

The packages are unpacked under `packages` in cargo's target folder. Each has to be complete and, with
nothing of the checkout beside it, has to build with all features and pass its doctests.

Then a new project is made for each adapter, by the install lines of README.md, with its first program.
BACKEND is sqlite (the default), postgres, mysql or all. On SQLite the program runs. For the other two it
is built, and runs if DBOP_TEST_URL names such a server. A project that has forgotten the feature of its
backend has to fail, with a message that names it.

It needs cargo 1.90 or later, which packages several crates that depend on each other.

minimal-versions builds the packages with the lowest versions that their Cargo.toml allows, which needs
a nightly compiler and the network. Otherwise nothing is downloaded that the checkout does not need.
TEXT
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
crates=(dbop-core dbop-diesel dbop-diesel-async)
projects= # the folder with the new projects

main() {
  local minimal='' backend backends=()
  while (($#)); do
    case $1 in
      minimal-versions) minimal=yes ;;
      sqlite | postgres | mysql) backends+=("$1") ;;
      all) backends=(sqlite postgres mysql) ;;
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
  ((${#backends[@]})) || backends=(sqlite)
  cd "$root"
  target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
  export CARGO_TARGET_DIR=$target CARGO_TERM_COLOR=never # what cargo says is read
  packages=$target/packages
  version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
  cargo fetch --quiet --locked
  pack
  if [[ -n $minimal ]]; then
    minimal_versions
    return
  fi
  export CARGO_NET_OFFLINE=true
  part "doctests of the packages"
  (cd "$packages" && cargo test --quiet --workspace --all-features --doc)
  trap cleanup EXIT
  projects=$(mktemp -d)
  for backend in "${backends[@]}"; do
    newcomer sync "$backend"
    newcomer async "$backend"
  done
}

# pack: make the packages, unpack them, and put them into a workspace of their own.
pack() {
  local crate output
  part "packages"
  output=$(cargo package --offline --no-verify --allow-dirty "${crates[@]/#/--package=}" 2>&1) ||
    die "$output"
  ! grep -q '^warning' <<<"$output" || die "$output"
  rm -rf "$packages"
  mkdir -p "$packages"
  for crate in "${crates[@]}"; do
    # Not with the times of the archive: they never change, so cargo would take any version for built.
    tar --touch -xzf "$target/package/$crate-$version.crate" -C "$packages"
    complete "$crate" "$packages/$crate-$version"
  done
  # The profile is that of the checkout, so that dependencies are not built twice.
  {
    say '[workspace]' 'resolver = "3"' "members = [\"*-$version\"]" ''
    patches
    sed -n '/^\[profile.dev\]/,$p' Cargo.toml
  } >"$packages/Cargo.toml"
  cp Cargo.lock "$packages"
}

# complete CRATE FOLDER: what cargo does not ask for, or takes from elsewhere, is there.
complete() {
  local file key
  cmp LICENSE "$2/LICENSE"
  for file in README.md docs; do
    [[ ! -e $1/$file ]] || diff -r --exclude="*.svg" --exclude=storms --exclude=cost "$1/$file" "$2/$file"
  done
  for key in description documentation readme keywords categories license rust-version; do
    grep -q "^$key = " "$2/Cargo.toml" || die "$1: the package has no $key"
  done
}

# patches: what makes cargo take the packages where a registry has none yet.
patches() {
  local crate
  say '[patch.crates-io]'
  for crate in "${crates[@]}"; do
    say "$crate = { path = \"$packages/$crate-$version\" }"
  done
  say ''
}

# newcomer ADAPTER BACKEND: a project made as README.md says.
newcomer() {
  local project=$projects/$1-$2 crate=dbop-diesel line words
  [[ $1 == sync ]] || crate=dbop-diesel-async
  part "a newcomer's project, $1, $2"
  cargo new --quiet --vcs none "$project"
  {
    say ''
    patches
    sed -n '/^\[profile.dev\]/,/^$/p' Cargo.toml
  } >>"$project/Cargo.toml"
  cp Cargo.lock "$project"
  while read -r line; do
    read -ra words <<<"$line"
    [[ ${words[2]} != "$crate" ]] || words+=(--path "$packages/$crate-$version")
    (cd "$project" && "${words[@]}" --quiet)
  done < <(install_lines "$1" "$2")
  program "$1" "$2" >"$project/src/main.rs"
  if [[ $2 == sqlite ]]; then
    (cd "$project" && cargo run --quiet)
    forgotten_feature "$project" "$1" "$crate"
  elif [[ ${DBOP_TEST_URL-} == "$2"://* ]]; then
    (cd "$project" && DATABASE_URL=$DBOP_TEST_URL cargo run --quiet)
  else
    (cd "$project" && cargo build --quiet)
  fi
}

# install_lines ADAPTER BACKEND: the lines of README.md that install an adapter.
install_lines() {
  local lines
  lines=$(sed -n '/^## Install/,/^## /p' README.md |
    sed -n "/^# ${1^}, /,/^\(\$\|\`\`\`\)/s/^\(cargo add [^#]*[^# ]\).*/\1/p")
  (($(wc -l <<<"$lines") >= 3)) || die "README.md: no lines install the ${1} adapter"
  [[ $2 == sqlite ]] || lines=$(sed "/libsqlite3/d; s/\<sqlite\>/$2/" <<<"$lines")
  say "$lines"
}

# program ADAPTER BACKEND: the first program of README.md, with the connection of the backend.
program() {
  local number=1 text type
  [[ $1 == sync ]] || number=2
  text=$(awk -v number="$number" '
    /^```/ && inside { exit }
    inside
    /^```rust$/ && ++count == number { inside = 1 }' README.md)
  case $1-$2 in
    sync-postgres) type=PgConnection ;;
    sync-mysql) type=MysqlConnection ;;
    async-postgres) type=diesel_async::AsyncPgConnection ;;
    async-mysql) type=diesel_async::AsyncMysqlConnection ;;
    *-sqlite)
      say "$text"
      return
      ;;
  esac
  # Its table ends with the session, so that it is not in the way of the next run.
  text=$(sed -e '/^use .*sync_connection_wrapper/d' \
    -e "s/SyncConnectionWrapper<SqliteConnection>/$type/; s/\<SqliteConnection/$type/" \
    -e 's/":memory:"/\&std::env::var("DATABASE_URL")?/; s/CREATE TABLE/CREATE TEMPORARY TABLE/' \
    <<<"$text")
  [[ $text != *[Ss]qlite* && $text == *DATABASE_URL* && $text == *TEMPORARY* ]] ||
    die "README.md: the first programs have changed, and so must this script"
  say "$text"
}

# forgotten_feature PROJECT ADAPTER CRATE: without the backend's feature of dbop the message names it.
forgotten_feature() {
  local output
  part "without the feature, $2"
  cd "$1"
  sed -i "/^$3 = /s/, features = \[[^]]*\]//" Cargo.toml
  # Whoever has used diesel-async before has the feature there.
  [[ $2 == sync ]] || cargo add --quiet diesel-async --features sqlite
  ! output=$(cargo build --quiet 2>&1) || die "it builds"
  cd "$root"
  [[ $output == *"enable the feature \`postgres\`, \`mysql\` or \`sqlite\` of $3"$'\n'* ]] ||
    die "the message does not name the feature: $output"
}

# minimal_versions: with the direct dependencies at their lower bounds, those of tests and examples aside.
minimal_versions() {
  local crate manifest
  for crate in "${crates[@]}"; do
    manifest=$packages/$crate-$version/Cargo.toml
    awk '/^\[/ { left_out = /^\[dev-dependencies/ } !left_out' "$manifest" >"$manifest.new"
    mv "$manifest.new" "$manifest"
  done
  cd "$packages"
  rm Cargo.lock
  # Only for this choice: some of these versions do not build with a nightly compiler of today.
  cargo +nightly -Z direct-minimal-versions generate-lockfile
  for crate in "${crates[@]}"; do
    part "$crate"
    cargo check --locked --package "$crate" --all-features
  done
}

part() { say "==== $1"; }

say() { printf '%s\n' "$@"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

cleanup() { [[ -z $projects ]] || rm -rf "$projects"; }

main "$@"
