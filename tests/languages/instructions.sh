#!/usr/bin/env bash
# Counts the instructions that recognising a text takes and fails where they are more than allowed.
# Needs valgrind. The difference of two runs leaves only what each further time costs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v valgrind >/dev/null || { echo "this needs valgrind: apt-get install valgrind" >&2; exit 1; }
cargo build --quiet --release -p dbop-languages --example recognise
program=${CARGO_TARGET_DIR:-target}/release/examples/recognise
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0

# count DIALECT KIND TEXT TIMES: the instructions of the whole program.
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>"$output" ||
    { cat "$output" >&2; exit 1; }
  sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$output"
}

# case CEILING DIALECT KIND TEXT
case_of() {
  local ceiling=$1 once often each verdict=
  once=$(count "$2" "$3" "$4" 1)
  often=$(count "$2" "$3" "$4" 101)
  each=$(((often - once) / 100))
  # What a newer compiler adds need not be a failure.
  if ((each * 100 > ceiling * 105)); then
    verdict="  TOO MANY"
    status=1
  fi
  printf '%6d of %5d  %-8s %-13s %.60s%s\n' "$each" "$ceiling" "$2" "$3" "$4" "$verdict"
}

repeated() { printf "%0.s$1" $(seq "$2"); }

# The kind decides.
case_of 300 postgres unique 'duplicate key value violates unique constraint "accounts_email_key"'
case_of 300 postgres foreign 'insert or update on table "a" violates foreign key constraint "a_b_fkey"'
case_of 300 postgres serialization 'could not serialize access due to concurrent update'
case_of 300 postgres serialization 'could not serialize access due to read/write dependencies among transactions'
case_of 300 postgres serialization 'не удалось сериализовать доступ из-за зависимостей чтения/записи между транзакциями'
case_of 300 postgres read_only 'cannot execute INSERT in a read-only transaction'
case_of 300 mysql unique "Duplicate entry 'somebody@example.org' for key 'accounts.email'"
case_of 300 mysql foreign 'Cannot add or update a child row: a foreign key constraint fails (`a`.`b`, CONSTRAINT `c`)'
case_of 300 mysql serialization 'Deadlock found when trying to get lock; try restarting transaction'
case_of 300 sqlite unique 'UNIQUE constraint failed: accounts.email'
# Known texts.
case_of 3000 postgres unknown 'deadlock detected'
case_of 3000 postgres unknown 'could not obtain lock on row in relation "accounts"'
case_of 3000 postgres unknown 'canceling statement due to lock timeout'
case_of 3000 postgres unknown 'Verklemmung (Deadlock) entdeckt'
case_of 3000 postgres unknown 'не удалось получить блокировку строки в таблице "accounts"'
case_of 3000 postgres unknown 'デッドロックを検出しました'
case_of 3000 postgres unknown '"accounts" 릴레이션의 잠금 정보를 구할 수 없음'
case_of 3000 postgres closed 'server closed the connection unexpectedly
	This probably means the server terminated abnormally
	before or while processing the request.
'
case_of 3000 mysql unknown 'Lock wait timeout exceeded; try restarting transaction'
case_of 3000 mysql unknown 'Beim Versuch, eine Sperre anzufordern, ist ein Deadlock aufgetreten. Versuchen Sie, die Transaktion neu zu starten'
case_of 3000 mysql unknown "Access denied for user 'somebody'@'client.example.org' (using password: YES)"
case_of 3000 mysql unknown "'somebody'@'client.example.org' 사용자는 접근이 거부 되었습니다. (using password: 예)"
case_of 3000 sqlite unknown 'database is locked'
# Unknown texts.
case_of 3000 postgres unknown 'relation "accounts" does not exist'
case_of 3000 postgres unknown 'could not find a free slot for the order 4711 of customer 42 in the warehouse "north"'
case_of 3000 postgres unknown 'коду товара 4711 не соответствует ни один заказ клиента'
case_of 3000 postgres unknown '"accounts" is not a sequence, or at least none that this user is allowed to see in this schema'
case_of 3000 postgres unknown '"accounts" 릴레이션의 잠금 정보를 구할 수 있음'
case_of 3000 postgres unknown 'no connection to the warehouse of the supplier: the order of customer 42 stays open until 17:30 today, or tomorrow, see the list'
case_of 3000 mysql unknown "Table 'shop.accounts' doesn't exist in the list of all tables that anybody ever heard of"
case_of 3000 mysql unknown 'Для товара 4711 нет ни одного заказа клиента 42, и никогда не было'
case_of 3000 sqlite unknown 'no such function: levenshtein, nor anything like it in any of the extensions'
case_of 7000 postgres unknown "$(repeated 'an unknown text ' 63)"
case_of 8000 postgres unknown "\"$(repeated 'an unknown text ' 63)"
exit "$status"
