#!/usr/bin/env bash
set -euo pipefail

usage() {
  cat <<'TEXT'
Breaks the code in one place at a time, and expects the test that guards the place to fail.

usage: tests/mutations/run.sh [OPTION...] [NAME...]

NAME is the name of a row in tests/mutations/*.rows, or a pattern such as 'ledger-*'. Without a name
all rows run that need no server. README.md in the same folder describes the rows.

  --list            only print the names of the rows and what they promise
  --check           only check the rows: every text occurs exactly once, every test exists
  --sample N [SEED] run N of the rows of dbop-core, chosen by the number SEED: that of the commits
  --core            run the rows of dbop-core only
  --servers         run the rows that need a server as well

The tests run in a copy of the checkout, uncommitted changes included, under `mutations` in cargo's
target folder. Every test first has to pass there without a mutation. Then a row is `red` if its test
fails. It is SURVIVED if the test passes, and an error if the mutation does not compile, or if the
test does not end within DBOP_MUTATION_SECONDS (60; for rows with a server 900).

Rows that need a server use the one at DBOP_TEST_URL. Without that, tests/run.sh starts one for each. It
always does for those that need a server of their own.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

# The rows, each field by the number of the row.
names=() promises=() files=() texts=() replacements=() targets=() tests=() hangs=() places=()

main() {
  local action=run sample='' seed='' patterns=() chosen=()
  local -A allowed=([core]=yes [sqlite]=yes [async_sqlite]=yes [adoption]=yes [observability]=yes)
  while (($#)); do
    case $1 in
      --list | --check) action=${1#--} ;;
      --core) allowed=([core]=yes) ;;
      --servers)
        allowed+=([postgres]=yes [mariadb]=yes [mysql]=yes)
        allowed+=([refused_postgres]=yes [refused_mariadb]=yes [refused_mysql]=yes)
        ;;
      --sample)
        sample=${2-}
        is_number "$sample" || wrong_usage "--sample needs a number"
        allowed=([core]=yes)
        shift
        if is_number "${2-}"; then
          seed=$2
          shift
        fi
        ;;
      -h | --help)
        usage
        exit
        ;;
      -*) wrong_usage "unknown option: $1" ;;
      *) patterns+=("$1") ;;
    esac
    shift
  done
  read_rows "$here"/*.rows
  cd "$root"
  case $action in
    list) list ;;
    check) check ;;
    run)
      choose "${patterns[@]}"
      [[ -z $sample ]] || pick "$sample" "${seed:-$(git_here rev-list --count HEAD)}"
      run
      ;;
  esac
}

# git_here ARGUMENT...: also where the checkout belongs to another user, as in a container.
git_here() { git -c safe.directory="$root" "$@"; }

is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]]; }

say() { printf '%s\n' "$@"; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

wrong_usage() {
  printf 'error: %s\n' "$1" >&2
  usage >&2
  exit 2
}

# The rows.

# read_rows FILE...: fill the arrays. What is wrong with the form of a row ends the script.
read_rows() {
  local file line number word rest row=-1
  local -A lines=()
  for file; do
    number=0
    while IFS= read -r line || [[ -n $line ]]; do
      number=$((number + 1))
      word=${line%% *}
      rest=${line#"$word"}
      rest=${rest# }
      case $word in
        '' | '#') continue ;;
        row)
          end_row "$row"
          row=$((row + 1))
          names[row]=$rest
          places[row]=${file##*/}:$number
          promises[row]='' files[row]='' targets[row]='' tests[row]='' hangs[row]=''
          unset 'texts[row]' 'replacements[row]'
          [[ -z ${lines[$rest]-} ]] || die "${places[row]}: there is another row $rest"
          lines[$rest]=$number
          continue
          ;;
      esac
      ((row >= 0)) || die "${file##*/}:$number: no row has begun"
      case $word in
        promise) promises[row]=$rest ;;
        file) files[row]=$rest ;;
        -) texts[row]=${texts[row]+${texts[row]}$'\n'}$rest ;;
        +) replacements[row]=${replacements[row]+${replacements[row]}$'\n'}$rest ;;
        test)
          targets[row]=${rest%% *}
          tests[row]=${rest#* }
          ;;
        hangs) hangs[row]=yes ;;
        *) die "${file##*/}:$number: unknown word: $word" ;;
      esac
    done <"$file"
  done
  end_row "$row"
}

# end_row ROW: a row is complete.
end_row() {
  local row=$1
  ((row >= 0)) || return 0
  replacements[row]=${replacements[row]-}
  [[ -n ${promises[row]} && -n ${files[row]} && -n ${texts[row]-} && -n ${tests[row]} ]] ||
    die "${places[row]}: ${names[row]} needs promise, file, -, +, and test"
  [[ ${texts[row]} != "${replacements[row]}" ]] || die "${places[row]}: ${names[row]} changes nothing"
  arguments "${targets[row]}" || die "${places[row]}: unknown target: ${targets[row]}"
}

