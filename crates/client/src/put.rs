//! One atomic PUT of an object into a mount, with the encryption that the request asks for.

use super::{Refused, Stored, attributes, mounts};
use kmsfs_crypto::random;
use kmsfs_fs::{NAME_MAX, PUT_PREFIX};
use kmsfs_sse::{CONFIGURATION_FILE, Request, RequestError};
use rustix::fs::{XattrFlags, fsetxattr};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One request to the mount carries this much, wherever in a page the buffer begins.
const COPY_SIZE: usize = 512 << 10;

/// A PUT of one object that has been checked and has changed nothing yet; [`Put::send`] does it.
///
/// The object is written under a temporary name beside its own and renamed when it is complete and durable, so others
/// see the old object or the whole new one, never a part. If anything fails, the temporary object is removed and the
/// old one stays. The directory has to exist, and the kernel checks the calling process's permissions as for any file.
#[derive(Debug)]
pub struct Put {
    target: Target,
    request: Request,
    temporary: PathBuf,
}

impl Put {
    /// Checks that an object can be put at `path`, in a mount, and that the request's headers go together.
    ///
    /// # Errors
    ///
    /// S3 would refuse the request ([`PutError::Request`]), or `path` names no place for an object: it is a directory,
    /// or not in a bucket of a kmsfs mount, or its directory does not exist.
    pub fn new(path: &Path, request: Request) -> Result<Self, PutError> {
        request.check()?;
        let target = Target::find(path)?;
        let temporary = target.directory.join(temporary_name(target.path.file_name().unwrap_or_default()));
        Ok(Self { target, request, temporary })
    }

    /// Where the object lies until it is complete. A process that a signal ends during [`Put::send`] should remove it.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Writes the object from `content`, until its end, and puts it in place. Returns how it is stored.
    ///
    /// # Errors
    ///
    /// The mount refuses the request ([`PutError::Refused`]); `content` cannot be read ([`PutError::Content`]); or a
    /// system call fails ([`PutError::Os`]), the sync of the directory among them, after which the object is in place
    /// but may not be durable.
    pub fn send(self, mut content: impl Read) -> Result<Stored, PutError> {
        let object = Temporary::create(&self)?;
        object.fill(&mut content)?;
        let stored = Stored::of(&self.temporary).map_err(|source| PutError::os(&self.temporary, source))?;
        object.publish()?;
        Ok(stored)
    }
}

/// Why an object was not put. The causes ([`std::error::Error::source`]) are those of the system calls.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// S3 refuses the request, before it looks at any key: its code and message.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The path is not in a mount of kmsfs.
    #[error("{} is not in a kmsfs mount", path.display())]
    NotInMount {
        /// As the caller named it.
        path: PathBuf,
    },
    /// The path is at the top of a mount, where only buckets are.
    #[error("{}: an object lies in a bucket, a directory of {}", path.display(), mount.display())]
    NotInBucket {
        /// As the caller named it.
        path: PathBuf,
        /// The mount's root.
        mount: PathBuf,
    },
    /// The mount refuses to encrypt the object as the request says, and has S3's or KMS's words for why.
    #[error("{}: {}", refused.code, refused.message)]
    Told {
        /// Those words.
        refused: Refused,
        /// What the system call returned.
        source: io::Error,
    },
    /// It refuses that, or to put the object in place, without a word.
    #[error("{}: {}", refusal.code(), refusal.message())]
    Refused {
        /// What S3 would say.
        refusal: Refusal,
        /// What the system call returned.
        source: io::Error,
    },
    /// What is to be put cannot be read.
    #[error("cannot read what is to be put")]
    Content(#[source] io::Error),
    /// Another system call failed.
    #[error("{} cannot be put", path.display())]
    Os {
        /// What the call was about: the object, its directory or the temporary object.
        path: PathBuf,
        /// What the call returned.
        source: io::Error,
    },
}

impl PutError {
    fn os(path: &Path, source: io::Error) -> Self {
        Self::Os { path: path.to_owned(), source }
    }

    /// For a place that can only be a directory's.
    fn is_a_directory(path: &Path) -> Self {
        Self::os(path, io::Error::from_raw_os_error(libc::EISDIR))
    }
}

