# shellcheck shell=bash
# The tests of what programs see, on mounts that are served by io_uring.

# Themes that use mounts, without those that kill the process of one or the machine's memory: kernels have been left with
# threads that nothing ends.
RINGS_THEMES=(access attackers below beside_the_kms bigfile bulk changing_hands config configured costs dual elsewhere
    full_disk git handles mmap mounting names ordinary parts plaintext posix revocation rings routing running sandbox
    semantics sqlite tampering tree waiting walkthrough)
# Of these themes, what kills the process of a mount, or looks at one whose process was killed.
RINGS_WITHOUT=(is_mounted_and_emptied recovery_is_refused_while_a_bucket_is_hidden a_read_only_mount_writes_no_byte
    when_the_daemon_is_gone a_call_of_a_32_bit_program_ends_the_process)
RINGS_CONNECTIONS=/sys/fs/fuse/connections
RINGS_SWITCH=/sys/module/fuse/parameters/enable_uring
# Whatever takes longer hangs.
RINGS_SECONDS=3600

# Numbers of the kernel's connections to mounts of kmsfs that these tests have made.
rings_connections() {
    awk -v dir="$base/" 'index($5, dir) == 1 && / fuse\.kmsfs / { split($3, device, ":"); print device[2] }' /proc/self/mountinfo
}

# Ends them, so that nobody waits for an answer.
rings_abort() {
    local number
    for number in $(rings_connections); do
        { echo 1 >"$RINGS_CONNECTIONS/$number/abort"; } 2>/dev/null || true
    done
}

# Kills nothing: when the time is over it ends connections, until the process has ended by itself.
rings_watch() {
    local pid=$1 second
    for ((second = 0; ; second++)); do
        sleep 1
        kill -0 "$pid" 2>/dev/null || return 0
        [ $second -lt $RINGS_SECONDS ] || rings_abort
    done
}

suite_rings() {
    [ "$on" = kmsfs ] || return 0
    local out=$logs/rings.out passed failed names
    if [ ! -w $RINGS_SWITCH ]; then
        row "over io_uring" 0 0 0 0 "not run: this kernel has no FUSE over io_uring"
        return 0
    fi
    cat >&2 <<'WARNING'
This switches FUSE over io_uring on for the whole machine, until the tests are done, and has it carry the requests of their
mounts. Kernels that have it have had faults: in the worst case processes are left that nothing ends, and the machine has to be
started anew. Do not run it beside anything that matters, and do not kill it: Ctrl-C ends the mounts first.
WARNING
    (
        export TMPDIR=$base KMSFS_TEST_TRANSPORT=io_uring
        cargo test --locked --no-run --test it
        before=$(cat $RINGS_SWITCH)
        mounted=no
        mountpoint -q $RINGS_CONNECTIONS || { mount -t fusectl none $RINGS_CONNECTIONS; mounted=yes; }
        trap 'rings_abort; echo "$before" >$RINGS_SWITCH; [ $mounted = no ] || umount $RINGS_CONNECTIONS' EXIT
        echo Y >$RINGS_SWITCH
        cargo test --locked --no-fail-fast --test it -- "${RINGS_THEMES[@]/%/::}" \
            "${RINGS_WITHOUT[@]/#/--skip=}" &
        rings_watch $! &
        wait
    ) >"$out" 2>&1 </dev/null || true
    read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$out")
    [ "$(grep -c '^test result:' "$out")" -eq 1 ] || failed=$((failed + 1))
    names=$(awk '/^test .* FAILED$/ { print $2 }' "$out" | paste -sd ' ')
    row "over io_uring" $((passed + failed)) "$passed" "$failed" 0 "${names:+failed: $names}"
}
