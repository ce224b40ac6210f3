# Real programs that check their own work. Each step that goes well is a case; the first that does not ends the suite.

# steps NAME REMARK FUNCTION...: runs the functions in turn.
steps() {
    local name=$1 remark=$2 step passed=0
    shift 2
    for step in "$@"; do
        # In the background, since bash forgets -e in what a condition looks at.
        ( set -euo pipefail; "$step" ) >"$logs/$step.out" 2>&1 </dev/null &
        if ! wait $!; then
            row "$name" $# "$passed" 1 0 "failed: $step"
            drop
            return
        fi
        passed=$((passed + 1))
    done
    row "$name" $# "$passed" 0 0 "$remark"
    drop
}

# ---- git

suite_git() {
    files=10000
    [ "$short" = no ] || files=1000
    export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=k GIT_AUTHOR_EMAIL=k@k GIT_COMMITTER_NAME=k GIT_COMMITTER_EMAIL=k@k
    mount_fresh
    steps "git $(git --version | awk '{ print $3 }')" "$files files" \
        git_repository git_clone git_change git_gc git_fsck git_remounted
}

git_repository() {
    git init -q "$work/origin"
    cd "$work/origin"
    local n
    for ((n = 0; n < files; n++)); do
        ((n % 100)) || mkdir -p "d$((n / 100))"
        printf 'file %d\n%s\n' $n "$RANDOM" >"d$((n / 100))/f$n"
    done
    git add -A
    git commit -q -m first
}
git_clone() { git clone -q --no-local "$work/origin" "$work/clone"; test -z "$(git -C "$work/clone" status --porcelain)"; }
git_change() {
    cd "$work/clone"
    find . -name 'f*7' -not -path './.git/*' -exec sh -c 'for f; do echo changed >>"$f"; done' - {} +
    git mv d1 moved
    git commit -q -a -m second
    git checkout -q -b other HEAD~1
    git checkout -q -
    test -z "$(git status --porcelain)"
}
git_gc() { git -C "$work/clone" gc -q --aggressive --prune=now; }
git_fsck() { git -C "$work/clone" fsck --strict --full; git -C "$work/origin" fsck --strict --full; }
git_remounted() { remount; git_fsck; test -z "$(git -C "$work/clone" status --porcelain)"; }

# ---- sqlite3

suite_sqlite() {
    transactions=100000
    [ "$short" = no ] || transactions=1000
    mount_fresh
    steps "sqlite3 $(sqlite3 --version | awk '{ print $1 }')" "$transactions transactions in each mode" \
        sqlite_delete sqlite_wal sqlite_concurrent sqlite_remounted
}

sqlite_mode() {
    {
        echo "PRAGMA journal_mode=$1; PRAGMA synchronous=$2; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c BLOB);"
        echo 'CREATE INDEX i ON t(b);'
        awk -v n="$transactions" 'BEGIN { for (i = 1; i <= n; i++) {
            if (i % 5) printf "INSERT INTO t(b, c) VALUES(%d, randomblob(%d));\n", i * 7919 % 100003, i % 400
            else printf "BEGIN; UPDATE t SET c = randomblob(%d) WHERE a = %d; DELETE FROM t WHERE a = %d; COMMIT;\n", i % 3000, i / 3, i / 4
        } }'
    } | sqlite3 -bail "$work/$1.db"
    sqlite_check "$1"
}
sqlite_check() { test "$(sqlite3 "$work/$1.db" 'PRAGMA integrity_check')" = ok; }
# Every transaction is synced as the mode has it by default.
sqlite_delete() { sqlite_mode DELETE FULL; }
sqlite_wal() { sqlite_mode WAL FULL; }
# Two writers and a reader at once, by locks and by WAL's shared memory.
sqlite_concurrent() {
    local n pids=()
    for n in 1 2; do
        for ((i = 0; i < transactions / 100; i++)); do echo "INSERT INTO t(b, c) VALUES('w$n', $i);"; done |
            sqlite3 -bail -cmd '.timeout 60000' "$work/WAL.db" &
        pids+=($!)
    done
    for ((i = 0; i < 50; i++)); do sqlite3 -cmd '.timeout 60000' "$work/WAL.db" 'SELECT count(*) FROM t' >/dev/null; done
    wait "${pids[@]}"
    test "$(sqlite3 "$work/WAL.db" "SELECT count(*) FROM t WHERE b IN ('w1', 'w2')")" = $((transactions / 100 * 2))
    sqlite_check WAL
}
sqlite_remounted() { remount; sqlite_check DELETE; sqlite_check WAL; }

