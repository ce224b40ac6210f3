//! Asking for a passphrase on the terminal, which is left as it was whatever ends the question.

use super::exit::{Failure, describe};
use super::unlock::{none_given, read_line, usable};
use kmsfs_sys::PendingSignals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write};
use zeroize::Zeroizing;

/// What ends or stops a program that waits at a terminal.
const SIGNALS: &[libc::c_int] = &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP];

/// Asks on the terminal, which does not show what is typed.
pub fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let none = || Failure::new(none_given());
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| none())?;
    let before = tcgetattr(&terminal).map_err(|_| none())?;
    let line = ask_silently(&terminal, &before, prompt);
    let _ = (&terminal).write_all(b"\n");
    usable(line.map_err(|error| Failure::new(describe(&error)))?).map_err(Failure::new)
}

/// Asks a question on the terminal whose answer may be seen; a line that does not begin with n is a yes.
/// Whoever ends the input without one has not said it.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    let failed = |error: io::Error| Failure::new(describe(&error));
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    (&terminal).write_all(question.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    BufReader::with_capacity(1, &terminal).read_until(b'\n', &mut answer).map_err(failed)?;
    Ok(answer.first().is_some_and(|first| !first.eq_ignore_ascii_case(&b'n')))
}

fn ask_silently(terminal: &File, before: &Termios, prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // From here on no signal ends the process before the terminal is as it was.
    let signals = PendingSignals::take(SIGNALS)?;
    loop {
        let _ = { terminal }.write_all(prompt.as_bytes());
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        let waited = wait(terminal, &signals);
        // A line is there as a whole.
        let line = match waited {
            Ok(None) => Some(read_line(terminal)),
            _ => None,
        };
        let _ = tcsetattr(terminal, OptionalActions::Flush, before);
        match (waited?, line) {
            (_, Some(line)) => return line,
            (signal, None) => {
                let _ = { terminal }.write_all(b"\n");
                // Most end the process here; who stopped and continued it is asked again.
                if let Some(signal) = signal {
                    signals.bear(signal);
                }
            }
        }
    }
}

/// A signal, or nothing where the terminal can be read.
fn wait(terminal: &File, signals: &PendingSignals) -> io::Result<Option<libc::c_int>> {
    loop {
        let signal = signals.descriptor();
        let mut watched = [PollFd::new(terminal, PollFlags::IN), PollFd::from_borrowed_fd(signal, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if let Some(signal) = signals.next() {
            return Ok(Some(signal));
        }
        if !watched[0].revents().is_empty() {
            return Ok(None);
        }
    }
}
