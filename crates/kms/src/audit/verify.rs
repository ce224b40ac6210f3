//! Whether the records of a log are what was written, all of it, in that order.

use super::chain::{ChainId, Head, Link};
use super::file::Snapshot;
use kmsfs_crypto::ChainKey;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What syslog's own lines carry before a record of this program.
const TAG: &[u8] = b"kmsfs-audit";

/// Whose files they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// This program's alone: every line is a record, from its first byte on.
    Kmsfs,
    /// The system's log: others write there too, and each line has something before its text.
    Syslog,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it is.
    pub file: PathBuf,
    /// From 1.
    pub line: u64,
    /// What is wrong, for a person.
    pub what: String,
}

#[derive(Debug, Default)]
/// What checking a log came to.
pub struct Verification {
    /// That are authentic.
    pub records: u64,
    /// Logs that were begun anew in it.
    pub chains: usize,
    /// In the order of the lines.
    pub findings: Vec<Finding>,
    /// What is as it should be but worth knowing.
    pub notices: Vec<String>,
    /// Lines of others in the system's log, which nothing is known about.
    pub others: u64,
    /// The last record of the last file: its number and hash, to be noted elsewhere.
    pub last: Option<(u64, String)>,
}

/// Reads the files of a log, the oldest first.
pub(crate) fn verify(key: &ChainKey, files: &[PathBuf], writer: Writer) -> io::Result<Verification> {
    let mut check = Check { key, writer, heads: HashMap::new(), found: Verification::default() };
    for file in files {
        let of_file = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
        let Snapshot { log, len, head } = Snapshot::of(file).map_err(of_file)?;
        let lines = check.read(file, BufReader::new(log.take(len))).map_err(of_file)?;
        if let Some(head) = head {
            check.compare_with_kept(file, lines, &head);
        }
    }
    check.found.chains = check.heads.len();
    Ok(check.found)
}

struct Check<'a> {
    key: &'a ChainKey,
    writer: Writer,
    heads: HashMap<ChainId, Head>,
    found: Verification,
}

/// A line that is no record, in case the next one says that a crash tore it.
struct Unread {
    line: u64,
    bytes: u64,
    is_finished: bool,
}

