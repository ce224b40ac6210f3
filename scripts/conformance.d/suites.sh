# Suites that others wrote to find what file systems do wrong.

suite_pjdfstest() {
    local out=$logs/pjdfstest.out failed skipped passed total names='' more
    mount_fresh
    run_pjdfstest false "$out"
    read -r failed skipped passed total < <(pjdfstest_summary "$out")
    case $on in
        # gocryptfs has no helper for mount(8), a plain directory is not remounted.
        gocryptfs | plain) ;;
        *)
            # The read-only cases in a process of their own: others leave files open, and remounting is refused then.
            run_pjdfstest true "$out.remounted" erofs
            read -r more _ _ _ < <(pjdfstest_summary "$out.remounted")
            names=$(pjdfstest_names FAILED "$out.remounted")
            local ran
            ran=$(grep -ac '^[a-z].* \(ok\|FAILED\)$' "$out.remounted")
            failed=$((failed + more)) skipped=$((skipped - ran)) passed=$((passed + ran - more))
            ;;
    esac
    names+=$(pjdfstest_names FAILED "$out")
    skipped_names=$(pjdfstest_names skipped "$out" | tr ' ' '\n' | { [ "$on" = kmsfs ] || [ "$on" = ext4 ] && grep -v erofs || cat; } | paste -sd ' ')
    row "pjdfstest $PJDFSTEST" "$total" "$passed" "$failed" "$skipped" \
        "${names:+failed: $names }${skipped_names:+skipped: $skipped_names}"
    drop
}

# run_pjdfstest REMOUNT OUT [FILTER]
run_pjdfstest() {
    local helper=$base/sbin remount=$1 out=$2
    shift 2
    cat >"$base/pjdfstest.toml" <<TOML
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
secondary_fs = "/dev/shm"
[settings]
naptime = 0.02
allow_remount = $remount
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
TOML
    # mount(8) looks for the helper in /sbin: here it sees it there, and nobody else does.
    [ -d "$helper" ] || cp -a "$(realpath /sbin)" "$helper"
    ln -sf "$kmsfs" "$helper/mount.fuse.kmsfs"
    # shellcheck disable=SC2016
    unshare --mount bash -ec 'mount --bind "$1" "$(realpath /sbin)"; shift; exec "$@"' - \
        "$helper" "$tools/bin/pjdfstest" -c "$base/pjdfstest.toml" -p "$work" "$@" >"$out" 2>&1 || true
}

# Failed, skipped, passed, total. Without a summary: one failure.
pjdfstest_summary() {
    { grep -a '^Summary:' "$1" || echo '1 failed, 0 skipped, 0 passed, 1 total'; } |
        sed -E 's/(.* )?([0-9]+) failed, ([0-9]+) skipped, ([0-9]+) passed.* ([0-9]+) total/\2 \3 \4 \5/'
}

pjdfstest_names() { { grep -a " $1\$" "$2" || true; } | awk '{ print $1 }' | paste -sd ' '; }

# Weights of everything that fsx can do; its default leaves most of it out.
fsx_toml() {
    cat <<'TOML'
[weights]
close_open = 1
read = 10
write = 10
mapread = 8
mapwrite = 8
invalidate = 2
truncate = 5
fsync = 0.2
fdatasync = 0.2
posix_fallocate = 3
punch_hole = 5
sendfile = 2
posix_fadvise = 1
copy_file_range = 5
TOML
}

