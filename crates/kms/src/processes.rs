//! What the kernel tells of the processes that use a mount, from whoever may read it: under `/proc` lie the environment
//! and the memory of others too, so the serving process has another one read for it.

use std::fs;
use std::io;
use std::sync::OnceLock;

/// Reads `/proc/PID/status` (`true`) or `/proc/PID/comm`.
pub(crate) type ReadProcess = Box<dyn Fn(u32, bool) -> io::Result<Vec<u8>> + Send + Sync>;

static READER: OnceLock<ReadProcess> = OnceLock::new();

/// From now on this process does not read them itself. For the first caller only.
pub fn read_processes_through(reader: ReadProcess) {
    let _ = READER.set(reader);
}

/// By this process itself.
pub fn read_process(pid: u32, status: bool) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/{}", if status { "status" } else { "comm" }))
}

/// Its credentials among others, a name and a value a line (proc(5)), if it is there.
pub(super) fn status(pid: u32) -> Option<String> {
    String::from_utf8(read(pid, true)?).ok()
}

/// The first 15 bytes of its name, and a newline.
pub(super) fn name(pid: u32) -> Option<Vec<u8>> {
    read(pid, false)
}

fn read(pid: u32, status: bool) -> Option<Vec<u8>> {
    // The kernel has no process for what it does itself, such as writing back.
    if pid == 0 {
        return None;
    }
    match READER.get() {
        Some(reader) => reader(pid, status),
        None => read_process(pid, status),
    }
    .ok()
}

/// When a process was started, in ticks since the machine was: field 22 of proc_pid_stat(5). `None` where there is no
/// such process, or it has ended and nobody has asked for its status.
pub fn process_started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may have any bytes, and ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}
