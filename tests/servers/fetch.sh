# shellcheck shell=bash
# Servers that this Debian does not have, from Debian's development branch ("sid").
#
# Nothing is installed and root is not needed: an apt with folders of its own downloads the packages
# with everything they depend on, down to the C library, and they are unpacked side by side into one
# folder. Its programs are then run through its own loader.

declare -A reasons=() # why a folder could not be filled: once is enough

# fetch KIND VERSION CACHE: make the programs available under `root`; otherwise set `reason`.
fetch() {
  local packages
  case $1 in
    postgres) packages=("postgresql-$2") ;;
    pgbouncer) packages=(pgbouncer) ;;
    mariadb) packages=(mariadb-server-core mariadb-client-core) ;;
    mysql) packages=(mysql-server-core mysql-client-core) ;;
  esac
  # One folder each: the packages of MySQL and MariaDB exclude each other.
  root=$3/sid/$1-$2
  [[ ! -d $root ]] || return 0
  reason=${reasons[$root]-}
  [[ -z $reason ]] || return 1
  say "fetching ${packages[*]} from Debian sid"
  mkdir -p "$3/sid"
  # The lock is for a second run at the same time. What is printed is the reason of a failure.
  reason=$(
    exec 9>"$3/sid/lock"
    flock 9
    [[ -d $root ]] || download_and_unpack "$root" "$3/apt" "${packages[@]}" 2>&1
  ) && return
  rm -rf "$root.new"
  reason=${reason:-the download failed}
  reasons[$root]=$reason
  return 1
}

# download_and_unpack ROOT APT PACKAGE...
download_and_unpack() {
  local root=$1 apt=$2 new=$1.new mirror deb options
  shift 2
  mirror=$(debian_mirror)
  [[ -n $mirror ]] || { say "apt has no Debian mirror on this machine"; return 1; }
  # The folder gets its name only when it is complete.
  rm -rf "$new" "$apt/archives"
  mkdir -p "$new" "$apt"/{etc,state,lists/partial,archives/partial}
  : >"$apt/state/status" # an apt to which nothing is installed, so that it leaves nothing out
  say "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" \
    >"$apt/sources.list"
  # Given as options, because these also overrule what the machine's own settings say; all others,
  # such as a proxy, stay in force.
  options=(-qq -o APT::Default-Release= -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts="$apt/etc"
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$apt/etc"
    -o Dir::State="$apt/state" -o Dir::State::status="$apt/state/status"
    -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives")
  quietly apt-get "${options[@]}" -o APT::Update::Error-Mode=any update || return 1
  quietly apt-get "${options[@]}" -y --no-install-recommends --download-only install "$@" || return 1
  # Packages may still use /bin and /lib, which are links nowadays.
  mkdir -p "$new"/usr/{bin,sbin,lib,lib64}
  for deb in bin sbin lib lib64; do ln -s "usr/$deb" "$new/$deb"; done
  for deb in "$apt"/archives/*.deb; do
    quietly dpkg-deb --extract "$deb" "$new" || return 1
  done
  wrap_programs "$new" "$root" || return 1
  rm -rf "$apt/archives"
  mv "$new" "$root"
}

# debian_mirror: the one from which this machine gets its own packages. apt tells only when it has
# seen what is there, which it has not on a fresh machine.
debian_mirror() {
  local mirrors _
  for _ in 1 2; do
    # shellcheck disable=SC2016 # apt fills in what looks like a command
    mirrors=$(apt-get indextargets --format '$(REPO_URI)' \
      'Created-By: Packages' 'Origin: Debian' 'Label: Debian')
    [[ -z $mirrors && $(id -u) == 0 ]] || break
    quietly apt-get update -qq >/dev/null || break
  done
  say "${mirrors%%$'\n'*}"
}

# wrap_programs FOLDER FINAL: replace each program by a script that runs it through the loader of the
# same folder. The programs find one another by name (initdb starts postgres), so each needs one.
wrap_programs() {
  local file head loader
  # Its path differs between processors.
  for loader in "$1"/usr/lib/*/ld-linux*.so.*; do break; done
  [[ -f $loader ]] || { say "the packages contain no loader"; return 1; }
  for file in "$1"/usr/{bin,sbin}/* "$1"/usr/lib/postgresql/*/bin/*; do
    [[ -f $file && ! -L $file ]] || continue
    LC_ALL=C read -rN4 head <"$file" 2>/dev/null || true
    [[ $head == $'\x7fELF' ]] || continue
    mv "$file" "$file.real"
    cat >"$file" <<SCRIPT
#!/bin/sh
exec '$2${loader#"$1"}' --library-path '$2$(dirname "${loader#"$1"}")' \\
  --argv0 '$2${file#"$1"}' '$2${file#"$1"}.real' "\$@"
SCRIPT
    chmod 755 "$file"
  done
}

# quietly COMMAND...: print nothing, or when it fails the line that says why.
quietly() {
  local output
  output=$("$@" 2>&1 </dev/null) && return
  output=$(grep -m1 '^E:' <<<"$output" || tail -n1 <<<"$output")
  say "${output#E: }"
  return 1
}
