//! A process of its own that unmounts: the one that serves may not, once it has given up what it does not need.
//!
//! It begins anew as a program, so it has nothing of what this one's memory holds; it does as told on its standard input, and
//! ends with it.

use crate::fuse;
use crate::sys::Signals;
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

/// What the process is called with, which nobody else should.
pub const WORD: &str = "__unmount";

pub struct Unmounter(Mutex<Talk>);

struct Talk {
    /// Kept so that it is known not to be somebody else.
    _process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Unmounter {
    pub fn start() -> io::Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg(WORD)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/local/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let none = || io::Error::other("the unmounting process has no pipes");
        let orders = process.stdin.take().ok_or_else(none)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(none)?);
        Ok(Self(Mutex::new(Talk { _process: process, orders, answers })))
    }

    /// Unmounts what is mounted there, if it still is that file system.
    pub fn unmount(&self, place: &fuse::Place, lazily: bool) -> io::Result<()> {
        self.order(place, if lazily { How::Lazily } else { How::LazilyIfBusy })
    }

    /// The same, but `EBUSY` if somebody uses it.
    pub fn unmount_unless_busy(&self, place: &fuse::Place) -> io::Result<()> {
        self.order(place, How::UnlessBusy)
    }

    fn order(&self, place: &fuse::Place, how: How) -> io::Result<()> {
        let mut talk = self.0.lock();
        let (major, minor) = place.device.unwrap_or_default();
        let path = hex::encode(place.mountpoint.as_os_str().as_bytes());
        writeln!(talk.orders, "{path} {major} {minor} {}", how as u32)?;
        let mut answer = String::new();
        talk.answers.read_line(&mut answer)?;
        match answer.trim().parse() {
            Ok(0) => Ok(()),
            Ok(errno) => Err(io::Error::from_raw_os_error(errno)),
            Err(_) => Err(io::Error::other("the unmounting process has ended")),
        }
    }
}

/// The process itself.
pub fn run() -> ExitCode {
    // What a terminal sends is for those who decide.
    let _ = Signals::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]);
    for order in io::stdin().lock().lines().map_while(Result::ok) {
        let errno = match parse(&order) {
            Some((place, how)) => unmount(&place, how).map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0),
            None => libc::EINVAL,
        };
        if writeln!(io::stdout(), "{errno}").is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

#[derive(Clone, Copy)]
enum How {
    LazilyIfBusy,
    Lazily,
    UnlessBusy,
}

fn unmount(place: &fuse::Place, how: How) -> io::Result<()> {
    match how {
        How::LazilyIfBusy => place.unmount(false),
        How::Lazily => place.unmount(true),
        How::UnlessBusy => place.unmount_unless_busy(),
    }
}

fn parse(order: &str) -> Option<(fuse::Place, How)> {
    let mut words = order.split(' ');
    let path = OsString::from_vec(hex::decode(words.next()?).ok()?);
    let mut number = || words.next()?.parse::<u32>().ok();
    let (major, minor, how) = (number()?, number()?, number()?);
    let how = [How::LazilyIfBusy, How::Lazily, How::UnlessBusy].into_iter().find(|other| *other as u32 == how)?;
    let mountpoint: PathBuf = Path::new(&path).into();
    Some((fuse::Place { mountpoint, device: Some((major, minor)) }, how))
}
