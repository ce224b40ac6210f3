# Each kind of file system below a store: the whole life of a store there, or the words that refuse it.

backing_all=(ext4 ext4-inode128 ext4-block1k ext3 xfs btrfs btrfs-quota btrfs-subvolume tmpfs overlayfs overlayfs-two
    mergerfs fuse-overlayfs bindfs ntfs-3g exfat vfat sshfs unionfs rclone nfs)

# A row for each, or for those in KINDS: what is there is used, what is missing and cannot be installed is said as NOT RUN.
suite_backing() {
    local kind kinds store below good
    [ "$on" = kmsfs ] || { row "backing" 0 0 0 0 "only for kmsfs"; return; }
    read -ra kinds <<<"${KINDS:-${backing_all[*]}}"
    for kind in "${kinds[@]}"; do
        count=$((count + 1))
        place=$base/$count
        mkdir -p "$place/mnt" "$place/below"
        below=$place/below
        if ! ( set -euo pipefail; "below_${kind//-/_}" ) >"$logs/backing-$kind.make" 2>&1; then
            row "backing: $kind" 0 0 0 0 "NOT RUN: $(tail -n 1 "$logs/backing-$kind.make" | tr '|' '/')"
        else
            backing_run "$kind"
        fi
        backing_away
    done
}

# The life of a store: made, mounted, checked, filled up, emptied a little, killed, mounted, verified, checked by fsck.
backing_run() {
    local kind=$1 said=$logs/backing-$kind.out passed=0 failed=0 remark=''
    store=$below/store
    if ! "$kmsfs" init --key-file "$place/key" "$store" >"$said" 2>&1; then
        # A refusal leaves nothing behind.
        if [ -e "$store" ] || [ -e "$place/key" ]; then row "backing: $kind" 1 0 1 0 "refused, but something is left"; return; fi
        row "backing: $kind" 1 1 0 0 "refused: $(sed 's/^kmsfs: [^:]*: //' "$said" | tail -n 1 | tr '|' '/')"
        return
    fi
    local step
    for step in backing_checks backing_subvolume backing_full backing_kill backing_verify backing_fsck; do
        if [ "$step" = backing_subvolume ] && [ "$kind" != btrfs-subvolume ]; then continue; fi
        ( set -euo pipefail; "$step" ) >"$said.$step" 2>&1 </dev/null &
        if wait $!; then
            passed=$((passed + $(grep -c '^ok' "$said.$step" || true) + 1))
        else
            failed=$((failed + $(grep -c '^FAILED' "$said.$step" || true) + 1))
            remark+="failed: $step ($(backing_failures "$said.$step")) "
        fi
    done
    row "backing: $kind" $((passed + failed)) "$passed" "$failed" 0 "$remark"
}

backing_failures() { { grep '^FAILED' "$1" || true; } | head -n 3 | paste -sd ';' | tr '|' '/'; }

backing_mount() { "$kmsfs" mount --key-file "$place/key" -o "allow_other,log_file=$logs/kmsfs-$count.log" "$store" "$place/mnt"; }

backing_checks() {
    backing_mount
    mkdir -m 755 "$place/mnt/run" "$place/mnt/kept"
    python3 scripts/conformance.d/backing.py make "$place/mnt/kept"
    python3 scripts/conformance.d/backing.py checks "$place/mnt/run" && good=yes || good=no
    unmount_one "$place/mnt"
    backing_mount
    python3 scripts/conformance.d/backing.py verify "$place/mnt/kept"
    [ $good = yes ]
}

# A subvolume in a bucket is refused, and what is beside it goes on.
backing_subvolume() {
    btrfs subvolume create "$store/buckets/run/sub"
    ! ls "$place/mnt/run/sub"
    grep -q 'run/sub: another file system begins here' "$logs/kmsfs-$count.log"
    python3 scripts/conformance.d/backing.py verify "$place/mnt/kept"
    btrfs subvolume delete "$store/buckets/run/sub"
}

# The writer is told, what was there stays, and removing makes room again.
backing_full() {
    python3 scripts/conformance.d/backing.py fill "$place/mnt/run"
    python3 scripts/conformance.d/backing.py verify "$place/mnt/kept"
    unmount_one "$place/mnt"
    # A full store can be mounted, and emptied.
    backing_mount
    python3 scripts/conformance.d/backing.py verify "$place/mnt/kept"
    rm "$place"/mnt/run/fill-*
    python3 scripts/conformance.d/backing.py again "$place/mnt/run"
}

# Written and synced, and killed at once.
backing_kill() {
    python3 scripts/conformance.d/backing.py sync "$place/mnt/kept"
    pkill -9 -f " mount .* $store $place/mnt\$"
    umount -l "$place/mnt"
    flock --timeout 120 "$store/lock" true
}

backing_verify() {
    backing_mount
    python3 scripts/conformance.d/backing.py verify "$place/mnt/kept"
    python3 scripts/conformance.d/backing.py synced "$place/mnt/kept"
    unmount_one "$place/mnt"
}

backing_fsck() { "$kmsfs" fsck --scrub --key-file "$place/key" "$store"; }

