# shellcheck shell=bash
# The tests that change what a whole server says and whom it lets in, on servers of their own:
# refused/.

refused="refused connections"

# refused_backends BACKEND...: nothing but these.
refused_backends() {
  begin "$@"
  refuse "$@"
  summary
}

# refuse BACKEND...: SQLite refuses no connections.
refuse() {
  local backend seconds=0
  for backend; do
    [[ $backend == sqlite ]] || alone refused "$refused" "$backend" "$(refusing "$backend")"
    some_test_ran "$backend"
  done
}

# refusing BACKEND: the option without which its servers could not be full soon, if there is one.
refusing() {
  case $1 in
    postgres) say max_connections=60 ;; # the other tests connect some forty times at once
    mariadb) say max-user-connections=300 ;; # with none it cannot be changed later
  esac
}
