//! The keyring's files are their owner's alone: what others could have written or read is refused, with what to do.

use super::OpenError;
use rustix::process::geteuid;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// More than any file of a keyring has.
const MOST: u64 = 128 << 20;

pub fn read_private(dir: &Path, name: &str) -> Result<Vec<u8>, OpenError> {
    let mut options = OpenOptions::new();
    // Not waiting for somebody who opens a FIFO of that name.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut bytes = Vec::new();
    let read = open_private(dir, name, &options)?.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| OpenError::io(name, &error))?;
    if bytes.len() as u64 > MOST {
        return Err(OpenError::Other(format!("{name} is damaged: it has more than {MOST} bytes")));
    }
    Ok(bytes)
}

/// `options` do not follow symbolic links.
pub fn open_private(dir: &Path, name: &str, options: &OpenOptions) -> Result<File, OpenError> {
    let refuse = |why: String| OpenError::Other(format!("{name} {why}"));
    let file = options.open(dir.join(name)).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => refuse("is a symbolic link: put the file itself in its place".into()),
        _ => OpenError::io(name, &error),
    })?;
    let metadata = file.metadata().map_err(|error| OpenError::io(name, &error))?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".into()));
    }
    check_owner(&metadata).map_err(refuse)?;
    match metadata.mode() & 0o7777 {
        mode if mode & 0o077 != 0 => {
            Err(refuse(format!("is open to others (mode {mode:04o}): chmod 600 it, if nobody else has changed it")))
        }
        _ => Ok(file),
    }
}

/// Who can write to the directory can put other files into it.
pub fn check_directory(dir: &Path) -> Result<(), OpenError> {
    let metadata = fs::metadata(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Other("there is none: it has no slots.json".into()),
        _ => OpenError::io("its directory", &error),
    })?;
    let refuse = |why: String| OpenError::Other(format!("its directory {why}"));
    check_owner(&metadata).map_err(refuse)?;
    match metadata.mode() & 0o7777 {
        mode if mode & 0o022 != 0 => Err(refuse(format!("can be changed by others (mode {mode:04o}): chmod 700 it"))),
        _ => Ok(()),
    }
}

fn check_owner(metadata: &Metadata) -> Result<(), String> {
    let (owner, caller) = (metadata.uid(), geteuid().as_raw());
    if owner == 0 || owner == caller {
        return Ok(());
    }
    Err(format!("belongs to uid {owner}, who is neither root nor the caller (uid {caller}): chown it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn refusal(dir: &Path) -> String {
        read_private(dir, "file").unwrap_err().to_string()
    }

    #[test]
    fn what_others_could_read_or_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o604, 0o640, 0o620, 0o602, 0o610] {
            chmod(&path, mode);
            let text = format!("file is open to others (mode {mode:04o}): chmod 600 it, if nobody else has changed it");
            assert_eq!(refusal(dir.path()), text);
        }
        for mode in [0o600, 0o400] {
            chmod(&path, mode);
            assert_eq!(read_private(dir.path(), "file").unwrap(), b"content");
        }
        for mode in [0o720, 0o777] {
            chmod(dir.path(), mode);
            let text = format!("its directory can be changed by others (mode {mode:04o}): chmod 700 it");
            assert_eq!(check_directory(dir.path()).unwrap_err().to_string(), text);
        }
        chmod(dir.path(), 0o755);
        assert_eq!(check_directory(dir.path()), Ok(()));
    }

    #[test]
    fn symbolic_links_and_what_is_no_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(dir.path().join("target"), "content").unwrap();
        symlink("target", &path).unwrap();
        assert_eq!(refusal(dir.path()), "file is a symbolic link: put the file itself in its place");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(refusal(dir.path()), "file is not a regular file");
        fs::remove_dir(&path).unwrap();
        assert!(refusal(dir.path()).starts_with("file: "));
    }

    #[test]
    fn a_strangers_file_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(1234), None).unwrap();
        let text = "file belongs to uid 1234, who is neither root nor the caller (uid 0): chown it";
        assert_eq!(refusal(dir.path()), text);
    }
}
