//! The command line that fsck(8) gives its helpers: `fsck.kmsfs [-apynfvrtTMRV] [-C[FD]] STORE`. What opens the
//! store's keyring is in its line of /etc/fstab.

use super::fsck::FsckArgs;
use super::options::Options;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub const USAGE: &str = "usage: fsck.kmsfs [-a|-p|-y|-n] [-f] [-v] STORE    (-a, -p, -y: mend what can be mended)";

const FSTAB: &str = "/etc/fstab";

/// Whether the program was called by the helper's name.
pub fn is_helper(argv0: &OsStr) -> bool {
    Path::new(argv0).file_name() == Some(OsStr::new("fsck.kmsfs"))
}

/// What is to be checked. The error is of the command line, or of the store's line in /etc/fstab.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<FsckArgs, String> {
    let (store, repair) = parse_words(arguments)?;
    // Without an fstab, what opens the keyring comes from the environment or the terminal.
    let fstab = fs::read(FSTAB).unwrap_or_default();
    let options = options_in(&fstab, &store).map_err(|why| format!("{FSTAB}: {}: {why}", store.display()))?;
    Ok(FsckArgs::of_fstab(store, options, repair))
}

fn parse_words(arguments: impl IntoIterator<Item = OsString>) -> Result<(PathBuf, bool), String> {
    let (mut stores, mut repair) = (Vec::new(), false);
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default();
        if !text.starts_with('-') || text == "-" {
            stores.push(PathBuf::from(argument));
            continue;
        }
        for letter in text[1..].chars() {
            match letter {
                'a' | 'p' | 'y' => repair = true,
                'n' => repair = false,
                // Checked anyway, or of programs that ask questions and of block devices.
                'f' | 'v' | 'r' | 't' | 'T' | 'M' | 'R' | 'V' => {}
                // fsck(8)'s descriptor for progress stands right behind it.
                'C' => break,
                _ => return Err(format!("unknown option '{text}'\n{USAGE}")),
            }
        }
    }
    let [store] = <[PathBuf; 1]>::try_from(stores).map_err(|_| USAGE.to_string())?;
    Ok((store, repair))
}

/// The options of the last line for that store.
fn options_in(fstab: &[u8], store: &Path) -> Result<Options, String> {
    let mut found = Options::default();
    for line in fstab.split(|&byte| byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect();
        let [source, _, b"kmsfs" | b"fuse.kmsfs", options, ..] = fields[..] else { continue };
        if Path::new(&unescaped(source)) == store {
            let options = unescaped(options).into_string().map_err(|_| "options that are not UTF-8".to_string())?;
            found = Options::parse([options.as_str()], true)?;
        }
    }
    Ok(found)
}

/// fstab(5) writes white space as three octal digits after a backslash.
fn unescaped(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = || after.get(..3).and_then(|d| u8::from_str_radix(OsStr::from_bytes(d).to_str()?, 8).ok());
        let meant = if byte == b'\\' { octal() } else { None };
        plain.push(meant.unwrap_or(byte));
        rest = if meant.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(arguments: &[&str]) -> Result<(PathBuf, bool), String> {
        parse_words(arguments.iter().map(OsString::from))
    }

    #[test]
    fn takes_what_fsck_passes() {
        assert_eq!(words(&["-a", "-C0", "/srv/s"]), Ok((PathBuf::from("/srv/s"), true)));
        assert_eq!(words(&["-fn", "/srv/s"]), Ok((PathBuf::from("/srv/s"), false)));
        assert_eq!(words(&["/srv/s", "-C", "-y"]), Ok((PathBuf::from("/srv/s"), true)));
        assert_eq!(words(&["-x", "/srv/s"]), Err(format!("unknown option '-x'\n{USAGE}")));
        assert_eq!(words(&["/srv/s", "/srv/t"]), Err(USAGE.to_string()));
    }

    #[test]
    fn what_opens_the_keyring_is_in_the_line_of_fstab() {
        let fstab = b"# /srv/s /mnt kmsfs key-file=/comment 0 0
/srv/s /mnt ext4 key-file=/other-type 0 0
/srv/my\\040s\t/mnt\tkmsfs  key-file=/my\\040key,noauto,keyring=/ring 0 2
/srv/s /mnt fuse.kmsfs key-file=/k,x-systemd.automount 0 2
/srv/bad /mnt kmsfs threads=none 0 2\n";
        let key = |store: &str| options_in(fstab, Path::new(store)).map(|found| (found.unlock.key_file, found.keyring));
        assert_eq!(key("/srv/s"), Ok((Some("/k".into()), None)));
        assert_eq!(key("/srv/my s"), Ok((Some("/my key".into()), Some("/ring".into()))));
        assert_eq!(key("/srv/absent"), Ok((None, None)));
        assert!(key("/srv/bad").unwrap_err().contains("threads=none"));
    }
}
