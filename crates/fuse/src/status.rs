//! The answer to `kmsfs status`, which reads it as an extended attribute of the mount's root.

use super::perform::Mount;
use super::transport::Carrier;
use kmsfs_fs::{Refusal, Result};
use kmsfs_kms::elsewhere::ProviderStatus;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The attribute's name.
pub const STATUS: &str = "user.x-kmsfs-status";

/// How a custom key store is, by its name.
fn key_store(of: ProviderStatus) -> (String, Value) {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let state = match (of.connected, of.away.is_some(), of.breaker_open) {
        (false, ..) => "Disconnected",
        (_, true, true) => "Away, asked once a second",
        (_, true, false) => "Away",
        _ => "Connected",
    };
    let members = json!({
        "State": state,
        "Provider": of.provider,
        "Endpoint": of.endpoint,
        "AwayMilliseconds": of.away.map(milliseconds),
        "KeysAway": of.keys_away,
        "InFlight": of.in_flight,
        "Queued": of.queued,
        "LatencyMilliseconds": milliseconds(of.counts.latency),
        "SlowestMilliseconds": milliseconds(of.counts.slowest),
        "Answered": of.counts.answered,
        "Refused": of.counts.refused,
        "Outages": of.counts.outages,
        "Spared": of.counts.spared,
    });
    (of.name, members)
}

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
    let providers = fs.store().keys().providers();
    if !providers.is_empty() {
        let key_stores: Map<_, _> = providers.into_iter().map(key_store).collect();
        status.insert("KeyStores".to_owned(), Value::Object(key_stores));
    }
    Ok(Value::Object(status).to_string().into_bytes())
}
