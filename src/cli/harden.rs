//! What a process does before it reads a key: nothing of its memory may reach a disk or another process.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// No core dumps and no ptrace, by any user but root. For every command that reads keys.
pub fn forbid_dumps() {
    // Either alone would do against an ordinary crash; a failure of both leaves the mount as safe as other programs.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Keeps all memory of this process, present and future, out of swap, if that can never make an allocation fail: with
/// CAP_IPC_LOCK or without a limit on locked memory. Returns why not otherwise.
pub fn lock_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    let privileged = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if let (Some(bytes), false) = (limit, privileged) {
        let text = format!("memory is not locked and may reach swap: only {bytes} bytes may be locked (ulimit -l)");
        return Err(text);
    }
    // ONFAULT: stacks and buffers are locked as they come into use instead of being filled at once.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|errno| format!("memory is not locked and may reach swap: {errno}"))
}
