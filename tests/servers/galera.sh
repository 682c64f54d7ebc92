# shellcheck shell=bash
# A Galera cluster of MariaDB: one node. A test brings an arbitrator, and so can take the quorum away.

galera_url() { mysql_url "$@"; }
galera_init() { mariadb_init "$@"; }
galera_ask() { mariadb_ask "$@"; }

# galera_spawn DIR ROOT VERSION PORT: without a quorum it takes no statement from the second in which
# it suspects the other members.
galera_spawn() {
  local dir=$1 root=$2 server_port=$4 port members
  free_port # for other members
  members="gmcast.listen_addr=tcp://127.0.0.1:$port;evs.keepalive_period=PT0.3S"
  members+=";evs.suspect_timeout=PT1S;evs.inactive_timeout=PT3S;evs.install_timeout=PT3S"
  mariadb_spawn "$dir" "$root" "$3" "$server_port" --binlog-format=ROW --innodb-autoinc-lock-mode=2 \
    --wsrep-on=ON --wsrep-provider="$root/usr/lib/galera/libgalera_smm.so" \
    --wsrep-cluster-name=dbop --wsrep-cluster-address=gcomm:// --wsrep-node-address=127.0.0.1 \
    --wsrep-provider-options="base_host=127.0.0.1;base_port=$port;gcache.size=8M;$members"
}

# test_galera: what only a cluster can show.
test_galera() {
  local target=(-p dbop-tests --features "${features:-mysql}" --test galera)
  build "galera" "${target[@]}" || return 0
  current=$temporary/galera
  if start "$current" "galera $(versions mariadb) host"; then
    test_server "$current" || keep_log "$current"
  fi
  stop
}