/// What S3 would say where the mount returned an errno: a system call returns a number only, and the reason is in the
/// mount's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// EACCES: the KMS refuses to use the key.
    Key,
    /// ENOKEY: the KMS has no such key.
    NoSuchKey,
    /// EINVAL at the request: it cannot be met.
    Request,
    /// EPERM at the rename: the object is an encryption configuration, and not a valid one or not this user's to put.
    Configuration,
    /// EOPNOTSUPP or ENODATA: the mount does not do what the request asks for.
    NotImplemented,
}

impl Refusal {
    /// Why the mount refused the request attribute; `None` for an error of no such kind.
    fn of_request(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EACCES => Some(Self::Key),
            libc::ENOKEY => Some(Self::NoSuchKey),
            libc::EINVAL => Some(Self::Request),
            libc::EOPNOTSUPP | libc::ENODATA => Some(Self::NotImplemented),
            _ => None,
        }
    }

    /// S3's error code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Key => "AccessDenied",
            Self::NoSuchKey => "KMS.NotFoundException",
            Self::Request | Self::Configuration => "InvalidArgument",
            Self::NotImplemented => "NotImplemented",
        }
    }

    /// The message that goes with the code.
    pub fn message(self) -> &'static str {
        match self {
            Self::Key => {
                "the KMS key is disabled, pending deletion or not yours to use; the reason is in the mount's log"
            }
            Self::NoSuchKey => "there is no such KMS key; the reason is in the mount's log",
            Self::Request => "the request cannot be met; the reason is in the mount's log",
            Self::Configuration => "it cannot be put in place; the reason is in the mount's log",
            Self::NotImplemented => "the mount does not do this; the reason is in the mount's log",
        }
    }
}

/// Where the object goes, in a directory of a kmsfs mount.
#[derive(Debug)]
struct Target {
    directory: PathBuf,
    path: PathBuf,
    /// Permissions of the object that is there already.
    mode: Option<u32>,
}

impl Target {
    fn find(path: &Path) -> Result<Self, PutError> {
        let mode = match fs::symlink_metadata(path) {
            Ok(old) if old.is_dir() => return Err(PutError::is_a_directory(path)),
            Ok(old) if old.is_file() => Some(old.permissions().mode() & 0o777),
            Ok(_) => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(PutError::os(path, e)),
        };
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(PutError::is_a_directory(path));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = fs::canonicalize(parent).map_err(|e| PutError::os(parent, e))?;
        let mount = mounts::of(&directory).map_err(|e| PutError::os(path, e))?;
        let mount = mount.ok_or_else(|| PutError::NotInMount { path: path.to_owned() })?;
        if mount.target == directory {
            return Err(PutError::NotInBucket { path: path.to_owned(), mount: directory });
        }
        let path = directory.join(path.file_name().unwrap_or_default());
        Ok(Self { directory, path, mode })
    }
}

/// The object under its temporary name. If it is dropped before it is published, it is removed.
struct Temporary<'a> {
    target: &'a Target,
    path: &'a Path,
    object: File,
    /// What it has once it is complete: the old object's mode, else that of any new file.
    mode: u32,
    published: bool,
}

impl<'a> Temporary<'a> {
    /// Made as any file is, and given its request while it is empty.
    fn create(put: &'a Put) -> Result<Self, PutError> {
        let Put { target, request, temporary: path } = put;
        let failed = |e| PutError::os(&target.path, e);
        // Past the kernel's cache, which would hand the content on in any order.
        let mut how = OpenOptions::new();
        how.write(true).create_new(true).mode(0o666).custom_flags(libc::O_DIRECT);
        let object = how.open(path).map_err(failed)?;
        let mut made = Self { target, path, object, mode: 0, published: false };
        let mode = made.object.metadata().map_err(failed)?.permissions().mode() & 0o777;
        made.mode = target.mode.unwrap_or(mode);
        if mode & 0o200 == 0 {
            // An attribute can be set only by those to whom the mode gives write permission.
            made.set_mode(mode | 0o200).map_err(failed)?;
        }
        let request = serde_json::to_vec(request).map_err(|e| failed(e.into()))?;
        fsetxattr(&made.object, attributes::REQUEST, &request, XattrFlags::empty()).map_err(|errno| {
            let source = io::Error::from(errno);
            let itself = PathBuf::from(format!("/proc/self/fd/{}", made.object.as_raw_fd()));
            match (Refused::last(&itself), Refusal::of_request(&source)) {
                (Ok(Some(refused)), _) => PutError::Told { refused, source },
                (_, Some(refusal)) => PutError::Refused { refusal, source },
                (_, None) => failed(source),
            }
        })?;
        Ok(made)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.object.set_permissions(fs::Permissions::from_mode(mode))
    }

