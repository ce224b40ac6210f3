//! Whether this kernel has rings for FUSE that are to be relied on, and for which processors.

use std::fs;
use std::io;

/// Root's switch of the kernel's, off by default.
const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// Rings are there since 6.14, with faults that lose a queue, use memory that was freed, or leave processes that
/// nothing ends: 6.18.39 is the first of its series that has the fixes, and 7.2 the first series that began with them.
const GOOD: [(u32, u32, u32); 2] = [(6, 18, 39), (7, 2, 0)];

/// Why requests cannot come by rings here, and what to do about it; `None` if they can, as far as can be said before
/// there is a mount.
pub fn why_not() -> Option<String> {
    let release = fs::read_to_string(RELEASE).unwrap_or_default();
    if !is_good(&release) {
        let text =
            "has FUSE over io_uring not at all, or with faults: that takes 6.18.39 or a later 6.18, or 7.2 or newer";
        return Some(format!("Linux {} {text}", release.trim()));
    }
    match fs::read_to_string(PARAMETER) {
        Ok(value) if value.trim() == "Y" => None,
        Ok(_) => Some(format!("FUSE over io_uring is switched off; as root: echo Y > {PARAMETER}")),
        Err(error) => Some(format!("this kernel has no FUSE over io_uring: {PARAMETER}: {error}")),
    }
}

/// `release` as uname(2) has it.
fn is_good(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return false };
    let version = (major, minor, numbers.next().unwrap_or(0));
    let [stable, newer] = GOOD;
    version >= newer || (version >= stable && (major, minor) == (stable.0, stable.1))
}

/// The processors that there may ever be, each of which has a queue, and whether each is there.
pub(super) fn processors() -> io::Result<Vec<(u16, bool)>> {
    let read = |path| fs::read_to_string(path).map(|text| list(&text));
    let (possible, online) = (read(POSSIBLE)?, read(ONLINE)?);
    // As many queues as possible processors, numbered from 0.
    let count = u16::try_from(possible.len()).map_err(io::Error::other)?;
    if count == 0 {
        return Err(io::Error::other(format!("{POSSIBLE} names no processor")));
    }
    Ok((0..count).map(|number| (number, online.contains(&number))).collect())
}

/// "0-2,5" as the kernel writes it.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_good_from_a_stated_version_on() {
        for good in ["6.18.39", "6.18.44-fc-v657", "6.18.100", "7.2.0", "7.2", "7.10.1-arch1", "8.0"] {
            assert!(is_good(good), "{good}");
        }
        for bad in ["6.18.38", "6.18", "6.17.99", "6.19.12", "7.1.9", "7.1", "6.1.0-49-amd64", "5.15", "", "x"] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn processors_are_listed_as_the_kernel_writes_them() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(list("0\n"), [0]);
        assert_eq!(list("\n"), [0; 0]);
        let here = processors().unwrap();
        assert!(here.iter().any(|(_, online)| *online) && here[0].0 == 0);
    }
}