# ---- PostgreSQL

suite_postgresql() {
    seconds=60 scale=10
    [ "$short" = no ] || { seconds=5; scale=1; }
    pg=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -1)
    mount_fresh
    install -d -o postgres -m 700 "$work/pg" "$base/run"
    chown postgres "$base/run"
    steps "PostgreSQL $("$pg/postgres" --version | awk '{ print $3 }')" "pgbench for $seconds s, amcheck" \
        pg_initdb pg_start pg_pgbench pg_restart pg_amcheck pg_remounted
}

as_postgres() { ( cd / && exec setpriv --reuid postgres --regid postgres --init-groups -- "$@" ); }
pg_initdb() { as_postgres "$pg/initdb" -D "$work/pg" -A trust --data-checksums; }
pg_start() {
    as_postgres "$pg/pg_ctl" -D "$work/pg" -w -t 120 -l "$base/run/log" -o "-c listen_addresses='' -k $base/run" start
    as_postgres "$pg/createdb" -h "$base/run" bench
}
pg_pgbench() {
    as_postgres "$pg/pgbench" -h "$base/run" -i -q -s "$scale" bench
    as_postgres "$pg/pgbench" -h "$base/run" -c 4 -j 2 -T "$seconds" bench
}
pg_stop() { as_postgres "$pg/pg_ctl" -D "$work/pg" -w -t 120 -m fast stop; }
pg_restart() {
    as_postgres "$pg/pg_ctl" -D "$work/pg" -w -t 120 -m immediate stop
    as_postgres "$pg/pg_ctl" -D "$work/pg" -w -t 120 -l "$base/run/log" -o "-c listen_addresses='' -k $base/run" start
}
pg_amcheck() {
    as_postgres "$pg/psql" -h "$base/run" -c 'CREATE EXTENSION IF NOT EXISTS amcheck' bench
    as_postgres "$pg/pg_amcheck" -h "$base/run" --heapallindexed --parent-check bench
    pg_stop
}
pg_remounted() {
    "$pg/pg_checksums" --version
    remount
    as_postgres "$pg/pg_checksums" --check -D "$work/pg"
}

# ---- building this project

suite_cargo() {
    mount_fresh
    steps "cargo $(cargo --version | awk '{ print $2 }')" "builds this project and runs it" cargo_copy cargo_build cargo_run
}
# Without the stores of the tests, whose .encryption.json are encrypted, which is no configuration here.
cargo_copy() { mkdir "$work/src"; tar -C "$here" --exclude ./target --exclude ./.git --exclude "./tests/data/store*" -cf - . | tar -C "$work/src" -xf -; }
cargo_build() { cd "$work/src"; CARGO_TARGET_DIR=$work/src/target cargo build --locked --quiet; }
cargo_run() { "$work/src/target/debug/kmsfs" --version; cd "$work/src"; CARGO_TARGET_DIR=$work/src/target cargo build --locked --quiet; }

# ---- rsync and tar

