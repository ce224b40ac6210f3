//! Key files: 32 random bytes that only their owner can read.

use super::SecretKey;
use kmsfs_sys::private::{self, Access, Kind};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes a key file of mode 0600, durably. Fails if there is a file already.
pub fn create(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(SecretKey::random().expose())?;
    file.sync_all()?;
    // Without its name a durable key file is lost.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a key file. Refuses one that others than its owner can read, and one that is not 32 bytes.
pub fn read(path: &Path) -> Result<SecretKey, String> {
    let text = |error: io::Error| error.to_string();
    let mut file = private::open(path, Kind::Secret, Access::Read).map_err(|refusal| refusal.to_string())?;
    let metadata = file.metadata().map_err(text)?;
    if metadata.len() != SecretKey::LEN as u64 {
        return Err(format!("a key file has {} bytes, this one has {}", SecretKey::LEN, metadata.len()));
    }
    let mut key = Box::new([0; SecretKey::LEN]);
    let read = file.read_exact(&mut key[..]).map_err(text);
    let key = SecretKey::from_box(key);
    read.map(|()| key)
}

/// The key that these bytes of another place, a credential, are; `None` if they are not 32 or are text, which is a
/// passphrase: random bytes are text once in 10^13.
pub fn from_bytes(bytes: &[u8]) -> Option<SecretKey> {
    let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if is_text { None } else { SecretKey::from_plaintext(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_key_file_is_private_and_has_32_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read(&path).unwrap().expose()[..], fs::read(&path).unwrap()[..]);
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&path).unwrap_err(), "it is open to others (mode 0640): chmod 600 it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [0; 31]).unwrap();
        assert_eq!(read(&path).unwrap_err(), "a key file has 32 bytes, this one has 31");
        for no_file in ["/dev/zero", "/dev/null"].map(Path::new).into_iter().chain([dir.path()]) {
            assert_eq!(read(no_file).unwrap_err(), "it is not a regular file", "{no_file:?}");
        }
    }

    #[test]
    fn thirty_two_letters_are_a_passphrase_and_not_a_key() {
        assert_eq!(from_bytes(&[200; 32]).map(|key| *key.expose()), Some([200; 32]));
        assert!(from_bytes(&[200; 31]).is_none() && from_bytes(b"").is_none());
        assert!(from_bytes(b"correct horse battery staple abc").is_none());
    }
}
