//! Files that belong to their owner alone: what unlocks a keyring, a keyring's files, logs. One function opens them
//! all.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::geteuid;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What a file is, and so what others may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A secret: others may do nothing.
    Secret,
    /// A secret that may also come from a pipe that this process was given: `/dev/fd/N`, as a shell's `<(command)`
    /// names it.
    SecretLine,
    /// A log: a group may read it.
    Log,
}

/// What the caller is going to do with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it; it has to exist.
    Read,
    /// Read and write it; it has to exist.
    Change,
    /// Read and write it; it is made with mode 0600 where it is missing.
    ChangeOrMake,
    /// Append to it, without reading; it is made with mode 0600 where it is missing.
    Append,
    /// Read it and append to it; it is made with mode 0600 where it is missing.
    ReadAndAppend,
}

/// Why a file is not opened.
#[derive(Debug)]
pub enum Refusal {
    /// A system call failed.
    Io(io::Error),
    /// What is wrong with it and what to do, as what follows its name: `is a symbolic link: ...`.
    Rule(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Rule(why) => write!(f, "it {why}"),
        }
    }
}

impl Refusal {
    /// The same as an error that begins with the file's name.
    pub fn about(&self, path: &Path) -> io::Error {
        let path = path.display();
        match self {
            Self::Io(error) => io::Error::new(error.kind(), format!("{path}: {error}")),
            Self::Rule(why) => io::Error::new(io::ErrorKind::PermissionDenied, format!("{path} {why}")),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens a regular file that belongs to root or the caller, that others may not use otherwise than its kind allows, and
/// that is no symbolic link. No directory above it may be one that everybody can write to, unless it is sticky.
///
/// # Errors
///
/// [`Refusal::Rule`] where a rule is broken, [`Refusal::Io`] where a system call failed.
pub fn open(path: &Path, kind: Kind, access: Access) -> Result<File, Refusal> {
    check_place(path)?;
    open_here(path, kind, access)
}

/// As [`open`], in a directory that has been checked already.
///
/// # Errors
///
/// As [`open`].
pub fn open_here(path: &Path, kind: Kind, access: Access) -> Result<File, Refusal> {
    let is_given = kind == Kind::SecretLine && is_descriptor(path);
    let mut options = OpenOptions::new();
    options.read(access != Access::Append).mode(0o600);
    match access {
        Access::Read => &mut options,
        Access::Change => options.write(true),
        Access::ChangeOrMake => options.write(true).create(true).truncate(false),
        Access::Append | Access::ReadAndAppend => options.append(true).create(true),
    };
    // Not waiting for somebody who opens a FIFO of that name.
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | if is_given { 0 } else { libc::O_NOFOLLOW });
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => Refusal::Rule("is a symbolic link: name the file itself, or put it there".into()),
        // A FIFO that nobody reads, a socket.
        Some(libc::ENXIO) => Refusal::Rule("is not a regular file".into()),
        _ => Refusal::Io(error),
    })?;
    let metadata = file.metadata()?;
    let is_pipe = is_given && metadata.file_type().is_fifo();
    if !metadata.is_file() && !is_pipe {
        return Err(Refusal::Rule("is not a regular file".into()));
    }
    check_owner(&metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden(kind) != 0 {
        return Err(Refusal::Rule(format!("is open to others (mode {mode:04o}): chmod 600 it")));
    }
    if is_pipe {
        let flags = fcntl_getfl(&file).map_err(io::Error::from)?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(io::Error::from)?;
    }
    Ok(file)
}

fn forbidden(kind: Kind) -> u32 {
    match kind {
        Kind::Secret | Kind::SecretLine => 0o077,
        Kind::Log => 0o037,
    }
}

/// What the shell, or whoever started this process, has opened already.
fn is_descriptor(path: &Path) -> bool {
    path == Path::new("/dev/stdin")
        || ["/dev/fd", "/proc/self/fd"].iter().any(|dir| path.parent() == Some(Path::new(dir)))
}

/// Checks a directory of private files: whoever can write to it can put other files into it.
///
/// # Errors
///
/// It belongs to somebody else, others can write to it, or to a directory above it that is not sticky.
pub fn check_directory(dir: &Path) -> Result<(), Refusal> {
    let metadata = fs::metadata(dir)?;
    check_owner(&metadata)?;
    match metadata.mode() & 0o7777 {
        mode if mode & 0o022 != 0 => {
            Err(Refusal::Rule(format!("can be changed by others (mode {mode:04o}): chmod 700 it")))
        }
        _ => check_place(dir),
    }
}

fn check_owner(metadata: &Metadata) -> Result<(), Refusal> {
    let (owner, caller) = (metadata.uid(), geteuid().as_raw());
    if owner == 0 || owner == caller {
        return Ok(());
    }
    let text = format!("belongs to uid {owner}, who is neither root nor the caller (uid {caller}): chown it");
    Err(Refusal::Rule(text))
}

/// Every directory on the way.
fn check_place(path: &Path) -> Result<(), Refusal> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for dir in fs::canonicalize(parent)?.ancestors() {
        let mode = fs::metadata(dir)?.mode() & 0o7777;
        if mode & 0o1002 == 0o002 {
            let dir = dir.display();
            return Err(Refusal::Rule(format!(
                "lies below {dir}, which everybody may change (mode {mode:04o}): chmod o-w {dir}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path, kind: Kind) -> String {
        open(path, kind, Access::Read).unwrap_err().to_string()
    }

    #[test]
    fn what_others_could_read_or_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        for (kind, refused, accepted) in [
            (Kind::Secret, &[0o604, 0o640, 0o620, 0o602, 0o610][..], &[0o600, 0o400][..]),
            (Kind::SecretLine, &[0o604, 0o640][..], &[0o600, 0o400][..]),
            (Kind::Log, &[0o604, 0o620, 0o602, 0o666][..], &[0o600, 0o640][..]),
        ] {
            for mode in refused {
                chmod(&path, *mode);
                let text = format!("it is open to others (mode {mode:04o}): chmod 600 it");
                assert!(refusal(&path, kind).starts_with(&text), "{kind:?}");
            }
            for mode in accepted {
                chmod(&path, *mode);
                assert!(open(&path, kind, Access::Read).is_ok(), "{kind:?} {mode:o}");
            }
        }
    }

    #[test]
    fn a_place_that_everybody_may_change_is_refused_unless_it_is_sticky() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let path = inner.join("file");
        drop(open(&path, Kind::Log, Access::Append).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let outer = dir.path().join("a");
        chmod(&outer, 0o777);
        let outer = fs::canonicalize(outer).unwrap();
        let name = outer.display();
        let text = format!("it lies below {name}, which everybody may change (mode 0777): chmod o-w {name}");
        assert_eq!(refusal(&path, Kind::Secret), text);
        assert_eq!(check_directory(&inner).unwrap_err().to_string(), text);
        chmod(&outer, 0o1777);
        assert!(open(&path, Kind::Secret, Access::Change).is_ok());
        for mode in [0o720, 0o777] {
            chmod(&inner, mode);
            let text = format!("it can be changed by others (mode {mode:04o}): chmod 700 it");
            assert_eq!(check_directory(&inner).unwrap_err().to_string(), text);
        }
        chmod(&inner, 0o755);
        assert!(check_directory(&inner).is_ok());
    }

    #[test]
    fn symbolic_links_and_what_is_no_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("file"), dir.path().join("target"));
        fs::write(&target, "content").unwrap();
        chmod(&target, 0o600);
        for target in ["target", "nothing"] {
            symlink(target, &path).unwrap();
            for access in [Access::Read, Access::Change, Access::ChangeOrMake, Access::Append] {
                let text = open(&path, Kind::Log, access).unwrap_err().to_string();
                assert_eq!(text, "it is a symbolic link: name the file itself, or put it there", "{access:?}");
            }
            fs::remove_file(&path).unwrap();
        }
        assert!(!dir.path().join("nothing").exists());
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [&path, Path::new("/dev/null"), dir.path()] {
            assert_eq!(refusal(path, Kind::SecretLine), "it is not a regular file");
        }
        let text = open(&path, Kind::Log, Access::Append).unwrap_err().to_string();
        assert_eq!(text, "it is not a regular file", "a FIFO, for writing");
        assert!(matches!(open(&dir.path().join("none"), Kind::Secret, Access::Change), Err(Refusal::Io(_))));
    }

    #[test]
    fn a_pipe_that_the_process_was_given_is_no_link() {
        use std::io::{Read, Write};
        use std::os::fd::AsRawFd;
        let (read, mut write) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", read.as_raw_fd());
        let mut file = open(Path::new(&path), Kind::SecretLine, Access::Read).unwrap();
        write.write_all(b"word\n").unwrap();
        drop(write);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "word\n");
        assert!(open(Path::new(&path), Kind::Secret, Access::Read).is_err());
    }

    #[test]
    fn a_strangers_file_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        chmod(&path, 0o600);
        chown(&path, Some(1234), None).unwrap();
        let text = "it belongs to uid 1234, who is neither root nor the caller (uid 0): chown it";
        assert_eq!(refusal(&path, Kind::Log), text);
    }
}
