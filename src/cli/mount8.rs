//! The command line that mount(8) gives its helpers: `mount.kmsfs SOURCE DIR [-sfnv] [-N NS] [-o OPTIONS] [-t TYPE]`.

use super::options::Options;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What mount(8) asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub store: PathBuf,
    pub mountpoint: PathBuf,
    pub options: Options,
    /// Everything but the mount (`-f`).
    pub fake: bool,
    pub verbose: bool,
    /// The mount namespace to work in (`-N`).
    pub namespace: Option<PathBuf>,
}

pub const USAGE: &str = "usage: mount.kmsfs STORE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]";

/// Whether the program was called by a helper's name.
pub fn is_helper(argv0: &OsStr) -> bool {
    matches!(Path::new(argv0).file_name().and_then(OsStr::to_str), Some("mount.kmsfs" | "mount.fuse.kmsfs"))
}

/// Parses the arguments after argv\[0\]. Letters may be bundled (`-sfn`), a value may follow its letter at once or as
/// the next argument, and options may stand before, between and after the two names.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Call, String> {
    let mut arguments = arguments.into_iter();
    let mut names = Vec::new();
    let mut lists = Vec::new();
    let (mut fake, mut sloppy, mut verbose, mut namespace) = (false, false, false, None);
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if !text.starts_with('-') || text == "-" {
            names.push(PathBuf::from(argument));
            continue;
        }
        let mut rest = text[1..].chars();
        while let Some(letter) = rest.next() {
            match letter {
                'f' => fake = true,
                's' => sloppy = true,
                'v' => verbose = true,
                'n' => {}
                'r' => lists.push("ro".to_string()),
                'w' => lists.push("rw".to_string()),
                'o' | 't' | 'N' => {
                    let value = match rest.as_str() {
                        "" => arguments.next().ok_or_else(|| format!("-{letter} needs a value"))?,
                        attached => OsString::from(attached),
                    };
                    match letter {
                        'o' => lists.push(value.into_string().map_err(|_| "-o: not UTF-8".to_string())?),
                        'N' => namespace = Some(PathBuf::from(value)),
                        _ => check_type(&value)?,
                    }
                    break;
                }
                _ => return Err(format!("unknown option '{text}'")),
            }
        }
    }
    let mut options = Options::parse(lists.iter().map(String::as_str), sloppy)?;
    if options.remount {
        // It passes what the mount is to have, and leaves out what the kernel's flags have no word for.
        options.suid.get_or_insert(true);
        options.dev.get_or_insert(true);
    }
    let [store, mountpoint] = <[PathBuf; 2]>::try_from(names).map_err(|_| USAGE.to_string())?;
    Ok(Call { store, mountpoint, options, fake, verbose, namespace })
}

fn check_type(name: &OsStr) -> Result<(), String> {
    match name.to_str() {
        Some("kmsfs" | "fuse.kmsfs") => Ok(()),
        _ => Err(format!("-t {}: the type is kmsfs or fuse.kmsfs", name.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &[&str]) -> Result<Call, String> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn takes_what_mount_passes() {
        let call = call(&["/srv/s", "/mnt/m", "-v", "-o", "rw,noexec,key-file=/k", "-t", "fuse.kmsfs"]).unwrap();
        assert_eq!((call.store, call.mountpoint), (PathBuf::from("/srv/s"), PathBuf::from("/mnt/m")));
        assert_eq!(call.options.unlock.key_file, Some(PathBuf::from("/k")));
        assert!(!call.options.exec && call.verbose && !call.fake);
    }

    #[test]
    fn letters_may_be_bundled_and_values_attached() {
        let call = call(&["-sfnv", "/srv/s", "-oro,nonsense", "/mnt/m", "-N", "/proc/1/ns/mnt"]).unwrap();
        assert!(call.fake && call.verbose && call.options.read_only);
        assert_eq!(call.namespace, Some(PathBuf::from("/proc/1/ns/mnt")));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(call(&["/s", "/m", "-x"]).unwrap_err(), "unknown option '-x'");
        assert_eq!(call(&["/s", "/m", "-o"]).unwrap_err(), "-o needs a value");
        assert_eq!(call(&["/s", "/m", "-t", "ext4"]).unwrap_err(), "-t ext4: the type is kmsfs or fuse.kmsfs");
        assert_eq!(call(&["/s", "/m", "-o", "foo"]).unwrap_err(), "unknown mount option 'foo'");
        assert_eq!(call(&["/s"]).unwrap_err(), USAGE);
        assert_eq!(call(&["/s", "/m", "/n"]).unwrap_err(), USAGE);
    }

    #[test]
    fn the_name_it_is_called_by_decides() {
        assert!(is_helper(OsStr::new("/sbin/mount.kmsfs")));
        assert!(is_helper(OsStr::new("mount.fuse.kmsfs")));
        assert!(!is_helper(OsStr::new("/usr/local/bin/kmsfs")));
    }
}