# Takes mounts of this kind away, the one below last.
backing_away() {
    local target
    awk -v dir="$place/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r target; do
        umount "$target" 2>/dev/null || { sleep 1; umount -l "$target"; }
    done
    rm -rf --one-file-system "$place"
}

# ---- what is below: each mounts something on $below, or says in its last line why it cannot

need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null && return
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" || { echo "there is no $2"; return 1; }
}

image() { truncate -s "$1" "$place/image"; }
loop() { mount -o "loop${1:+,$1}" "$place/image" "$below"; }

below_ext4() { image 200M; mkfs.ext4 -q -m 0 "$place/image"; loop; }
below_ext4_inode128() { image 200M; mkfs.ext4 -q -m 0 -I 128 "$place/image"; loop; }
below_ext4_block1k() { image 200M; mkfs.ext4 -q -m 0 -b 1024 "$place/image"; loop; }
below_ext3() { image 200M; mkfs.ext3 -q -m 0 "$place/image"; loop; }
below_xfs() { need mkfs.xfs xfsprogs; image 320M; mkfs.xfs -q "$place/image"; loop; }
below_btrfs() { need mkfs.btrfs btrfs-progs; image 300M; mkfs.btrfs -q "$place/image"; loop; }
below_btrfs_subvolume() { below_btrfs; }
below_btrfs_quota() {
    below_btrfs
    btrfs subvolume create "$below/limited"
    btrfs quota enable "$below"
    btrfs qgroup limit 64M "$below/limited"
    mount --bind "$below/limited" "$below"
}
below_tmpfs() { mount -t tmpfs -o size=96m none "$below"; }
below_overlayfs() {
    mkdir "$place/layers"
    mount -t tmpfs -o size=96m none "$place/layers"
    mkdir "$place"/layers/{lower,upper,work}
    mount -t overlay none -o "lowerdir=$place/layers/lower,upperdir=$place/layers/upper,workdir=$place/layers/work" "$below"
}
below_overlayfs_two() {
    mkdir "$place/layers" "$place/lower"
    mount -t tmpfs -o size=96m none "$place/layers"
    mount -t tmpfs none "$place/lower"
    mkdir "$place"/layers/{upper,work}
    mount -t overlay none -o "xino=off,lowerdir=$place/lower,upperdir=$place/layers/upper,workdir=$place/layers/work" "$below"
}
small() { mkdir "$place/small"; mount -t tmpfs -o size=96m none "$place/small"; }
below_mergerfs() { need mergerfs mergerfs; small; mkdir "$place"/small/{a,b}; mergerfs -o allow_other,minfreespace=0 "$place/small/a:$place/small/b" "$below"; }
below_fuse_overlayfs() {
    need fuse-overlayfs fuse-overlayfs
    small
    mkdir "$place"/small/{lower,upper,work}
    fuse-overlayfs -o "allow_other,lowerdir=$place/small/lower,upperdir=$place/small/upper,workdir=$place/small/work" "$below"
}
below_bindfs() { need bindfs bindfs; small; bindfs "$place/small" "$below"; }
below_ntfs_3g() { need ntfs-3g ntfs-3g; image 200M; mkfs.ntfs -q -F "$place/image"; ntfs-3g -o permissions "$place/image" "$below"; }
below_exfat() {
    need mkfs.exfat exfatprogs
    need mount.exfat-fuse exfat-fuse
    image 200M
    mkfs.exfat "$place/image"
    local device
    device=$(losetup -f --show "$place/image")
    mount.exfat-fuse -o umask=077 "$device" "$below"
    # It goes with the mount.
    losetup -d "$device"
}
below_vfat() { need mkfs.vfat dosfstools; image 200M; mkfs.vfat "$place/image"; loop umask=077; }
below_sshfs() {
    need sshfs sshfs
    [ -x /usr/lib/openssh/sftp-server ] || need sftp-server openssh-sftp-server
    small
    # No network: the server at the other end of a pipe.
    printf '#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n' >"$place/ssh"
    chmod +x "$place/ssh"
    sshfs -o "ssh_command=$place/ssh" "localhost:$place/small" "$below"
}
below_unionfs() { need unionfs unionfs-fuse; small; mkdir "$place"/small/{a,b}; unionfs -o cow "$place/small/a=RW:$place/small/b=RO" "$below"; }
below_rclone() {
    need rclone rclone
    small
    rclone mount --daemon --vfs-cache-mode full --cache-dir "$place/cache" "$place/small" "$below"
}
below_nfs() {
    grep -qw nfs4 /proc/filesystems || modprobe nfsv4 2>/dev/null || { echo "this kernel has no NFS client"; return 1; }
    need exportfs nfs-kernel-server
    grep -qw nfsd /proc/filesystems || modprobe nfsd 2>/dev/null || { echo "this kernel has no NFS server"; return 1; }
    small
    exportfs -o rw,no_root_squash,insecure,fsid=77 "127.0.0.1:$place/small"
    mount -t nfs4 "127.0.0.1:$place/small" "$below"
}
