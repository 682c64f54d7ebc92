# shellcheck shell=bash
# A group of MySQL servers (Group Replication): its first member. Tests bring the others (member.sh).

group_url() { mysql_url "$@"; }

# group_init DIR ROOT VERSION: the data of every member, which are kept as `template` for the others: a copy takes a
# fraction of the time.
group_init() {
  local mysqld
  mysql_paths "$1" "$2"
  mysql_accounts >"$1/accounts.sql"
  "${as_service[@]}" "${mysqld[@]}" --initialize-insecure --init-file="$1/accounts.sql" \
    --innodb-redo-log-capacity=8M || return 1
  rm -f "$1/data/auto.cnf" # each member has an id of its own
  cp -a "$1/data" "$1/template"
}

# group_spawn DIR ROOT VERSION PORT [SEEDS OPTION...]: SEEDS are where members of a group that is there already listen
# for others. What has no primary key gets an invisible one, without which it could not be changed. Who has no majority leaves
# the group after two seconds, in which what is to be committed waits.
group_spawn() {
  local dir=$1 root=$2 wanted=$3 server_port=$4 seeds=${5:-} port address bootstrap=OFF
  shift $(($# < 5 ? 4 : 5))
  free_port # for other members
  address=127.0.0.1:$port
  say "$address" >"$dir/members"
  [[ -n $seeds ]] || bootstrap=ON
  # With these words it asks another member for what it does not have. The accounts came with the data.
  say "CHANGE REPLICATION SOURCE TO SOURCE_USER='dbop' FOR CHANNEL 'group_replication_recovery';" \
    >"$dir/accounts.sql"
  mysql_spawn "$dir" "$root" "$wanted" "$server_port" \
    --server-id=1 --report-host=127.0.0.1 --log-bin=binlog --sync-binlog=0 \
    --gtid-mode=ON --enforce-gtid-consistency=ON --binlog-row-image=minimal \
    --sql-generate-invisible-primary-key=ON --plugin-load-add=group_replication.so \
    --group-replication-group-name=8c7f6a52-0000-4000-8000-646264626f70 \
    --group-replication-local-address="$address" --group-replication-group-seeds="${seeds:-$address}" \
    --group-replication-start-on-boot=ON --group-replication-bootstrap-group="$bootstrap" \
    --group-replication-member-expel-timeout=0 --group-replication-unreachable-majority-timeout=2 "$@"
}

# group_query ROOT PORT SQL
group_query() {
  "$1/usr/bin/mysql" --no-defaults --connect-timeout=5 --user=dbop --host=127.0.0.1 --port="$2" -Nse "$3" dbop
}

# group_ask ROOT VERSION PORT: as long as it is not a member of its group, there is no answer.
group_ask() {
  group_query "$1" "$3" "SELECT version() FROM performance_schema.replication_group_members
    WHERE member_id = @@server_uuid AND member_state = 'ONLINE'"
}

# another_member DIR NAME: start another member of the group whose first one is in DIR, in DIR/NAME; print its URL. It
# has the port of the member that was there before, if there was one, but not its data.
another_member() {
  local dir=$1/$2 root wanted first port version seeds options
  local -x TMPDIR=$dir/tmp
  { read -r root; read -r wanted; read -r first; } <"$1/again"
  stop_server "$dir"
  if [[ -e $dir/port ]]; then
    port=$(<"$dir/port")
  else
    free_port
  fi
  rm -rf "$dir"
  mkdir -p "$dir/tmp"
  cp -a "$1/template" "$dir/data"
  [[ $(id -u) != 0 ]] || chown nobody: "$dir/tmp"
  say group >"$dir/kind"
  say "$port" >"$dir/port"
  seeds=$(find "$1" -maxdepth 2 -name members -exec cat {} + | paste -sd,)
  # Whether one member takes writes or all do has to be the same for all of them.
  options=$(group_query "$root" "$first" "SELECT concat('--group-replication-single-primary-mode=',
    @@group_replication_single_primary_mode, ' --group-replication-enforce-update-everywhere-checks=',
    @@group_replication_enforce_update_everywhere_checks)")
  # Those that a column numbers by itself have the number of the server in them.
  case $2 in
    second) options+=' --server-id=2' ;;
    *) options+=' --server-id=3' ;;
  esac
  # shellcheck disable=SC2086 # several options
  group_spawn "$dir" "$root" "$wanted" "$port" "$seeds" $options
  ready "$dir" group "$root" "$wanted" "$port" || { tail -n 30 "$dir/log" >&2; return 1; }
  group_url "$port"
}

# test_group: what only a group can show.
test_group() {
  local target
  choose_target mysql group
  build "group" "${target[@]}" || return 0
  current=$temporary/group
  if start "$current" "group $(versions mysql) sid"; then
    DBOP_TEST_DIR=$current test_server "$current" || keep_log "$current"
    stop_server "$current/second"
    stop_server "$current/third"
  fi
  stop
}
