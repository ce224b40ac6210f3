//! What a process has from whoever started it, and what of that is not for a mount: it serves everybody, for longer
//! than the shell or the limits it came from. All of it is put right here, before a secret is read.

use super::exit::Failure;
use kmsfs_sys as sys;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Beyond them the kernel ends the process, or memory that it needs is refused.
const DEADLY: [Resource; 5] = [Resource::Fsize, Resource::Cpu, Resource::As, Resource::Data, Resource::Rss];
/// More of them is better; what the administrator allows.
const USEFUL: [Resource; 4] = [Resource::Nofile, Resource::Nproc, Resource::Memlock, Resource::Sigpending];

/// Other code or data in this process, and other behaviour of its heap: beginnings of names. Those that glibc takes
/// from set-id programs (its `unsecvars.h`) but for TMPDIR, which nothing here uses; and the one that changes the
/// stacks of threads.
const VARIABLES: [&str; 14] = [
    "LD_",
    "MALLOC_",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "GETCONF_DIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NIS_PATH",
    "NLSPATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TZDIR",
    "RUST_MIN_STACK",
];

/// Bytes of stack for the main thread, where the limit may be raised, and those that it cannot do without.
const STACK: u64 = 8 << 20;
const LEAST_STACK: u64 = 1 << 20;

const SCORE: &str = "/proc/self/oom_score_adj";

/// For every command, before it reads its command line. What is missing, and what to do about it, where there is too
/// little.
pub fn make_room_for_the_stack() -> Result<(), Failure> {
    let enough = |limit: Option<u64>, least| limit.is_none_or(|bytes| bytes >= least);
    let limit = getrlimit(Resource::Stack);
    if !enough(limit.current, STACK) {
        let maximum = if enough(limit.maximum, STACK) { limit.maximum } else { Some(STACK) };
        if setrlimit(Resource::Stack, Rlimit { current: Some(STACK), maximum }).is_err() {
            let _ = setrlimit(Resource::Stack, Rlimit { current: limit.maximum, maximum: limit.maximum });
        }
    }
    match getrlimit(Resource::Stack).current {
        Some(bytes) if bytes < LEAST_STACK => {
            let (kib, least) = (bytes >> 10, LEAST_STACK >> 10);
            Err(Failure::new(format!(
                "the stack may have only {kib} KiB: raise the limit (ulimit -s {least}, or more)"
            )))
        }
        _ => Ok(()),
    }
}

/// For what changes a store or its keys and ends: no limit ends it halfway.
pub fn put_limits_right() {
    sys::reset_signals();
    for resource in DEADLY {
        raise(resource, None);
    }
}

/// Closed standard descriptors are /dev/null from the beginning: Rust's runtime sees to that.
pub fn put_right() {
    begin_anew();
    put_limits_right();
    for resource in USEFUL {
        raise(resource, getrlimit(resource).maximum);
    }
    rustix::process::umask(Mode::from_raw_mode(0o077));
}

/// For this process's children, of which some share a uid: the kernel counts the processes of a uid together, so that
/// one would use up another's limit. Where this process may not raise it, it is as it was.
pub fn lift_limit_on_processes() {
    raise(Resource::Nproc, None);
}

/// Its turn and its memory are as everybody's, where the caller's were worth less. For a mount in the background: what
/// runs in the foreground has them from a service manager.
pub fn put_right_in_background() {
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice > 0) {
        let _ = setpriority_process(None, 0);
    }
    sys::take_turns_as_everybody();
    let score = fs::read_to_string(SCORE).ok().and_then(|score| score.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score > 0) {
        let _ = fs::write(SCORE, "0");
    }
}

/// The program starts again without the variables that the loader has followed already.
fn begin_anew() {
    let is_not_ours = |name: &OsStr| VARIABLES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()));
    let not_ours: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).filter(|name| is_not_ours(name)).collect();
    if not_ours.is_empty() {
        return;
    }
    let mut words = std::env::args_os();
    let mut anew = Command::new("/proc/self/exe");
    anew.arg0(words.next().unwrap_or_default()).args(words);
    for name in &not_ours {
        anew.env_remove(name);
    }
    let error: io::Error = anew.exec();
    let names: Vec<_> = not_ours.iter().map(|name| name.to_string_lossy()).collect();
    eprintln!("kmsfs: {} stay in force: this program cannot be begun anew: {error}", names.join(", "));
}

/// To that, and the limit that only the privileged may raise too; else as far as that one allows.
fn raise(resource: Resource, to: Option<u64>) {
    if setrlimit(resource, Rlimit { current: to, maximum: to }).is_err() {
        let limit = getrlimit(resource).maximum;
        let _ = setrlimit(resource, Rlimit { current: limit, maximum: limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_may_be_used_up_to_the_hard_limit() {
        raise(Resource::Nofile, getrlimit(Resource::Nofile).maximum);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
