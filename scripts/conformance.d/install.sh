# Installs, as root and only what is missing: Debian packages, and crates at pinned versions into target/conformance.

PJDFSTEST=0.2.0
FSX=0.3.2
tools=$here/target/conformance
PATH=$tools/bin:$PATH:/usr/sbin:/sbin

# For which suite, a file that tells whether it is there, and the package.
debian='
pjdfstest /usr/bin/fusermount3 fuse3
stress-ng /usr/bin/stress-ng stress-ng
fsx /usr/bin/python3 python3
git /usr/bin/git git
sqlite /usr/bin/sqlite3 sqlite3
postgresql /usr/bin/pg_lsclusters postgresql
postgresql /usr/share/postgresql/*/extension/amcheck.control postgresql
rsync /usr/bin/rsync rsync
rsync /usr/bin/setfattr attr
rsync /usr/bin/setfacl acl
tar /usr/bin/tar tar
tar /usr/bin/setfattr attr
tar /usr/bin/setfacl acl
limits /usr/bin/python3 python3
http /usr/bin/python3 python3
backing /usr/bin/python3 python3
backing /sbin/mkfs.ext4 e2fsprogs
'

install_for() {
    local suite file package missing=()
    while read -r suite file package; do
        [ -n "$suite" ] || continue
        case " $* " in *" $suite "*) ;; *) continue ;; esac
        compgen -G "$file" >/dev/null || missing+=("$package")
    done <<<"$debian"
    [ "$on" != gocryptfs ] || command -v gocryptfs >/dev/null || missing+=(gocryptfs fuse3)
    [ "$on" != kmsfs ] || command -v fusermount3 >/dev/null || missing+=(fuse3)
    if [ ${#missing[@]} -gt 0 ]; then
        echo "== installing ${missing[*]}" >&2
        apt-get update -q >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
    fi
    for suite in "$@"; do
        case $suite in
            pjdfstest) crate pjdfstest "$PJDFSTEST" ;;
            fsx) crate fsx "$FSX" ;;
        esac
    done
    # Those two build their own.
    case " $* " in " bare " | " package " | " package bare ") return 0 ;; esac
    [ "$on" != kmsfs ] || [ -n "${KMSFS:-}" ] || cargo build --locked --release --quiet
    kmsfs=${KMSFS:-$here/target/release/kmsfs}
    if [ ! -e /dev/fuse ]; then
        modprobe fuse 2>/dev/null || mknod -m 600 /dev/fuse c 10 229
    fi
}

crate() {
    "$tools/bin/$1" --version 2>/dev/null | grep -qwF "$2" && return
    [ "$(cat "$tools/$1.version" 2>/dev/null)" != "$2" ] || return 0
    echo "== installing the crate $1 $2" >&2
    cargo install --quiet --locked --root "$tools" --version "$2" "$1"
    echo "$2" >"$tools/$1.version"
}
