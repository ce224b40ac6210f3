//! The keyring's files, by the rules for private files.

use super::OpenError;
use kmsfs_sys::private::{self, Access, Kind, Refusal};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than any file of a keyring has.
const MOST: u64 = 128 << 20;

pub(crate) fn read_private(dir: &Path, name: &str) -> Result<Vec<u8>, OpenError> {
    let file = open_private(dir, name, Access::Read)?;
    // At once, since a vector that grows leaves copies, and one of these files has secrets.
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(len.min(MOST) as usize + 1);
    let read = file.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|error| OpenError::io(name, &error))?;
    if bytes.len() as u64 > MOST {
        return Err(OpenError::Other(format!("{name} is damaged: it has more than {MOST} bytes")));
    }
    Ok(bytes)
}

/// In a directory that [`check_directory`] has found to be its owner's.
pub(crate) fn open_private(dir: &Path, name: &str, access: Access) -> Result<File, OpenError> {
    private::open_here(&dir.join(name), Kind::Secret, access).map_err(|refusal| match refusal {
        Refusal::Io(error) => OpenError::io(name, &error),
        Refusal::Rule(why) => OpenError::Other(format!("{name} {why}")),
    })
}

/// Who can write to the directory can put other files into it.
pub(crate) fn check_directory(dir: &Path) -> Result<(), OpenError> {
    private::check_directory(dir).map_err(|refusal| match refusal {
        Refusal::Io(error) if error.kind() == io::ErrorKind::NotFound => OpenError::missing(),
        Refusal::Io(error) => OpenError::io("its directory", &error),
        Refusal::Rule(why) => OpenError::Other(format!("its directory {why}")),
    })
}