suite_fsx() {
    local variants=('' nowriteback)
    if [ "$short" = yes ]; then
        operations=${operations:-10000} seeds=${seeds:-1}
    else
        operations=${operations:-1000000} seeds=${seeds:-4}
    fi
    [ "$on" = kmsfs ] || variants=('')
    fsx_toml >"$base/fsx.toml"
    # What the file system does not do at all is left out, and said.
    local left_out=''
    mount_fresh
    for call in posix_fallocate punch_hole copy_file_range; do
        can_"$call" || { sed -i "s/^$call = .*/$call = 0/" "$base/fsx.toml"; left_out+=" $call"; }
    done
    drop
    local variant seed reader failed passed name
    for variant in "${variants[@]}"; do
        failed=0 passed=0
        mount_fresh "$variant"
        for ((seed = 1; seed <= seeds; seed++)); do
            if run_fsx "$seed" "$operations" "$variant"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
        done
        name="fsx $FSX${variant:+, $variant}"
        row "$name" "$seeds" "$passed" "$failed" 0 "$operations operations each${left_out:+; it cannot:$left_out}"
        drop
    done
    # A second process reads the file all the while.
    mount_fresh
    failed=0 passed=0
    for ((seed = 1; seed <= (seeds + 1) / 2; seed++)); do
        : >"$work/file"
        while :; do cat "$work/file" >/dev/null; sleep 0.01; done &
        reader=$!
        if run_fsx "$((seed + 100))" "$operations" reader; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
        kill "$reader"
        wait "$reader" 2>/dev/null || true
    done
    row "fsx $FSX, beside a reader" $((passed + failed)) "$passed" "$failed" 0 "$operations operations each"
    drop
}

# run_fsx SEED OPERATIONS NAME: in pieces, each with a seed of its own, since fsx $FSX never unmaps what it read through a
# mapping, and a process may have only 65,530 of them (vm.max_map_count). It also draws fallocations of length 0, which are
# EINVAL on every file system and end it: such a piece is run again with the next seed.
run_fsx() {
    local seed=$1 done=0 piece=100000 out
    while [ "$done" -lt "$2" ]; do
        [ $(($2 - done)) -ge "$piece" ] || piece=$(($2 - done))
        out=$logs/fsx-$1-$3-$done.out
        if "$tools/bin/fsx" -f "$base/fsx.toml" -N "$piece" -S "$seed" -P "$logs" "$work/file" >"$out" 2>&1; then
            done=$((done + piece))
        elif ! tail -1 "$out" | grep -qE 'POSIX_FALLOCATE .*\( *0x0 bytes\)'; then
            return 1
        fi
        seed=$((seed + 1000))
    done
}

can_posix_fallocate() { fallocate -l 8192 "$work/probe" 2>/dev/null; }
can_punch_hole() { truncate -s 65536 "$work/probe" && fallocate -p -o 0 -l 4096 "$work/probe" 2>/dev/null; }
can_copy_file_range() {
    python3 -c 'import os, sys
a, b = (os.open(sys.argv[1] + n, os.O_RDWR | os.O_CREAT) for n in ("/probe", "/probe2"))
os.write(a, b"x" * 100)
os.copy_file_range(a, b, 50, 0, 0)' "$work" 2>/dev/null
}

# stress-ng's file system class. Those left out are not about this file system: they work on /proc, /sys, mounts of their own,
# or loop devices.
suite_stress_ng() {
    local seconds=60 stressors stressor code passed=0 failed=0 skipped=0 bad='' none='' total=0
    [ "$short" = no ] || seconds=3
    mount_fresh
    stressors=$(stress-ng --class 'filesystem?' | sed 's/.*: *//')
    for stressor in $stressors; do
        case $stressor in bind-mount | binderfs | procfs | sysfs | ramfs) continue ;; esac
        total=$((total + 1)) code=0
        timeout --kill-after=20 $((seconds + 120)) stress-ng --temp-path "$work" --timeout "${seconds}s" --verify \
            --oomable "--$stressor" 2 >"$logs/stress-$stressor.out" 2>&1 </dev/null || code=$?
        case $code in
            0) if grep -qE 'skipped: [1-9]|skipping stressor' "$logs/stress-$stressor.out"
               then skipped=$((skipped + 1)) none+=" $stressor"; else passed=$((passed + 1)); fi ;;
            3 | 4) skipped=$((skipped + 1)) none+=" $stressor" ;;
            *) failed=$((failed + 1)) bad+=" $stressor" ;;
        esac
    done
    row "stress-ng $(stress-ng --version | grep -oE '[0-9]+\.[0-9.]+' | head -1)" "$total" "$passed" "$failed" "$skipped" \
        "${seconds} s each${bad:+; failed:$bad}${none:+; skipped by stress-ng:$none}"
    drop
}