    /// Copies the content and has the mount make it durable.
    fn fill(&self, content: &mut impl Read) -> Result<(), PutError> {
        let failed = |e| PutError::os(self.path, e);
        let mut buf = vec![0; COPY_SIZE];
        loop {
            let len = match content.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(PutError::Content(e)),
            };
            (&self.object).write_all(&buf[..len]).map_err(failed)?;
        }
        if self.object.metadata().map_err(failed)?.permissions().mode() & 0o777 != self.mode {
            self.set_mode(self.mode).map_err(failed)?;
        }
        self.object.sync_all().map_err(failed)
    }

    fn publish(mut self) -> Result<(), PutError> {
        let failed = |e| PutError::os(&self.target.path, e);
        fs::rename(self.path, &self.target.path).map_err(|source| match source.raw_os_error() {
            // A configuration is checked when it is put in place.
            Some(libc::EPERM) if self.target.path.ends_with(CONFIGURATION_FILE) => {
                PutError::Refused { refusal: Refusal::Configuration, source }
            }
            _ => failed(source),
        })?;
        self.published = true;
        File::open(&self.target.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|e| PutError::os(&self.target.path, e))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(self.path);
        }
    }
}

/// A new name for an object that will be called `target` in the same directory. It says so, by which the mount makes
/// the encryption context, unless that makes it too long.
pub fn temporary_name(target: &OsStr) -> OsString {
    numbered_name(u64::from_le_bytes(random::bytes()), target)
}

/// The same, of a number that is known already.
pub fn numbered_name(number: u64, target: &OsStr) -> OsString {
    let mut name = OsString::from(format!("{PUT_PREFIX}{number:016x}"));
    if name.len() + 1 + target.len() <= NAME_MAX {
        name.push(".");
        name.push(target);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn outside_a_mount_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let error = Put::new(&path, Request::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is not in a kmsfs mount", path.display()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_no_target() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("new/")] {
            let error = Put::new(&path, Request::default()).unwrap_err();
            assert!(matches!(&error, PutError::Os { path: of, .. } if *of == path), "{error:?}");
            let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
            assert_eq!(cause.raw_os_error(), Some(libc::EISDIR));
        }
    }

    #[test]
    fn a_request_that_s3_refuses_is_refused_before_any_path_is_looked_at() {
        let request = Request { key_id: Some("alias/k".into()), ..Request::default() };
        let error = Put::new(Path::new("/nowhere/at/all"), request).unwrap_err();
        assert!(matches!(error, PutError::Request(RequestError::Invalid { code: "InvalidArgument", .. })), "{error:?}");
    }

    #[test]
    fn what_the_mount_returns_has_a_code_of_s3() {
        let code = |errno| Refusal::of_request(&io::Error::from_raw_os_error(errno)).map(Refusal::code);
        assert_eq!(code(libc::EACCES), Some("AccessDenied"));
        assert_eq!(code(libc::ENOKEY), Some("KMS.NotFoundException"));
        assert_eq!(code(libc::EINVAL), Some("InvalidArgument"));
        assert_eq!(code(libc::EOPNOTSUPP), Some("NotImplemented"));
        assert_eq!(code(libc::ENOSPC), None);
    }

    #[test]
    fn a_temporary_name_names_its_object_unless_that_is_too_long() {
        let name = |of: &str| temporary_name(OsStr::new(of)).into_string().unwrap();
        assert!(name("bond.json").ends_with(".bond.json"));
        assert_eq!(name("bond.json").len(), PUT_PREFIX.len() + 16 + ".bond.json".len());
        let longest = "x".repeat(NAME_MAX - PUT_PREFIX.len() - 17);
        assert_eq!(name(&longest).len(), NAME_MAX);
        assert_eq!(name(&format!("{longest}x")).len(), PUT_PREFIX.len() + 16);
    }
}
