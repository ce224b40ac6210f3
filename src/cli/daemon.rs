//! Going on in the background: the caller waits until the mount is ready or has failed, and is given the reason.

use super::exit::{Failure, describe};
use kmsfs_sys::{self as sys, Fork};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

/// What the child writes when the mount is ready. Until then its messages go to standard error, which is still the
/// caller's.
const READY: u8 = b'R';

/// Which side goes on after [`into_background`].
pub enum Side<T> {
    /// The daemon-to-be. It calls [`Waiting::release`] when the mount is ready, or ends with an exit code.
    Child(Waiting, T),
    /// The process that was called: its exit code.
    Parent(ExitCode),
}

/// The parent, as the child sees it.
pub struct Waiting {
    caller: File,
    /// /dev/null, which may be out of reach when it is needed.
    null: File,
}

/// Forks; only while there is one thread. In the parent it returns when the child is ready or has ended; what the child
/// is to have is dropped there at once.
pub fn into_background<T>(for_child: T) -> Result<Side<T>, Failure> {
    let failed = |e: io::Error| Failure::new(format!("cannot go into the background: {}", describe(&e)));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    match sys::fork().map_err(failed)? {
        Fork::Child => {
            let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed)?;
            Ok(Side::Child(Waiting { caller: File::from(writer), null }, for_child))
        }
        Fork::Parent { child } => {
            drop((writer, for_child));
            Ok(Side::Parent(wait_for(child, File::from(reader))))
        }
    }
}

fn wait_for(child: rustix::process::Pid, mut reader: File) -> ExitCode {
    let mut answer = [0];
    // No byte: the child has ended without having been ready.
    if reader.read_exact(&mut answer).is_ok() && answer == [READY] {
        return ExitCode::SUCCESS;
    }
    let status = match waitpid(Some(child), WaitOptions::empty()) {
        Ok(Some((_, status))) => ExitStatus::from_raw(status.as_raw()),
        _ => return ExitCode::FAILURE,
    };
    if let Some(code) = status.code() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    eprintln!("kmsfs: the process ended before the mount was ready: {status}");
    ExitCode::FAILURE
}

/// Leaves the caller's session, so that neither its terminal nor its end is this process's affair, and its directory.
pub fn detach() {
    // Fails only for the leader of a process group, which the child of a fork never is.
    let _ = setsid();
    // A process in a directory keeps its file system busy; `/` is always there.
    let _ = std::env::set_current_dir("/");
}

impl Waiting {
    /// Lets the caller go on. Standard input and output become /dev/null, and so does standard error unless messages
    /// go there: who captures the caller's output is not left waiting.
    pub fn release(mut self, keep_stderr: bool) -> io::Result<()> {
        dup2_stdin(&self.null)?;
        dup2_stdout(&self.null)?;
        if !keep_stderr {
            dup2_stderr(&self.null)?;
        }
        // The caller may have been killed meanwhile; the mount is there all the same.
        let _ = self.caller.write_all(&[READY]);
        Ok(())
    }
}
