//! `kmsfs umount`: takes a mount away, plainly, lazily or by force, and says who keeps it.

use super::exit::{Failure, describe};
use super::mounted;
use super::mountpoint;
use super::text::{escape, shown};
use clap::Args;
use kmsfs_fuse::{Mount, Place};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Unmount a store
///
/// Everything that was written is written home first, and it returns once the store is closed, so that it can be moved
/// or mounted elsewhere. A mount that is in use stays, and it is said who uses it. Root or whoever mounted may do it.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct UmountArgs {
    /// Take the mount away from its place now; programs that use it go on until they are done
    #[arg(long, conflicts_with = "force")]
    lazy: bool,
    /// End the connection first: whoever uses the mount gets an error, and loses what was not written back yet
    #[arg(long)]
    force: bool,
    /// A mount point, or a store that is mounted
    #[arg(value_name = "MOUNTPOINT")]
    mount: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs umount /mnt
  kmsfs umount --lazy /mnt
  kmsfs umount --force /mnt";

/// How long the process behind a mount may take to write its log home before this command fails over it.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(20);
/// Processes that are named.
const NAMED: usize = 10;

pub fn run(args: &UmountArgs) -> Result<ExitCode, Failure> {
    let mount = mounted::find(&args.mount)?;
    let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(&mount.target), describe(e)));
    let place = Place::at(&mount.target).map_err(|e| failed(&e))?;
    if args.force {
        // Asked before it is gone.
        let users = users_of(&mount);
        place.abort().map_err(|e| {
            let target = shown(&mount.target);
            Failure::new(format!("{target}: its connection cannot be ended, and it stays: {}", describe(&e)))
        })?;
        place.unmount(true).map_err(|e| failed(&e))?;
        for user in users.iter().take(NAMED) {
            eprintln!("kmsfs: {user} had it in use, and gets errors from now on");
        }
    } else if args.lazy || mountpoint::is_dead(&mount.target) {
        place.unmount(true).map_err(|e| failed(&e))?;
    } else {
        place.unmount_unless_busy().map_err(|e| why(&mount, &e))?;
    }
    if !args.lazy {
        wait_until_closed(&mount.source, PATIENCE)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn why(mount: &Mount, error: &io::Error) -> Failure {
    let target = shown(&mount.target);
    // fusermount3 says with its exit code alone that it did not.
    let busy = error.raw_os_error() == Some(libc::EBUSY);
    let users = users_of(mount);
    if !busy && users.is_empty() {
        return Failure::new(format!("{target}: {}", describe(error)));
    }
    let more = users.len().saturating_sub(NAMED);
    let named = users.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    let list = match (named.is_empty(), more) {
        (true, _) => "by nobody whom this user can see; something may be mounted in it".into(),
        (false, 0) => format!("by {named}"),
        (false, _) => format!("by {named} and {more} others"),
    };
    let cure = "end them, or say --lazy to take it away when they are done, or --force to give them errors";
    Failure::new(format!("{target} is in use {list}: {cure}"))
}

/// Processes that have a file of the mount open or mapped, or their current directory, root or program in it: those
/// that the caller may look at.
fn users_of(mount: &Mount) -> Vec<String> {
    let mut users = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        if let Some(what) = use_by(&entry.path(), mount) {
            let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            users.push(format!("process {pid} ({}, {what})", escape(program.trim_end())));
        }
    }
    users
}

fn use_by(process: &Path, mount: &Mount) -> Option<String> {
    // Not by stat(2), which would ask a file system that may not answer.
    let lies_in = |link: PathBuf| fs::read_link(link).ok().filter(|path| path.starts_with(&mount.target));
    if lies_in(process.join("cwd")).is_some() {
        return Some("its current directory".into());
    }
    if lies_in(process.join("root")).is_some() {
        return Some("its root directory".into());
    }
    if lies_in(process.join("exe")).is_some() {
        return Some("its program".into());
    }
    for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        if let Some(path) = lies_in(descriptor.path()) {
            return Some(format!("open: {}", shown(&path)));
        }
    }
    let device = format!(" {:02x}:{:02x} ", mount.device.0, mount.device.1);
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines().any(|line| line.contains(&device)).then(|| "mapped".into())
}

/// The process behind the mount has written its log home then. It is an error not to know that it has: whoever is told
/// nothing moves the store, or ejects its disk.
fn wait_until_closed(store: &Path, patience: Duration) -> Result<(), Failure> {
    let unknown = |why: &io::Error| {
        let text = "the mount is gone, but whether the store is closed is not known";
        Failure::new(format!("{text}: {}: {}", shown(store), describe(why)))
    };
    let lock = fs::File::open(store.join("lock")).map_err(|e| unknown(&e))?;
    let since = Instant::now();
    loop {
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(unknown(&error.into())),
        }
        // What another mount of it holds is not this one's end.
        let places = kmsfs_client::mounts::of_store(store).map_err(|e| unknown(&e))?;
        if let Some(place) = places.first() {
            eprintln!("kmsfs: the store {} is not closed: it is mounted at {}", shown(store), shown(place));
            return Ok(());
        }
        if since.elapsed() >= patience {
            let text = format!("a process still has the store {} open after {} s", shown(store), patience.as_secs());
            return Err(Failure::new(format!("the mount is gone, but {text}: do not move the store before that ends")));
        }
        thread::sleep(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn users_of_a_directory_are_found_by_what_they_have_open() {
        let dir = tempfile::tempdir().unwrap();
        let target = fs::canonicalize(dir.path()).unwrap();
        let device = fs::metadata(&target).unwrap().dev();
        let mount = Mount {
            id: 1,
            device: (rustix::fs::major(device), u32::MAX),
            target: target.clone(),
            kind: kmsfs_fuse::TYPE.into(),
            source: "/store".into(),
            super_options: String::new(),
        };
        let me = Path::new("/proc/self");
        assert_eq!(use_by(me, &mount), None);
        let path = target.join("a\nb");
        let _open = fs::File::create(&path).unwrap();
        assert_eq!(use_by(me, &mount), Some(format!("open: {}/a\\nb", target.display())));
    }

    #[test]
    fn a_store_that_is_not_known_to_be_closed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = fs::canonicalize(dir.path()).unwrap();
        let why = |patience| wait_until_closed(&store, patience).unwrap_err().message;
        let none = format!("whether the store is closed is not known: {}: No such file or directory", store.display());
        assert!(why(Duration::ZERO).ends_with(&none), "{}", why(Duration::ZERO));
        let lock = fs::File::create(store.join("lock")).unwrap();
        assert!(wait_until_closed(&store, Duration::ZERO).is_ok());
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        let open = format!("a process still has the store {} open after 0 s: do not move", store.display());
        assert!(why(RETRY).contains(&open), "{}", why(RETRY));
        drop(lock);
        assert!(wait_until_closed(&store, Duration::ZERO).is_ok());
    }
}
