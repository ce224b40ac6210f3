//! Secrets looked for in all memory of a process.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Bytes of a needle: what a register holds, and half a key.
const LEN: usize = 16;
const PAGE: usize = 4096;

#[derive(Default)]
pub struct Needles {
    names: HashMap<[u8; LEN], String>,
    /// By the first two bytes, so that most places are passed over at once.
    begin: Vec<bool>,
}

/// How often each was found, with the name of the mapping.
pub type Found = BTreeMap<(String, String), usize>;

impl Needles {
    /// Every 16 bytes of them.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.begin.resize(1 << 16, false);
        for part in bytes.as_chunks().0 {
            self.begin[beginning(part)] = true;
            self.names.insert(*part, name.to_owned());
        }
    }

    /// Everything that the process has mapped and may write.
    pub fn in_process(&self, pid: u32) -> Found {
        let mut found = Found::new();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let mapping = words.nth(3).unwrap_or("anonymous");
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            self.in_range(&memory, start..end, |name| {
                *found.entry((name.to_owned(), mapping.into())).or_default() += 1;
            });
        }
        found
    }

    pub fn in_range(&self, memory: &File, range: std::ops::Range<u64>, mut found: impl FnMut(&str)) {
        const AT_ONCE: usize = 1 << 20;
        let mut bytes = vec![0; AT_ONCE + LEN - 1];
        let mut at = range.start;
        while at < range.end {
            let len = bytes.len().min((range.end - at) as usize);
            // A mapping may have gone meanwhile.
            let Ok(read) = memory.read_at(&mut bytes[..len], at) else { return };
            if read < LEN {
                return;
            }
            self.in_bytes(&bytes[..read], &mut found);
            if read < bytes.len() && at + read as u64 == range.end {
                return;
            }
            at += (read - (LEN - 1)) as u64;
        }
    }

    fn in_bytes(&self, bytes: &[u8], found: &mut impl FnMut(&str)) {
        let zeros = [0; PAGE];
        let mut at = 0;
        while at + LEN <= bytes.len() {
            if bytes[at..].starts_with(&zeros) {
                at += PAGE - LEN + 1;
                continue;
            }
            let end = (at + PAGE).min(bytes.len() - LEN + 1);
            for at in at..end {
                if self.begin[usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])]
                    && let Some(name) = self.names.get(&bytes[at..at + LEN])
                {
                    found(name);
                }
            }
            at = end;
        }
    }
}

fn beginning(part: &[u8; LEN]) -> usize {
    usize::from(part[0]) << 8 | usize::from(part[1])
}

pub fn is_found(found: &Found, name: &str) -> bool {
    found.keys().any(|(needle, _)| needle == name)
}

/// Without the mappings' names.
pub fn count(found: &Found, name: &str) -> usize {
    found.iter().filter(|((needle, _), _)| needle == name).map(|(_, count)| count).sum()
}