impl Check<'_> {
    /// Answers how many lines there are.
    fn read(&mut self, file: &Path, mut reader: impl BufRead) -> io::Result<u64> {
        let mut unread: Option<Unread> = None;
        let mut last = None;
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let is_finished = line.pop_if(|byte| *byte == b'\n').is_some();
            let Some((record, link)) = self.parse(&line) else {
                if self.is_others(&line) {
                    self.found.others += 1;
                } else {
                    let new = Unread { line: number, bytes: line.len() as u64, is_finished };
                    self.settle(file, unread.replace(new), 0);
                }
                continue;
            };
            self.settle(file, unread.take(), link.loss.torn);
            if link.loss.dropped > 0 {
                let text =
                    format!("{}:{number}: {} records were dropped before this one", file.display(), link.loss.dropped);
                self.found.notices.push(text);
            }
            if link.is_authentic(self.key, record) {
                self.found.records += 1;
                last = Some(link.head);
            } else {
                self.find(file, number, "this record was changed, or written by somebody without the keyring".into());
            }
            self.follow(file, number, &link);
        }
        match unread {
            // Nobody was just writing it: the length was taken under the log's lock.
            Some(Unread { is_finished: false, line, .. }) => {
                let what = "not finished: a crash tore it, which the next record will say, or it was written by \
                            somebody without the keyring";
                self.find(file, line, what.into());
            }
            unread => self.settle(file, unread, 0),
        }
        if let Some(last) = last {
            self.found.last = Some((last.sequence, hex::encode(last.hash)));
        }
        Ok(number)
    }

    /// A record of this log. In the system's it is wherever it begins in the line.
    fn parse<'l>(&self, line: &'l [u8]) -> Option<(&'l [u8], Link)> {
        let start = match self.writer {
            Writer::Kmsfs => line.starts_with(b"{").then_some(0)?,
            Writer::Syslog => line.iter().position(|byte| *byte == b'{')?,
        };
        Some((&line[start..], Link::parse(&line[start..])?))
    }

    fn is_others(&self, line: &[u8]) -> bool {
        self.writer == Writer::Syslog && !line.windows(TAG.len()).any(|window| window == TAG)
    }

    /// A line that could not be read is a crash's, if the record after it says so.
    fn settle(&mut self, file: &Path, unread: Option<Unread>, torn: u64) {
        let Some(Unread { line, bytes, .. }) = unread else { return };
        if bytes > 0 && bytes == torn {
            let text = format!("{}:{line}: {bytes} bytes of a record that a crash left unfinished", file.display());
            self.found.notices.push(text);
        } else {
            self.find(file, line, "this is no record of this log".into());
        }
    }

    fn follow(&mut self, file: &Path, number: u64, link: &Link) {
        let head = link.head;
        let what = match self.heads.insert(head.id, head) {
            None if head.sequence == 1 && link.previous == [0; 32] => None,
            None => {
                let text = format!(
                    "{}:{number}: begins with number {}: what comes before is in an older file",
                    file.display(),
                    head.sequence
                );
                self.found.notices.push(text);
                None
            }
            Some(before) if link.previous == before.hash && head.sequence == before.sequence.saturating_add(1) => None,
            Some(before) if head.sequence > before.sequence.saturating_add(1) => {
                Some(missing("before this one", before.sequence + 1, head.sequence - 1))
            }
            Some(before) if head.sequence <= before.sequence => {
                Some(format!("number {} comes after number {}: moved or repeated", head.sequence, before.sequence))
            }
            Some(_) => Some("this record does not follow the one before, which was replaced".into()),
        };
        if let Some(what) = what {
            self.find(file, number, what);
        }
    }

    fn compare_with_kept(&mut self, file: &Path, lines: u64, kept: &Head) {
        match self.heads.get(&kept.id).map(|head| head.sequence) {
            Some(there) if kept.sequence > there => {
                self.find(file, lines + 1, missing("at the end", there + 1, kept.sequence));
            }
            Some(_) => {}
            None => self.found.notices.push(format!(
                "{}: the last record, number {}, is in another file",
                file.display(),
                kept.sequence
            )),
        }
    }

    fn find(&mut self, file: &Path, line: u64, what: String) {
        self.found.findings.push(Finding { file: file.to_path_buf(), line, what });
    }
}