# A tree with everything that -aHAX and tar can carry.
make_tree() {
    local n
    mkdir -p "$1"/{a/b/c,shared,empty}
    for n in $(seq 200); do seq "$n" >"$1/a/$n"; done
    head -c 3000000 /dev/urandom >"$1/a/b/big"
    ln "$1/a/1" "$1/a/b/hard"
    ln "$1/a/b/big" "$1/big-too"
    ln -s ../a/b/big "$1/shared/soft"
    ln -s "$(printf '%04000d' 7)" "$1/long"
    mkfifo "$1/fifo"
    mknod "$1/null" c 1 3
    truncate -s 50M "$1/sparse"
    printf middle | dd of="$1/sparse" bs=1 seek=20000000 conv=notrunc status=none
    setfattr -n user.note -v hello "$1/a/2"
    setfattr -n user.note -v directory "$1/a"
    setfattr -n trusted.note -v root "$1/a/3"
    setfacl -m u:1234:rw,g:2345:r "$1/a/4"
    setfacl -d -m u:1234:rwx "$1/shared"
    echo inherits >"$1/shared/inherits"
    chown 1234:2345 "$1/a/5"
    chmod 4711 "$1/a/6"
    chmod 2775 "$1/shared"
    chmod 1777 "$1/empty"
    printf x >"$1/$(printf 'n%.0s' $(seq 255))"
    printf x >"$1/"$'newline\nand \xff\xfe bytes'
    touch -h -d '2001-02-03 04:05:06.123456789' "$1/a/7" "$1/shared/soft"
    touch -d '1969-12-31 23:00:00.5' "$1/a/8"
}
# Everything about a tree that programs can see but inode numbers, ctime and atime.
describe() {
    ( cd "$1" && find . \( -type d -printf '%y %m %U %G %T@ %p\n' \) -o -printf '%y %m %n %U %G %s %T@ %p -> %l\n' | sort
      find . -type f -print0 | sort -z | xargs -0 sha256sum
      find . ! -type l -print0 | sort -z | xargs -0 getfattr -d -m - --absolute-names 2>/dev/null | grep -v '^user.x-amz'
      find . ! -type l -print0 | sort -z | xargs -0 getfacl -n -p 2>/dev/null )
}
compare() { diff <(describe "$1") <(describe "$2"); }

suite_rsync() {
    mount_fresh
    source=$base/tree-$count back=$base/back-$count
    make_tree "$source"
    steps "rsync $(rsync --version | awk 'NR == 1 { print $3 }') -aHAX" "there and back, nothing the second time" \
        rsync_there rsync_again rsync_remounted rsync_back
    rm -rf "$source" "$back"
}
# Without the window rsync takes times within one second for equal.
rsync_options=(-aHAX --numeric-ids --modify-window=-1)
rsync_there() { rsync "${rsync_options[@]}" "$source/" "$work/tree/"; compare "$source" "$work/tree"; }
rsync_again() { test -z "$(rsync "${rsync_options[@]}" --itemize-changes "$source/" "$work/tree/")"; }
rsync_remounted() {
    remount
    compare "$source" "$work/tree"
    rsync_again
    test -z "$(rsync "${rsync_options[@]}" --checksum --itemize-changes "$source/" "$work/tree/")"
}
rsync_back() {
    rsync "${rsync_options[@]}" "$work/tree/" "$back/"
    compare "$source" "$back"
    test -z "$(rsync "${rsync_options[@]}" --itemize-changes "$work/tree/" "$back/")"
}

suite_tar() {
    mount_fresh
    source=$base/tree-$count back=$base/back-$count
    make_tree "$source"
    mkdir "$back"
    steps "tar $(tar --version | awk 'NR == 1 { print $4 }') --xattrs --acls --sparse" "there and back" \
        tar_there tar_remounted tar_back
    rm -rf "$source" "$back"
}
tar_options=(--numeric-owner --xattrs '--xattrs-include=*' --acls --sparse)
tar_there() {
    mkdir "$work/tree"
    tar -C "$source" "${tar_options[@]}" -cf - . | tar -C "$work/tree" "${tar_options[@]}" -xpf -
    compare "$source" "$work/tree"
}
tar_remounted() { remount; compare "$source" "$work/tree"; }
tar_back() {
    tar -C "$work/tree" "${tar_options[@]}" -cf "$work/archive.tar" .
    tar -C "$back" "${tar_options[@]}" -xpf "$work/archive.tar"
    compare "$source" "$back"
    tar -C "$work/tree" --numeric-owner -df "$work/archive.tar"
}
