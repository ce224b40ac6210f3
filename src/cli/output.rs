//! Standard output, whose reader may go away: `print!` and `println!` of this program, in the place of std's, which
//! panic then.

use super::exit::describe;
use std::fmt::Arguments;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

macro_rules! print {
    ($($arg:tt)*) => { $crate::cli::output::write(format_args!($($arg)*)) };
}

macro_rules! println {
    ($($arg:tt)*) => { $crate::cli::output::write(format_args!("{}\n", format_args!($($arg)*))) };
}

static FAILED: AtomicBool = AtomicBool::new(false);

/// Whoever reads it may have seen enough, as `head` has: that is no failure. Anything else is told once.
pub fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if error.kind() != io::ErrorKind::BrokenPipe && !FAILED.swap(true, Ordering::AcqRel) {
        eprintln!("kmsfs: it is done, but standard output cannot be written: {}", describe(&error));
    }
}

/// The exit code of a command that ended with `code`.
pub fn code(code: ExitCode) -> ExitCode {
    if FAILED.load(Ordering::Acquire) && code == ExitCode::SUCCESS { ExitCode::FAILURE } else { code }
}
