//! The machine's own settings: changed where only a test sees it, or put back.

use super::{Answer, Store};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lets mount(8) find its helpers, in a mount namespace of the script's own: the system stays as it is.
const PRIVATE: &str = r#"
    if [ ! -d sbin ]; then cp -a "$(realpath /sbin)" sbin; fi
    for helper in mount.kmsfs mount.fuse.kmsfs; do ln -sf "$(command -v kmsfs)" sbin/$helper; done
    mount --bind sbin "$(realpath /sbin)"
    trap 'umount -l "$MNT" 2>/dev/null || true' EXIT
"#;

impl Store {
    /// As [`Store::try_sh`], where mount(8) knows kmsfs. Mounts end with the script.
    pub fn try_sh_private(&self, script: &str) -> Answer {
        fs::write(self.path("private.sh"), format!("{PRIVATE}\n{script}\n")).unwrap();
        self.try_sh("unshare --mount --propagation private bash -euo pipefail private.sh")
    }
}

/// Where /dev/fuse is closed to ordinary users it is opened for as long as this lives.
pub struct OpenDevice {
    before: fs::Permissions,
    /// One at a time, so that nobody takes another's change for what was there before.
    _alone: MutexGuard<'static, ()>,
}

static DEVICE: Mutex<()> = Mutex::new(());

impl OpenDevice {
    pub fn new() -> Self {
        let alone = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fs::metadata("/dev/fuse").unwrap().permissions();
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
        Self { before, _alone: alone }
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let _ = fs::set_permissions("/dev/fuse", self.before.clone());
    }
}