# arguments TARGET: set `arguments` to what makes cargo test it, and `folder` to where its tests are.
arguments() {
  folder=tests
  case $1 in
    core)
      arguments=(-p dbop-core --lib)
      folder=dbop-core/src
      ;;
    adoption) arguments=(-p dbop-adoption --features sqlite --test adoption) ;;
    observability) arguments=(-p dbop-observability --features sqlite --test observability) ;;
    sqlite | async_sqlite) arguments=(-p dbop-tests --features sqlite --test "$1") ;;
    postgres) arguments=(-p dbop-tests --features postgres --test postgres --test async_postgres) ;;
    mariadb | mysql) arguments=(-p dbop-tests --features mysql --test mysql --test async_mysql) ;;
    refused_postgres) arguments=(-p dbop-tests --features postgres --test refused_postgres) ;;
    refused_*) arguments=(-p dbop-tests --features mysql --test refused_mysql) ;;
    *) return 1 ;;
  esac
}

# choose [PATTERN...]: set `chosen` to the rows with these names, otherwise to those that are allowed.
choose() {
  local row pattern found
  if (($# == 0)); then
    for row in "${!names[@]}"; do
      [[ -z ${allowed[${targets[row]}]-} ]] || chosen+=("$row")
    done
    return
  fi
  for pattern; do
    found=
    for row in "${!names[@]}"; do
      # shellcheck disable=SC2053 # It is a pattern.
      if [[ ${names[row]} == $pattern ]]; then
        chosen+=("$row")
        found=yes
      fi
    done
    [[ -n $found ]] || die "no row is called $pattern"
  done
}

# pick N SEED: choose so many of the chosen rows, from all over the table. The next seed takes the rows
# that follow them, so that every row has its turn.
pick() {
  local count=$1 seed=$2 total=${#chosen[@]} picked=() i
  ((count < total)) || return 0
  say "sample $seed of $total rows"
  for ((i = 0; i < count; i++)); do
    picked+=("${chosen[$(((seed + i * total / count) % total))]}")
  done
  chosen=("${picked[@]}")
}

list() {
  local row
  for row in "${!names[@]}"; do
    printf '%-10s %-44s %s\n' "${targets[row]}" "${names[row]}" "${promises[row]}"
  done
}

# check: the texts and the tests, without compiling anything.
check() {
  local row passed=0 failed=0
  local -A functions=()
  for row in "${!names[@]}"; do
    if is_applicable "$row" && has_test "$row"; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
    fi
  done
  say "" "$passed passed, $failed failed"
  ((failed == 0))
}

# is_applicable ROW: whether the text of the row occurs exactly once in its file.
is_applicable() {
  local row=$1 content rest
  if [[ ! -f ${files[row]} ]]; then
    say "NO SUCH FILE  ${names[row]}: ${files[row]} (${places[row]})"
    return 1
  fi
  content=$(<"${files[row]}")
  rest=${content/"${texts[row]}"/$'\1'}
  if [[ $rest == "$content" ]]; then
    say "NO SUCH TEXT  ${names[row]}: in ${files[row]} (${places[row]}): ${texts[row]}"
    return 1
  fi
  if [[ $rest == *"${texts[row]}"* ]]; then
    say "MORE THAN ONCE  ${names[row]}: in ${files[row]} (${places[row]}): ${texts[row]}"
    return 1
  fi
}

# has_test ROW: whether there is a function with the name of the row's test, or with this in its name.
has_test() {
  local row=$1 end=${tests[$1]##*::}
  arguments "${targets[row]}"
  [[ -n ${functions[$folder]-} ]] ||
    functions[$folder]=$(git_here grep --untracked -hoE 'fn [a-z0-9_]+\(' -- "$folder/*.rs")
  if [[ ${targets[row]} == core ]]; then
    [[ ${functions[$folder]} != *"fn $end("* ]] || return 0
  else
    [[ ${functions[$folder]} != *"$end"* ]] || return 0
  fi
  say "NO SUCH TEST  ${names[row]}: ${tests[row]} (${places[row]})"
  return 1
}

# Running.

red=0 survived=0 errors=0

run() {
  local row target
  work=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/mutations
  copy=$work/checkout
  log=$work/log
  export CARGO_TARGET_DIR=$work/target CARGO_TERM_COLOR=never RUST_BACKTRACE=0
  export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
  # A mutation may leave something unused.
  export RUSTFLAGS="--cap-lints warn"
  mkdir -p "$work"
  exec 9>"$work/lock"
  flock -n 9 || die "another run is at work in $work"
  make_copy
  for target in core sqlite async_sqlite adoption observability {,refused_}{postgres,mariadb,mysql}; do
    # On async code the incremental mode of rustc 1.95 can fail with an error of its own.
    export CARGO_INCREMENTAL=0
    [[ $target != core && $target != sqlite ]] || CARGO_INCREMENTAL=1
    run_target "$target"
  done
  say "" "$red red, $survived survived, $errors errors" "$red passed, $((survived + errors)) failed"
  ((survived + errors == 0))
}

# make_copy: the checkout as it is now. A file that is the same keeps its time, for cargo.
make_copy() {
  local file
  local -A there=()
  mkdir -p "$copy"
  while IFS= read -r -d '' file; do
    [[ -f $file || -L $file ]] || continue
    there[./$file]=yes
    [[ ! -L $file ]] || rm -f "$copy/$file"
    cmp -s "$file" "$copy/$file" && continue
    mkdir -p "$(dirname "$copy/$file")"
    cp -P "$file" "$copy/$file"
  done < <(git_here ls-files -z --cached --others --exclude-standard)
  while IFS= read -r -d '' file; do
    [[ -n ${there[$file]-} ]] || rm "$copy/$file"
  done < <(cd "$copy" && find . ! -type d -print0)
}

# run_target TARGET: the chosen rows of one target: without their mutations, then with.
run_target() {
  local target=$1 rows=() row
  for row in "${chosen[@]}"; do
    [[ ${targets[row]} != "$target" ]] || rows+=("$row")
  done
  ((${#rows[@]})) || return 0
  say "" "#### $target: ${#rows[@]} rows, first without mutations"
  arguments "$target"
  passes_unmutated "$target" "${rows[@]}" || return 0
  for row in "${rows[@]}"; do
    if is_applicable "$row" && [[ -z ${unsound[row]-} ]]; then
      run_row "$row"
    else
      errors=$((errors + 1))
    fi
  done
}

# passes_unmutated TARGET ROW...: run all of their tests. Those that do not pass mark their rows as
# `unsound`.
passes_unmutated() {
  local target=$1 row test asked=()
  local -A seen=()
  shift
  unsound=()
  for row; do
    test=${tests[row]}
    [[ -n ${seen[$test]-} ]] || asked+=("$test")
    seen[$test]=yes
  done
  if ! build; then
    say "DOES NOT COMPILE  without mutations:"
    tail -n 20 "$log"
    errors=$((errors + $#))
    return 1
  fi
  test_them "$target" "${asked[@]}" || true
  for row; do
    test=${tests[row]}
    # The name of another test is only a part of what cargo prints.
    [[ $target == core ]] || test="[^ ]*$test[^ ]*"
    if grep -q "^test $test \.\.\. ok$" "$log" && ! grep -q "^test $test \.\.\. FAILED$" "$log"; then
      continue
    fi
    unsound[row]=yes
    say "DOES NOT PASS  ${names[row]}: ${tests[row]} without the mutation (${places[row]})"
  done
}

# run_row ROW: with its mutation.
run_row() {
  local row=$1 file=$copy/${files[$1]} content status=0 begin=$SECONDS result
  # The x keeps the line breaks at the end.
  content=$(cat "$file" && printf x)
  content=${content%x}
  printf '%s' "${content/"${texts[row]}"/"${replacements[row]}"}" >"$file"
  if build; then
    test_them "${targets[row]}" "${tests[row]}" || status=$?
    if ((status == 124 || status == 137)); then
      result="NO END"
      [[ -z ${hangs[row]} ]] || result=red
    elif ((status == 0)); then
      result=SURVIVED
    elif grep -q '^test result: FAILED' "$log"; then
      result=red
    else
      result="NO TEST FAILED"
    fi
  else
    result="DOES NOT COMPILE"
  fi
  printf '%s' "$content" >"$file"
  case $result in
    red) red=$((red + 1)) ;;
    SURVIVED) survived=$((survived + 1)) ;;
    *) errors=$((errors + 1)) ;;
  esac
  say "$result  ${names[row]}  ($((SECONDS - begin)) s)"
  case $result in
    red) ;;
    SURVIVED) say "    ${promises[row]}" "    ${tests[row]} passes (${places[row]})" ;;
    *)
      grep -A 12 '^error' "$log" | head -n 30 || tail -n 20 "$log"
      ;;
  esac
}

# build: the tests of `arguments`.
build() {
  (cd "$copy" && timeout 1800 cargo test --locked "${arguments[@]}" --no-run) >"$log" 2>&1 </dev/null
}

# test_them TARGET TEST...: run these tests only.
test_them() {
  local target=$1 limit=${DBOP_MUTATION_SECONDS:-60} patience=5 command
  shift
  command=(cargo test --locked --no-fail-fast "${arguments[@]}" -- "$@")
  case $target in
    core) command+=(--exact) ;;
    *sqlite | adoption | observability) limit=$((limit * 5)) ;;
    refused_*)
      limit=${DBOP_MUTATION_SECONDS:-900}
      command=(tests/run.sh refused "${target#refused_}" -- "$@")
      ;;
    *)
      limit=${DBOP_MUTATION_SECONDS:-900}
      [[ -n ${DBOP_TEST_URL-} ]] || command=(tests/run.sh "$target" -- "$@")
      ;;
  esac
  # It stops the servers that it has started.
  [[ ${command[0]} != tests/run.sh ]] || patience=60
  (
    cd "$copy"
    # A mutation that never ends can take all of the memory.
    [[ $target != core ]] || ulimit -v 8388608
    timeout --kill-after="$patience" "$limit" "${command[@]}"
  ) >"$log" 2>&1 </dev/null
}

main "$@"; exit # in one line: this file may change meanwhile
