//! The answer to `kmsfs status`, which reads it as an extended attribute of the mount's root.

use super::perform::Mount;
use super::transport::Carrier;
use kmsfs_fs::{Refusal, Result};
use serde_json::{Value, json};

/// The attribute's name.
pub const STATUS: &str = "user.x-kmsfs-status";

/// For root and whoever mounted; `EPERM` for anybody else.
pub(crate) fn status(mount: &Mount, uid: u32) -> Result<Vec<u8>> {
    if uid != 0 && uid != rustix::process::getuid().as_raw() {
        return Err(Refusal::NotAdministrator);
    }
    let fs = &*mount.fs;
    let usage = fs.usage();
    let calls = fs.store().keys().calls();
    let log = fs.store().log_usage();
    let mut status = mount.statistics.to_json();
    let members = [
        ("ProcessId", json!(std::process::id())),
        ("Transport", json!(mount.carrier.get().copied().unwrap_or(Carrier::Device).name())),
        ("ReadOnly", json!(fs.options().read_only || fs.store().read_only())),
        ("MountedReadOnly", json!(fs.options().read_only)),
        ("OpenHandles", json!(usage.handles)),
        ("OpenObjects", json!(usage.objects)),
        ("Caches", json!({"KnownInodes": usage.inodes, "OpenDirectories": usage.dirs, "Objects": usage.cached})),
        ("RedoLog", json!({"Bytes": log.bytes, "Syncs": log.syncs, "Checkpoints": log.checkpoints})),
        (
            "KmsCalls",
            json!({"GenerateDataKey": calls.generate_data_key, "Decrypt": calls.decrypt, "Encrypt": calls.encrypt}),
        ),
    ];
    status.extend(members.map(|(name, value)| (name.to_owned(), value)));
    Ok(Value::Object(status).to_string().into_bytes())
}