# The project's own tests of what is unsafe and of what uses it, under AddressSanitizer. The stable toolchain has it with
# RUSTC_BOOTSTRAP.
suite_asan() {
    [ "$on" = kmsfs ] || return 0
    local out=$logs/asan.out passed failed names
    (
        # Leaks are looked for with ptrace(2), which a mount refuses.
        export ASAN_OPTIONS=detect_leaks=0
        export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$here/target/asan TMPDIR=$base
        target=$(rustc -vV | sed -n 's/^host: //p')
        cargo test --locked --no-fail-fast --target "$target" --package kmsfs-sys --lib
        cargo test --locked --no-fail-fast --target "$target" --lib --test it -- \
            system_calls:: sandbox:: mounting:: unlocking::terminal:: kill9::
    ) >"$out" 2>&1 </dev/null || true
    read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$out")
    # One that ends in the middle tells no result.
    [ "$(grep -c '^test result:' "$out")" -eq 3 ] || failed=$((failed + 1))
    ! grep -q 'ERROR: AddressSanitizer' "$out" || failed=$((failed + 1))
    names=$(awk '/^test .* FAILED$/ { print $2 }' "$out" | paste -sd ' ')
    row "AddressSanitizer" $((passed + failed)) "$passed" "$failed" 0 "${names:+failed: $names}"
}

# What memory holds and what a mount may do depend on how the compiler lays things out: the same tests, of the program as
# it is installed.
suite_optimized() {
    [ "$on" = kmsfs ] || return 0
    local out=$logs/optimized.out passed failed names
    (
        export TMPDIR=$base
        cargo build --locked --release
        KMSFS_PROGRAM=$here/target/release/kmsfs cargo test --locked --no-fail-fast --test it -- \
            in_memory:: plaintext:: sandbox:: revocation:: kill9::
    ) >"$out" 2>&1 </dev/null || true
    read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$out")
    [ "$(grep -c '^test result:' "$out")" -eq 1 ] || failed=$((failed + 1))
    names=$(awk '/^test .* FAILED$/ { print $2 }' "$out" | paste -sd ' ')
    row "optimized program" $((passed + failed)) "$passed" "$failed" 0 "${names:+failed: $names}"
}

# Ten thousand objects, or as many as KMSFS_BULK_OBJECTS says, that come under a key of each KMS elsewhere and go back.
suite_remotes() {
    [ "$on" = kmsfs ] || return 0
    local out=$logs/remotes.out objects=${KMSFS_BULK_OBJECTS:-10000} passed failed names none
    [ "$short" = no ] || objects=${KMSFS_BULK_OBJECTS:-500}
    (
        export TMPDIR=$base KMSFS_BULK_OBJECTS=$objects KMSFS_TEST_SERVERS=${KMSFS_TEST_SERVERS:-$here/target/servers}
        cargo test --locked --no-fail-fast --test it -- --nocapture --test-threads 1 key_stores::remotes::
    ) >"$out" 2>&1 </dev/null || true
    read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$out")
    [ "$(grep -c '^test result:' "$out")" -eq 1 ] || failed=$((failed + 1))
    names=$(awk '/^test .* FAILED$/ { print $2 }' "$out" | paste -sd ' ')
    none=$(grep -o 'NOT RUN: .*' "$out" | paste -sd ' ' || true)
    row "KMSs elsewhere" $((passed + failed)) "$passed" "$failed" 0 "$objects objects each${names:+; failed: $names}${none:+; $none}"
}
