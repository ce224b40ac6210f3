//! The machine's own settings: changed where only a test sees it, or put back.

use super::{Answer, Store};
use std::fs;

/// Lets mount(8) find its helpers, in a mount namespace of the script's own: the system stays as it is.
const PRIVATE: &str = r#"
    if [ ! -d sbin ]; then cp -a "$(realpath /sbin)" sbin; fi
    for helper in mount.kmsfs mount.fuse.kmsfs; do ln -sf "$(command -v kmsfs)" sbin/$helper; done
    mount --bind sbin "$(realpath /sbin)"
    trap 'umount -l "$MNT" 2>/dev/null || true' EXIT
"#;

/// A device that all may open, where /dev/fuse may be root's alone, and a name for the user, which fusermount3 asks
/// for; the rest is the command that follows.
const DEVICE: &str = r#"
    mount -t tmpfs none "$MNT"; mknod "$MNT/fuse" c 10 229; chmod 666 "$MNT/fuse"
    mount --bind "$MNT/fuse" /dev/fuse
    if ! getent passwd "$1" >/dev/null; then
        { cat /etc/passwd; echo "user$1:x:$1:$1::/:/bin/sh"; } >"$MNT/passwd"; mount --bind "$MNT/passwd" /etc/passwd
    fi
    shift; umount "$MNT"; exec "$@"
"#;

/// An ordinary user with a name, whom fusermount3 wants.
pub const NOBODY: u32 = 65534;

impl Store {
    /// As [`Store::try_sh`], where mount(8) knows kmsfs. Mounts end with the script.
    pub fn try_sh_private(&self, script: &str) -> Answer {
        fs::write(self.path("private.sh"), format!("{PRIVATE}\n{script}\n")).unwrap();
        self.try_sh("unshare --mount --propagation private bash -euo pipefail private.sh")
    }

    /// As [`Store::sh_as`], for a user who may mount, in a mount namespace of the script's own: mounts end with the
    /// script. `store`, `key` and `mnt` are in a directory of the user's own, which is made at first and which scripts
    /// run in.
    pub fn sh_mounting_as(&self, uid: u32, script: &str) -> Answer {
        let theirs = self.path("theirs");
        if !theirs.exists() {
            self.open_to_all();
            self.sh(&format!("mkdir theirs theirs/mnt; chown -R {uid}:{uid} theirs"));
        }
        let id = uid.to_string();
        let own = r#"cd theirs; export STORE=$PWD/store KEY=$PWD/key MNT=$PWD/mnt
            trap 'fusermount3 -u -z "$MNT" 2>/dev/null || true' EXIT
            up() { kmsfs mount --key-file "$KEY" -o "log_file=$PWD/log" "$STORE" "$MNT"; }
            down() { fusermount3 -u "$MNT"; until flock -n "$STORE/lock" true; do sleep 0.02; done; }
            crash() { kill -9 $(cat "$STORE/lock"); until flock -n "$STORE/lock" true; do sleep 0.02; done; fusermount3 -uz "$MNT"; }
            "#;
        self.run_script(
            &[
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "bash",
                "-euo",
                "pipefail",
                "-c",
                DEVICE,
                "device",
                &id,
                "setpriv",
                "--reuid",
                &id,
                "--regid",
                &id,
                "--clear-groups",
                "--",
            ],
            &format!("{own}\n{script}"),
        )
    }
}
