# A minimal Debian in a directory, with nothing of this machine's but its kernel, its names of hosts and the certificates that
# its network needs; and what is done there.

bare_release=bookworm

# bare_tree DIR: Debian as an installer leaves it, with the archive of security updates, or the reason why not.
bare_tree() {
    local mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
    command -v debootstrap >/dev/null ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends debootstrap >&2 ||
        { echo "there is no debootstrap"; return 1; }
    debootstrap --variant=minbase "$bare_release" "$1" "$mirror/debian" >&2 || { echo "debootstrap failed: $mirror"; return 1; }
    printf 'deb %s/debian %s main\ndeb %s/debian-security %s-security main\n' \
        "$mirror" "$bare_release" "$mirror" "$bare_release" >"$1/etc/apt/sources.list"
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        mkdir -p "$1/usr/local/share/ca-certificates"
        cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/"
    fi
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    # Services are not started in a tree that nobody booted.
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
}

# bare_run TREE COMMAND: by root there, in mount and process namespaces of its own, without a variable of the caller's. What
# it leaves mounted or running goes with the namespaces.
bare_run() {
    # shellcheck disable=SC2016 # The inner shell's.
    env -i PATH="$PATH" unshare --mount --pid --fork --kill-child --propagation private sh -euc '
        tree=$1
        mount --bind "$tree" "$tree"
        mount -t proc none "$tree/proc"
        mount --rbind /sys "$tree/sys"
        mount -t tmpfs -o mode=755 none "$tree/dev"
        for node in null zero full random urandom tty fuse loop-control; do
            [ ! -e "/dev/$node" ] || cp -a "/dev/$node" "$tree/dev/"
        done
        for node in /dev/loop[0-9]*; do [ ! -e "$node" ] || cp -a "$node" "$tree/dev/"; done
        ln -s /proc/self/fd "$tree/dev/fd"
        ln -s /proc/self/fd/0 "$tree/dev/stdin"
        ln -s /proc/self/fd/1 "$tree/dev/stdout"
        ln -s /proc/self/fd/2 "$tree/dev/stderr"
        mkdir "$tree/dev/shm" "$tree/dev/pts"
        mount -t tmpfs -o mode=1777 none "$tree/dev/shm"
        mount -t devpts -o newinstance,ptmxmode=666 none "$tree/dev/pts"
        ln -s pts/ptmx "$tree/dev/ptmx"
        exec chroot "$tree" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -euc "$2"
    ' sh "$1" "$2"
}

# bare_boot TREE COMMAND: with the tree's systemd as process 1 of namespaces and a control group of their own. Fails if it
# does not come up, with the reason in its last line; what the command returns does not count.
bare_boot() {
    local unified group booted=$1/booted process i
    [ -e "$1/lib/systemd/systemd" ] || { echo "there is no systemd in the tree"; return 1; }
    unified=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$unified" ] || { echo "no cgroup2 is mounted"; return 1; }
    group=$unified/kmsfs-$$
    mkdir "$group" || { echo "no control group can be made"; return 1; }
    # shellcheck disable=SC2016 # The inner shells'.
    env -i PATH="$PATH" sh -euc '
        echo $$ >"$2/cgroup.procs"
        exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --propagation private sh -euc "$3" sh "$1"
    ' sh "$1" "$group" '
        mount --bind "$1" "$1"
        cd "$1"
        mount -t proc none proc
        mount -t tmpfs -o mode=755 none run
        mount --bind /sys sys
        mount -t tmpfs none sys/fs/cgroup
        mount -t cgroup2 none sys/fs/cgroup
        mount -t tmpfs -o mode=755 none dev
        for node in null zero full random urandom tty fuse autofs; do cp -a "/dev/$node" dev/; done
        mkdir dev/shm dev/pts old
        mount -t tmpfs none dev/shm
        mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
        ln -s pts/ptmx dev/ptmx
        ln -s /proc/self/fd dev/fd
        pivot_root . old
        umount -l /old
        rmdir /old
        # As on a machine: what systemd mounts for a service it mounts in a namespace that hands it on.
        mount --make-rshared /
        exec /usr/bin/env -i container=kmsfs PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=kmsg --unit=multi-user.target
    ' </dev/null >"$booted" 2>&1 &
    local outer=$!
    for i in $(seq 300); do
        process=$(grep -lx systemd /proc/[0-9]*/comm 2>/dev/null | sed 's|/proc/\(.*\)/comm|\1|' |
            while read -r i; do grep -qsF "${group##*/}" "/proc/$i/cgroup" && echo "$i" && break; done) || true
        if [ -n "$process" ] && nsenter -t "$process" -a systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then break; fi
        process=''
        kill -0 $outer 2>/dev/null || break
        sleep 0.2
    done
    if [ -n "$process" ]; then nsenter -t "$process" -a sh -c "$2" </dev/null || true; fi
    kill -9 $outer 2>/dev/null || true
    wait $outer 2>/dev/null || true
    for i in $(seq 100); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -e "$group" ] || break
        sleep 0.1
    done
    [ -n "$process" ] || { echo "systemd did not come up: $(tail -n 1 "$booted")"; return 1; }
}

# bare_source TREE: the project as somebody would have got it, in /root/kmsfs.
bare_source() {
    mkdir -p "$1/root/kmsfs"
    git -C "$here" ls-files -z --cached --others --exclude-standard | tar -C "$here" --null -T - -c | tar -x --no-same-owner -C "$1/root/kmsfs"
}

# Whether scripts/demo and scripts/test have everything that they need where nothing is. BARE: which of them (both), BARE_TEST:
# scripts/test's words.
suite_bare() {
    local tree=$base/bare said since size step command
    [ "$on" = kmsfs ] || { row "bare" 0 0 0 0 "only for kmsfs"; return; }
    if ! bare_tree "$tree" >"$logs/bare.made" 2>"$logs/debootstrap.out"; then
        row "bare" 0 0 0 0 "NOT RUN: $(tail -n 1 "$logs/bare.made")"
        return
    fi
    bare_source "$tree"
    # Whoever is not root is told what to do, and nothing is begun.
    said=$logs/bare-user.out
    if bare_run "$tree" 'cd /root/kmsfs && chmod 755 /root && setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/nonexistent scripts/demo' \
        >"$said" 2>&1 || ! grep -q 'nothing was begun' "$said" || [ -e "$tree/root/kmsfs/target" ]; then
        row "bare: scripts/demo by a user" 1 0 1 0 "see $said"
    else
        row "bare: scripts/demo by a user" 1 1 0 0 "$(grep -o 'apt-get .*' "$said" | tr '|' '/')"
    fi
    for step in ${BARE:-demo test}; do
        said=$logs/bare-$step.out
        command="scripts/$step"
        [ "$step" = demo ] || command+=" ${BARE_TEST:-}"
        since=$SECONDS
        if bare_run "$tree" "cd /root/kmsfs && $command" >"$said" 2>&1; then
            size=$(du -sm "$tree/root/kmsfs/target" | cut -f 1)
            row "bare: $command" 1 1 0 0 "$((SECONDS - since)) s, target/ has $size MiB then"
        else
            row "bare: $command" 1 0 1 0 "see $said"
        fi
    done
    rm -rf --one-file-system "$tree"
}
