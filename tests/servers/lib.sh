# shellcheck shell=bash
# What every kind of server needs: an account, a free port, a process, a folder.
#
# A server lives in one folder of its own:
#
#     data/  tmp/  log     what the server writes
#     pid                  its process id and the time at which that process started
#     kind  label  url     for those who come later (`down`, `status`, `test`)
#     again                what it is started again with
#     durable              if it is there: what has been committed outlives the server
#
# Each kind (postgres, mariadb, mysql) brings four functions: KIND_init creates the data, KIND_spawn
# starts the process, KIND_url names it, KIND_ask asks it for its version. ROOT is the folder under
# which its programs are installed: nothing for the programs of this machine, otherwise a folder
# filled by fetch.sh.

# initdb and mysqld refuse to work for root, so root hands them to an account without any rights.
as_service=()
if [[ $(id -u) == 0 ]]; then
  as_service=(setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups --)
fi

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { warn "error: $*"; exit 1; }

# versions KIND [optional]: those which the list has for this kind of server.
versions() {
  awk -v kind="$1" -v mark="${2-}" '$1 == kind && $3 == mark { print $2 }' \
    "$(dirname "${BASH_SOURCE[0]}")/versions"
}

# Where downloads and the state of `up` live. Servers of root run as nobody, who cannot enter /root,
# and /var/tmp would let any user place programs there which root then starts: hence /var/cache.
cache_folder() {
  if [[ -n ${DBOP_CACHE:-} ]]; then
    say "$DBOP_CACHE"
  elif [[ $(id -u) == 0 ]]; then
    say /var/cache/dbop-tests
  else
    say "${XDG_CACHE_HOME:-${HOME:?}/.cache}/dbop-tests"
  fi
}

# reachable FOLDER VARIABLE: end with a hint unless the servers' account can enter the folder.
reachable() {
  "${as_service[@]}" test -x "$1" ||
    die "the account that runs the servers cannot enter $1: set $2 to a folder that it can enter"
}

# free_port: set `port` to one on which nobody listens. It is only a guess, as somebody may take it
# before the server does; start_server then tries another. The range lies below the ports which the
# kernel gives to outgoing connections.
free_port() {
  local _
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 12000))
    (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
  done
  die "no free port between 20000 and 32000"
}

# spawn DIR COMMAND...: start a server in the background. It gets a session of its own, as Ctrl-C at
# the terminal must reach the tests first. Every step replaces its process by the next one, so the
# id is that of the server itself.
spawn() {
  local dir=$1 pid
  shift
  (cd "$dir" && exec setsid "${as_service[@]}" "$@") >>"$dir/log" 2>&1 </dev/null &
  pid=$!
  disown "$pid" # that a test kills it is no news
  say "$pid $(started_at "$pid")" >"$dir/pid"
}

# started_at PID: when the process started, in the kernel's clock ticks; nothing when it has ended.
# A zombie has ended as well. The name in parentheses may contain anything, so cut after the last.
started_at() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} == [ZX] ]] || say "${fields[19]}"
}

# alive DIR: true while the process that we started runs. Its id alone would not do: the state of
# `up` may outlive a reboot, and then the number belongs to somebody else.
alive() {
  local pid start
  { read -r pid start <"$1/pid"; } 2>/dev/null || return 1
  [[ -n $start && $(started_at "$pid") == "$start" ]]
}

# is_durable DIR: true if the server must keep what it has committed, which costs time.
is_durable() { [[ -e $1/durable ]]; }

# stop_server DIR: ask politely, then insist.
stop_server() {
  local dir=$1 pid _ signal=TERM
  alive "$dir" || return 0
  # PostgreSQL takes TERM as "when the last client has left"; INT is "now, cleanly". So does PgBouncer from 1.23 on,
  # which has nothing to lose.
  case $(<"$dir/kind") in
    postgres) signal=INT ;;
    pgbouncer) signal=KILL ;;
  esac
  read -r pid _ <"$dir/pid"
  kill -"$signal" "$pid" 2>/dev/null || true
  for _ in {1..300}; do
    alive "$dir" || return 0
    sleep 0.1
  done
  warn "$dir: still running after 30 seconds, killed"
  kill -KILL "$pid" 2>/dev/null || true
}

# ready DIR KIND ROOT VERSION PORT: wait until the server answers; sets `version` to its answer.
# An open port proves nothing, as the servers open it before they have recovered.
ready() {
  local dir=$1 deadline=$((SECONDS + 60))
  while ((SECONDS < deadline)) && alive "$dir"; do
    if version=$("$2_ask" "$3" "$4" "$5" 2>/dev/null) && [[ -n $version ]]; then
      version=${version%%[- ]*} # without the distributor's suffix
      return 0
    fi
    sleep 0.1
  done
  return 1
}

# start_server DIR KIND ROOT VERSION [OPTIONS]: create a server and start it; sets `version`.
# The caller removes DIR, also when this fails: its log says why.
start_server() {
  local dir=$1 kind=$2 root=$3 wanted=$4 options port _
  read -ra options <<<"${5-}"
  local -x TMPDIR=$dir/tmp # the one that root has need not be open to others
  mkdir -p "$dir"/{data,tmp}
  [[ $(id -u) != 0 ]] || chown nobody: "$dir"/{data,tmp}
  say "$kind" >"$dir/kind"
  "${kind}_init" "$dir" "$root" "$wanted" >"$dir/log" 2>&1 || return 1
  : >"$dir/log" # only what the server itself says
  for _ in {1..5}; do
    free_port
    "${kind}_spawn" "$dir" "$root" "$wanted" "$port" "${options[@]/#/--}"
    if ready "$dir" "$kind" "$root" "$wanted" "$port"; then
      "${kind}_url" "$port" >"$dir/url"
      printf '%s\n' "$root" "$wanted" "$port" "${options[*]}" >"$dir/again"
      return 0
    fi
    stop_server "$dir"
    grep -qi 'address already in use' "$dir/log" || return 1
    warn "port $port was taken, trying another"
  done
  return 1
}

# start_again DIR [unready]: start a server that has ended, on the same port and with the same data. Wait
# until it answers, unless it is to refuse everybody.
start_again() {
  local dir=$1 kind root wanted port options version
  local -x TMPDIR=$dir/tmp
  kind=$(<"$dir/kind")
  { read -r root; read -r wanted; read -r port; read -ra options; } <"$dir/again"
  "${kind}_spawn" "$dir" "$root" "$wanted" "$port" "${options[@]/#/--}"
  [[ ${2-} == unready ]] || ready "$dir" "$kind" "$root" "$wanted" "$port"
}
