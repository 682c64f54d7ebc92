# shellcheck shell=bash
# A Galera cluster of MariaDB: one node. A test brings an arbitrator, and so can take the quorum away, or more
# nodes (member.sh).

galera_url() { mysql_url "$@"; }
galera_init() { mariadb_init "$@"; }
galera_ask() { mariadb_ask "$@"; }

# galera_spawn DIR ROOT VERSION PORT [MEMBERS]: MEMBERS is the port for other members of a node that is there
# already. Without a quorum a node takes no statement from the second in which it suspects the others.
galera_spawn() {
  local dir=$1 root=$2 server_port=$4 members=${5:-} port options
  free_port # for other members
  say "$port" >"$dir/members"
  options="base_host=127.0.0.1;base_port=$port;gcache.size=8M;gmcast.listen_addr=tcp://127.0.0.1:$port"
  options+=";ist.recv_addr=127.0.0.1:$((port + 1));evs.keepalive_period=PT0.3S"
  options+=";evs.suspect_timeout=PT1S;evs.inactive_timeout=PT3S;evs.install_timeout=PT3S"
  # The account of the servers need not be able to enter this folder.
  mkdir -p "$dir/bin"
  cp "$(dirname "${BASH_SOURCE[0]}")/wsrep_sst_copy" "$dir/bin/"
  PATH="$dir/bin:$PATH" mariadb_spawn "$dir" "$root" "$3" "$server_port" \
    --binlog-format=ROW --innodb-autoinc-lock-mode=2 \
    --wsrep-on=ON --wsrep-provider="$root/usr/lib/galera/libgalera_smm.so" \
    --wsrep-cluster-name=dbop --wsrep-cluster-address="gcomm://${members:+127.0.0.1:$members}" \
    --wsrep-node-address=127.0.0.1 --wsrep-sst-method=copy --wsrep-provider-options="$options"
}

# another_node DIR NAME: start another node of the cluster whose first one is in DIR, in DIR/NAME; print its URL.
# It has the port of the node that was there before, if there was one.
another_node() {
  local dir=$1/$2 root wanted port version
  local -x TMPDIR=$dir/tmp
  { read -r root; read -r wanted; } <"$1/again"
  stop_server "$dir"
  if [[ -e $dir/port ]]; then
    port=$(<"$dir/port")
  else
    free_port
  fi
  rm -rf "$dir"
  mkdir -p "$dir"/{data,tmp}
  [[ $(id -u) != 0 ]] || chown nobody: "$dir"/{data,tmp}
  say galera >"$dir/kind"
  : >"$dir/accounts.sql" # it gets them with the data
  say "$port" >"$dir/port"
  galera_spawn "$dir" "$root" "$wanted" "$port" "$(<"$1/members")"
  ready "$dir" galera "$root" "$wanted" "$port" || { tail -n 30 "$dir/log" >&2; return 1; }
  galera_url "$port"
}

# test_galera: what only a cluster can show.
test_galera() {
  local target
  choose_target mariadb galera
  build "galera" "${target[@]}" || return 0
  current=$temporary/galera
  if start "$current" "galera $(versions mariadb) host"; then
    DBOP_TEST_DIR=$current test_server "$current" || keep_log "$current"
    stop_server "$current/second"
    stop_server "$current/third"
  fi
  stop
}