fn missing(place: &str, from: u64, to: u64) -> String {
    match to - from + 1 {
        1 => format!("1 record is missing {place}, number {from}"),
        count => format!("{count} records are missing {place}, number {from} to {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::Loss;
    use super::*;
    use kmsfs_crypto::SecretKey;

    /// Five records, the lines changed, and what is found then.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<String>), expected: &[(u64, &str)]) {
        let dir = tempfile::tempdir().unwrap();
        let key = ChainKey::of_root(&SecretKey::random());
        let mut head = Head::start();
        let mut lines = Vec::new();
        for number in 1..=5 {
            let (line, next) = head.seal(&key, &format!("{{\"n\":{number}}}"), Loss::default());
            head = next;
            lines.push(line);
        }
        change(&mut lines);
        let file = dir.path().join("log");
        std::fs::write(&file, lines.iter().flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
        let findings = verify(&key, &[file], Writer::Kmsfs).unwrap().findings;
        let found: Vec<_> = findings.iter().map(|finding| (finding.line, finding.what.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_was_done_to_a_log_is_found_where_it_was_done() {
        check(|_| {}, &[]);
        let changed = "this record was changed, or written by somebody without the keyring";
        check(|lines| lines[2] = lines[2].replace("\"n\":3", "\"n\":4"), &[(3, changed)]);
        check(|lines| drop(lines.remove(2)), &[(3, "1 record is missing before this one, number 3")]);
        check(|lines| drop(lines.drain(1..4)), &[(2, "3 records are missing before this one, number 2 to 4")]);
        let none = "this is no record of this log";
        check(|lines| lines[2].push(' '), &[(3, none), (4, "1 record is missing before this one, number 3")]);
        check(|lines| lines[2].insert_str(0, "x "), &[(3, none), (4, "1 record is missing before this one, number 3")]);
        for foreign in ["{}", "what somebody wrote", "x {\"eventName\":\"Decrypt\"}", "<1>", "", " ", "\0", "# kmsfs"] {
            for at in 0..=5 {
                check(|lines| lines.insert(at, foreign.into()), &[(at as u64 + 1, none)]);
            }
        }
        check(|lines| lines.extend(["a".into(), "b".into()]), &[(6, none), (7, none)]);
        check(
            |lines| lines.swap(1, 2),
            &[
                (2, "1 record is missing before this one, number 2"),
                (3, "number 2 comes after number 3: moved or repeated"),
                (4, "1 record is missing before this one, number 3"),
            ],
        );
        check(|lines| lines.push(lines[4].clone()), &[(6, "number 5 comes after number 5: moved or repeated")]);
    }

    #[test]
    fn another_chain_with_the_same_key_does_not_stand_in() {
        let dir = tempfile::tempdir().unwrap();
        let key = ChainKey::of_root(&SecretKey::random());
        let file = dir.path().join("log");
        let (first, head) = Head::start().seal(&key, "{}", Loss::default());
        let (fork, _) = head.seal(&key, "{\"fork\":1}", Loss::default());
        let (second, head) = head.seal(&key, "{\"n\":2}", Loss::default());
        let (third, _) = head.seal(&key, "{\"n\":3}", Loss::default());
        std::fs::write(&file, format!("{first}\n{fork}\n{third}\n")).unwrap();
        let verification = verify(&key, std::slice::from_ref(&file), Writer::Kmsfs).unwrap();
        let what = "this record does not follow the one before, which was replaced";
        assert_eq!(verification.findings, [Finding { file: file.clone(), line: 3, what: what.into() }]);
        std::fs::write(&file, format!("{second}\n{third}\n")).unwrap();
        let verification = verify(&key, &[file], Writer::Kmsfs).unwrap();
        assert_eq!((verification.findings.len(), verification.notices.len()), (0, 1), "an older file was not given");
        assert_eq!(verification.last.unwrap().0, 3);
    }

    #[test]
    fn what_is_not_finished_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let key = ChainKey::of_root(&SecretKey::random());
        let file = dir.path().join("log");
        let (record, _) = Head::start().seal(&key, "{}", Loss::default());
        let check = |text: String| {
            std::fs::write(&file, text).unwrap();
            let found = verify(&key, std::slice::from_ref(&file), Writer::Kmsfs).unwrap();
            (found.records, found.findings.len())
        };
        assert_eq!(check(record.clone()), (1, 0), "but for its end");
        assert_eq!(check(format!("{record}\n{{\"eventName\":\"Decrypt\"}}")), (1, 1));
    }

    #[test]
    fn lines_of_others_in_the_systems_log_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let key = ChainKey::of_root(&SecretKey::random());
        let file = dir.path().join("messages");
        let (record, _) = Head::start().seal(&key, "{}", Loss::default());
        let check = |more: &str| {
            std::fs::write(&file, format!("{more}\nMay 1 host kmsfs-audit[1]: {record}\n")).unwrap();
            let of = |writer| verify(&key, std::slice::from_ref(&file), writer).unwrap();
            let found = of(Writer::Syslog);
            assert!(of(Writer::Kmsfs).findings.len() >= 2, "as a file of its own");
            (found.records, found.others, found.findings.len())
        };
        assert_eq!(check("May 1 host sshd[1]: hello\n\nMay 1 host x[2]: {\"a\":1}"), (1, 3, 0));
        assert_eq!(check("May 1 host kmsfs-audit[1]: {\"eventName\":\"Decrypt\"}"), (1, 0, 1));
        assert_eq!(check("{\"eventName\":\"Decrypt\",\"x\":\"kmsfs-audit\"}"), (1, 0, 1));
    }
}
