compose := "docker compose " + (if path_exists(".env") == "true" { "--env-file .env " } else { "" }) + "-f docker/compose.yaml"
published := "-p dbop-core -p dbop-diesel -p dbop-diesel-async"

# List the recipes.
default:
    @{{ just_executable() }} --list --unsorted

# Test everything that needs no server: unit tests, doctests, SQLite.
test *args:
    tests/run.sh sqlite -- {{ args }}

# Measure which lines the tests without a server cover; the report is target/llvm-cov/html.
cov:
    @cargo llvm-cov --version >/dev/null 2>&1 || { echo "cov needs a tool: cargo install cargo-llvm-cov" >&2; exit 1; }
    cargo llvm-cov --no-report --workspace --exclude dbop-tests --exclude dbop-adoption --exclude dbop-observability --features dbop-diesel/sqlite,dbop-diesel/anyhow
    cargo llvm-cov --no-report -p dbop-tests --features sqlite --lib --test sqlite
    cargo llvm-cov report --html

# Break the code in one place at a time, everywhere a test without a server must notice it.
mutations *names:
    tests/mutations/run.sh {{ names }}

# Break the code in ten places, others after each commit.
mutations-sample *seed:
    tests/mutations/run.sh --sample 10 {{ seed }}

# Count the lines of LLVM IR that each operation adds to a release build.
llvm-lines *args:
    tests/llvm-lines/run.sh {{ args }}

# Change dbop-core in many small ways, each of which its unit tests have to notice.
mutants *args:
    tests/mutants/run.sh {{ args }}

# Recognise any bytes as the text of an error, for so many seconds; needs a nightly compiler.
fuzz seconds="60":
    @cargo fuzz --version >/dev/null 2>&1 || { echo "fuzz needs a tool: cargo install cargo-fuzz" >&2; exit 1; }
    cargo +nightly fuzz run --fuzz-dir tests/fuzz recognise -- -max_total_time={{ seconds }} -max_len=1000

# Format the code.
fmt:
    cargo fmt --all

# Lint the code; warnings are errors.
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Build the documentation; warnings are errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Package the published crates, and use the packages as the README says; servers by DBOP_TEST_URL.
packages *backends:
    tests/packages/run.sh {{ backends }}

# Build the published crates with the lowest versions of their dependencies; needs a nightly compiler.
minimal-versions:
    tests/packages/run.sh minimal-versions

# Build the published crates with the oldest supported Rust.
msrv:
    cargo +$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) check {{ published }} --all-features

# Build the documentation as docs.rs does, with what each feature adds; needs a nightly compiler.
docs-rs:
    RUSTDOCFLAGS="--cfg docsrs -D warnings" cargo +nightly doc {{ published }} --no-deps --all-features

# Run everything that CI runs.
ci:
    .ci/run

# Install what the tests of all backends need.
install-all:
    tests/run.sh prepare all

# Test on PostgreSQL and keep its servers up.
integration-pg: integration-up integration-test-pg

# Test on MySQL and keep its servers up.
integration-mysql: integration-up-mysql integration-test-mysql

# Test on MariaDB and keep its servers up.
integration-mariadb: integration-up-mariadb integration-test-mariadb

# Test on PostgreSQL, MariaDB and MySQL, one after the other, on servers that live no longer.
integration-all:
    tests/run.sh postgres mariadb mysql

# Lose connections and servers under transfers, so many seconds on each server and adapter.
soak seconds="300" *backends:
    DBOP_SOAK_SECONDS={{ seconds }} tests/run.sh lose {{ backends }}

# Lose servers of a cluster under transfers, so many seconds on each: PostgreSQL with a standby, Galera, and
# Group Replication.
soak-cluster seconds="300" *backends="postgres mariadb mysql":
    DBOP_SOAK_SECONDS={{ seconds }} tests/run.sh cluster {{ backends }}

# Kill a service while clients repeat their requests with idempotency keys, and send each to two processes at
# once, so many on each server.
killed requests="2000" *backends:
    DBOP_KEYED_REQUESTS={{ requests }} tests/run.sh {{ backends }} -- keys::killed keys::processes

# Measure policies of retries under contention, and draw the page about it; so many seconds each.
storm seconds="3" *backends:
    DBOP_STORM_SECONDS={{ seconds }} tests/run.sh storm {{ backends }}

# Measure what an operation costs beside bare Diesel, and draw the page about it; it says how long that takes.
bench *backends:
    tests/run.sh bench {{ backends }}

# Measure how long what dbop-core does in memory takes.
bench-core *args:
    cargo bench -p dbop-core {{ args }}

# Make the tables of the servers' messages in other languages, from what comes with their packages.
languages:
    tests/run.sh languages

# Count the instructions that recognising an error and an operation take; needs valgrind.
instructions:
    tests/languages/instructions.sh
    tests/instructions/run.sh

# Start the PostgreSQL servers.
integration-up:
    tests/run.sh up postgres

# Start the MySQL servers.
integration-up-mysql:
    tests/run.sh up mysql

# Start the MariaDB servers.
integration-up-mariadb:
    tests/run.sh up mariadb

# Test on the PostgreSQL servers that are up.
integration-test-pg *args:
    tests/run.sh test postgres -- {{ args }}

# Test on the MySQL servers that are up.
integration-test-mysql *args:
    tests/run.sh test mysql -- {{ args }}

# Test on the MariaDB servers that are up.
integration-test-mariadb *args:
    tests/run.sh test mariadb -- {{ args }}

# Stop all running servers and remove their data.
integration-down:
    tests/run.sh down

# Show the last lines of the logs of all running servers.
integration-logs:
    tests/run.sh logs

# Follow the logs of the PostgreSQL servers.
integration-logs-pg:
    tests/run.sh logs -f postgres

# Follow the logs of the MySQL servers.
integration-logs-mysql:
    tests/run.sh logs -f mysql

# Follow the logs of the MariaDB servers.
integration-logs-mariadb:
    tests/run.sh logs -f mariadb

# Start the containers of docker/compose.yaml: all, or postgres, mysql, mariadb.
containers-up *services:
    {{ compose }} up --wait {{ services }}

# Stop the containers and remove their data.
containers-down:
    {{ compose }} down

# Show the last lines of the containers' logs; -f follows them.
containers-logs *args:
    {{ compose }} logs --tail=200 {{ args }}

# Test on the container of PostgreSQL.
containers-test-pg *args: (containers-test "postgres" "postgres://dbop:${DBOP_POSTGRES_PASSWORD:-dbop}@127.0.0.1:15432/dbop" args)

# Test on the container of MySQL.
containers-test-mysql *args: (containers-test "mysql" "mysql://root:${DBOP_MYSQL_ROOT_PASSWORD:-dbop}@127.0.0.1:13306/dbop" args)

# Test on the container of MariaDB.
containers-test-mariadb *args: (containers-test "mariadb" "mysql://root:${DBOP_MARIADB_ROOT_PASSWORD:-dbop}@127.0.0.1:13307/dbop" args)

[private]
containers-test service url args:
    @[ ! -e .env ] || . ./.env; DBOP_TEST_URL="{{ url }}" DBOP_TEST_SERVER="the container {{ service }}" tests/run.sh test {{ service }} -- {{ args }}
