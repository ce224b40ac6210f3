# The file system under test: a fresh one for each suite.

count=0
work=''        # the directory to test in: inside a bucket
descriptors='' # RLIMIT_NOFILE of the process behind the mount, if it is to have another

# Options of kmsfs's -o, for kmsfs alone.
mount_fresh() {
    local options=${1:-}
    count=$((count + 1))
    place=$base/$count
    mkdir -p "$place/mnt"
    chmod 755 "$place" "$place/mnt"
    echo conformance >"$place/pass"
    case $on in
        kmsfs)
            "$kmsfs" init --key-file "$place/key" "$place/store" >/dev/null
            mount_again "$options"
            mkdir -m 755 "$place/mnt/run"
            ;;
        gocryptfs)
            mkdir "$place/store"
            gocryptfs -q -init -passfile "$place/pass" "$place/store"
            mount_again
            mkdir -m 755 "$place/mnt/run"
            ;;
        ext4)
            truncate -s "${EXT4_SIZE:-20G}" "$place/store"
            mkfs.ext4 -q "$place/store"
            mount_again
            mkdir -m 755 "$place/mnt/run"
            ;;
        plain) mkdir -m 755 "$place/mnt/run" ;;
    esac
    work=$place/mnt/run
}

mount_again() {
    local options=${1:-}
    case $on in
        kmsfs)
            options=allow_other,suid,dev,log_file=$logs/kmsfs-$count.log${options:+,$options}
            ( [ -z "$descriptors" ] || ulimit -n "$descriptors"
              exec "$kmsfs" mount --key-file "$place/key" -o "$options" "$place/store" "$place/mnt" )
            ;;
        gocryptfs)
            ( [ -z "$descriptors" ] || ulimit -n "$descriptors"
              exec gocryptfs -q -allow_other -acl -passfile "$place/pass" "$place/store" "$place/mnt" )
            ;;
        ext4) mount -o loop "$place/store" "$place/mnt" ;;
        plain) ;;
    esac
}

# Nothing of it comes from a cache afterwards.
remount() {
    [ "$on" = plain ] || { unmount_one "$place/mnt"; mount_again "${1:-}"; }
}

unmount_one() {
    local tries=0
    until umount "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { umount -l "$1"; return 1; }
        sleep 0.1
    done
    # The process behind the mount goes on until everything is written home.
    [ "$on" != kmsfs ] || flock --timeout 120 "${store:-$place/store}/lock" true
}

# Takes the file system down and away; a suite's last step.
drop() {
    [ "$on" = plain ] || unmount_one "$place/mnt"
    rm -rf --one-file-system "$place"
}

unmount_all() {
    local target
    awk -v dir="$base/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r target; do
        umount -l "$target"
    done
}
