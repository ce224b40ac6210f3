//! An audit log in a file that several processes append to, each under a lock.

use super::chain::{Head, Link, Loss};
use kmsfs_crypto::ChainKey;
use kmsfs_sys::private::{self, Access, Kind};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Room for a record, policy documents included, that is asked for before something is changed.
const ROOM: u64 = 256 << 10;
/// Looking for the last line goes back in steps of this many bytes.
const STEP: u64 = 64 << 10;

pub(crate) struct FileSink {
    path: PathBuf,
    open: Option<Open>,
}

/// The log, and beside it where its chain has come to: what removing the last records cannot take back alone.
struct Open {
    log: File,
    head: File,
}

/// The chain as it is under the lock.
struct End {
    head: Head,
    /// Bytes of the file.
    len: u64,
    /// Its last line has no end; `torn` of its bytes are no record.
    is_unfinished: bool,
    torn: u64,
}

impl FileSink {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Makes sure that a record has room, whatever is written to the file system in between.
    pub(crate) fn reserve(&mut self) -> io::Result<()> {
        self.locked(|open, _| {
            let len = open.log.metadata()?.len();
            match fallocate(&open.log, FallocateFlags::KEEP_SIZE, len, ROOM) {
                // Not every file system has it; then the record itself meets what there is.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        })
    }

    /// Appends a record, entirely or not at all.
    pub(crate) fn append(&mut self, key: &ChainKey, body: &str, loss: Loss) -> io::Result<()> {
        self.locked(|open, path| {
            let end = open.end(key, path)?;
            let (line, head) = end.head.seal(key, body, Loss { torn: end.torn, ..loss });
            let start = if end.is_unfinished { "\n" } else { "" };
            let bytes = format!("{start}{line}\n");
            if let Err(error) = (&open.log).write_all(bytes.as_bytes()) {
                open.log.set_len(end.len)?;
                return Err(error);
            }
            if let Err(error) = open.keep(&head, end.len + bytes.len() as u64) {
                // The record is there; the next one finds it.
                log::warn!("{}: {error}", head_path(path).display());
            }
            Ok(())
        })
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &self.open {
            Some(open) => open.log.sync_data(),
            None => Ok(()),
        }
    }

    /// Under the lock of the file that has the name now.
    fn locked<T>(&mut self, act: impl FnOnce(&Open, &Path) -> io::Result<T>) -> io::Result<T> {
        loop {
            let open = match self.open.take() {
                Some(open) if open.is_at(&self.path) => open,
                _ => Open::new(&self.path)?,
            };
            flock(&open.log, FlockOperation::LockExclusive)?;
            // It may have been moved away while the lock was waited for.
            if !open.is_at(&self.path) {
                continue;
            }
            let done = act(&open, &self.path);
            flock(&open.log, FlockOperation::Unlock)?;
            self.open = Some(open);
            return done;
        }
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let open =
            |path: &Path, access| private::open(path, Kind::Secret, access).map_err(|refusal| refusal.about(path));
        Ok(Self { log: open(path, Access::ReadAndAppend)?, head: open(&head_path(path), Access::ChangeOrMake)? })
    }

    fn is_at(&self, path: &Path) -> bool {
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (self.log.metadata(), fs::symlink_metadata(path)) {
            (Ok(here), Ok(there)) => same(&here, &there),
            _ => false,
        }
    }

    /// Where the chain goes on: after the record that is kept beside the log, or after the log's last line if a process
    /// was killed between the two. Whichever is later: what was cut off shows as a gap.
    /// Lines that nobody with the key wrote do not count: they would move the chain to where they say.
    fn end(&self, key: &ChainKey, path: &Path) -> io::Result<End> {
        let len = self.log.metadata()?.len();
        let kept = read_kept(&self.head)?;
        if let Some((head, at)) = kept
            && at == len
        {
            return Ok(End { head, len, is_unfinished: false, torn: 0 });
        }
        let (line, rest) = last_lines(&self.log, len)?;
        // All but its end may have been written.
        let written = |line: &[u8]| Link::parse(line).filter(|link| link.is_authentic(key, line));
        let whole = written(&rest);
        let torn = if whole.is_some() { 0 } else { rest.len() as u64 };
        let last = whole.or_else(|| written(&line)).map(|link| link.head);
        let head = match (kept, last) {
            (Some((kept, _)), Some(last)) if kept.id == last.id && kept.sequence > last.sequence => {
                log::error!("{}: records have been removed from its end", path.display());
                kept
            }
            (_, Some(last)) => last,
            (Some((kept, _)), None) => kept,
            (None, None) => Head::start(),
        };
        Ok(End { head, len, is_unfinished: !rest.is_empty(), torn })
    }

    fn keep(&self, head: &Head, len: u64) -> io::Result<()> {
        let (id, hash) = (hex::encode(head.id), hex::encode(head.hash));
        self.head.write_all_at(format!("{id} {:020} {hash} {len:020}\n", head.sequence).as_bytes(), 0)
    }
}

/// The chain's last record as it is kept beside a log, and the log's length then.
fn read_kept(file: &File) -> io::Result<Option<(Head, u64)>> {
    let mut bytes = vec![0; 124];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(parse_kept(&bytes[..read]))
}

fn parse_kept(bytes: &[u8]) -> Option<(Head, u64)> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut words = text.split(' ');
    let (mut id, mut hash) = ([0; 8], [0; 32]);
    hex::decode_to_slice(words.next()?, &mut id).ok()?;
    let sequence = words.next()?.parse().ok()?;
    hex::decode_to_slice(words.next()?, &mut hash).ok()?;
    let len = words.next()?.parse().ok()?;
    Some((Head { id, sequence, hash }, len))
}

/// A log between two records, while others go on writing it.
pub(crate) struct Snapshot {
    pub log: File,
    /// Bytes of it.
    pub len: u64,
    /// What is kept beside it, if that is there.
    pub head: Option<Head>,
}

impl Snapshot {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let log = File::open(path)?;
        // What has no lock, a pipe for instance, nobody appends to.
        let is_locked = flock(&log, FlockOperation::LockShared).is_ok();
        let metadata = log.metadata()?;
        let len = if metadata.is_file() { metadata.len() } else { u64::MAX };
        let head = File::open(head_path(path)).ok().and_then(|file| read_kept(&file).ok()?);
        if is_locked {
            flock(&log, FlockOperation::Unlock)?;
        }
        Ok(Self { log, len, head: head.map(|(head, _)| head) })
    }
}

/// The last finished line, and what follows it.
fn last_lines(file: &File, len: u64) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut tail = Vec::new();
    let mut from = len;
    loop {
        let mut lines = tail.rsplitn(3, |byte| *byte == b'\n');
        let (rest, line, before) = (lines.next(), lines.next(), lines.next());
        if before.is_some() || from == 0 {
            return Ok((line.unwrap_or_default().to_vec(), rest.unwrap_or_default().to_vec()));
        }
        let step = STEP.min(from);
        from -= step;
        let mut more = vec![0; step as usize];
        file.read_exact_at(&mut more, from)?;
        more.append(&mut tail);
        tail = more;
    }
}

pub(crate) fn head_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::verify::{Writer, verify};
    use super::*;
    use kmsfs_crypto::SecretKey;
    use std::fs::OpenOptions;
    use std::os::unix::fs::PermissionsExt;

    struct Place {
        dir: tempfile::TempDir,
        key: ChainKey,
    }

    impl Place {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), key: ChainKey::of_root(&SecretKey::random()) }
        }

        fn log(&self) -> PathBuf {
            self.dir.path().join("audit.log")
        }

        fn append(&self, sink: &mut FileSink, number: u32) {
            sink.append(&self.key, &format!("{{\"n\":{number}}}"), Loss::default()).unwrap();
        }

        fn findings(&self) -> Vec<String> {
            let verification = verify(&self.key, &[self.log()], Writer::Kmsfs).unwrap();
            verification.findings.into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
        }
    }

    #[test]
    fn processes_append_to_one_chain() {
        let place = Place::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut sink = FileSink::new(place.log());
                    (0..50).for_each(|number| place.append(&mut sink, number));
                });
            }
        });
        let verification = verify(&place.key, &[place.log()], Writer::Kmsfs).unwrap();
        assert_eq!((verification.records, verification.chains), (200, 1));
        assert_eq!(place.findings(), [""; 0]);
        assert_eq!(fs::metadata(place.log()).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_chain_goes_on_in_the_new_file_when_the_log_was_moved_away() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        place.append(&mut sink, 1);
        let old = place.dir.path().join("audit.log.1");
        fs::rename(place.log(), &old).unwrap();
        place.append(&mut sink, 2);
        place.append(&mut FileSink::new(place.log()), 3);
        let verification = verify(&place.key, &[old, place.log()], Writer::Kmsfs).unwrap();
        assert_eq!((verification.records, verification.chains, verification.findings.len()), (3, 1, 0));
        assert_eq!(verification.notices, [""; 0]);
    }

    #[test]
    fn a_line_that_a_crash_tore_is_known_for_one() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        place.append(&mut sink, 1);
        OpenOptions::new().append(true).open(place.log()).unwrap().write_all(b"{\"torn").unwrap();
        place.append(&mut sink, 2);
        assert_eq!(place.findings(), [""; 0]);
        let text = fs::read_to_string(place.log()).unwrap().replace("{\"torn\n", "{\"forged\n");
        fs::write(place.log(), text).unwrap();
        assert_eq!(place.findings(), ["2: this is no record of this log"]);
    }

    #[test]
    fn a_record_of_which_only_the_line_end_is_missing_counts() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        place.append(&mut sink, 1);
        let kept = fs::read(head_path(&place.log())).unwrap();
        place.append(&mut sink, 2);
        let text = fs::read_to_string(place.log()).unwrap();
        fs::write(place.log(), text.trim_end()).unwrap();
        fs::write(head_path(&place.log()), kept).unwrap();
        place.append(&mut sink, 3);
        assert_eq!(place.findings(), [""; 0]);
        assert_eq!(fs::read_to_string(place.log()).unwrap().lines().count(), 3);
    }

    #[test]
    fn lines_longer_than_a_step_are_found() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(3 * STEP as usize));
        for _ in 0..3 {
            sink.append(&place.key, &long, Loss::default()).unwrap();
            fs::write(head_path(&place.log()), "").unwrap();
        }
        let verification = verify(&place.key, &[place.log()], Writer::Kmsfs).unwrap();
        assert_eq!((verification.records, verification.chains, verification.findings.len()), (3, 1, 0));
    }

    #[test]
    fn a_record_whose_end_was_not_kept_beside_the_log_is_found() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        place.append(&mut sink, 1);
        let kept = fs::read(head_path(&place.log())).unwrap();
        place.append(&mut sink, 2);
        fs::write(head_path(&place.log()), kept).unwrap();
        place.append(&mut sink, 3);
        assert_eq!(place.findings(), [""; 0]);
    }

    #[test]
    fn records_that_were_cut_off_are_missed_before_and_after_the_next_one() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        (1..=3).for_each(|number| place.append(&mut sink, number));
        let text = fs::read_to_string(place.log()).unwrap();
        let first = text.split_inclusive('\n').next().unwrap();
        fs::write(place.log(), first).unwrap();
        assert_eq!(place.findings(), ["2: 2 records are missing at the end, number 2 to 3"]);
        place.append(&mut sink, 4);
        assert_eq!(place.findings(), ["2: 2 records are missing before this one, number 2 to 3"]);
    }

    #[test]
    fn a_forged_last_line_does_not_move_the_chain() {
        let forged = |sequence: u64| {
            let (line, _) = Head { sequence, ..Head::start() }.seal(
                &ChainKey::of_root(&SecretKey::random()),
                "{\"n\":0}",
                Loss::default(),
            );
            line
        };
        for end in ["", "\n"] {
            for line in [forged(0).replace("\"sequence\":1", "\"sequence\":0"), forged(u64::MAX - 1)] {
                let place = Place::new();
                let mut sink = FileSink::new(place.log());
                (1..=3).for_each(|number| place.append(&mut sink, number));
                fs::write(place.log(), format!("{line}{end}")).unwrap();
                place.append(&mut sink, 4);
                let after = fs::read_to_string(place.log()).unwrap();
                let last = Link::parse(after.lines().last().unwrap().as_bytes()).unwrap();
                assert_eq!(last.head.sequence, 4, "{line}");
                assert!(!place.findings().is_empty());
                // Taken out again, it has not hidden that the log began earlier.
                fs::write(place.log(), format!("{}\n", after.lines().last().unwrap())).unwrap();
                let notices = verify(&place.key, &[place.log()], Writer::Kmsfs).unwrap().notices;
                assert!(
                    notices[0].ends_with("begins with number 4: what comes before is in an older file"),
                    "{notices:?}"
                );
            }
        }
    }

    #[test]
    fn a_file_that_others_can_reach_is_refused_with_what_to_do() {
        let place = Place::new();
        let mut sink = FileSink::new(place.log());
        fs::write(place.log(), "").unwrap();
        fs::set_permissions(place.log(), fs::Permissions::from_mode(0o644)).unwrap();
        let said = sink.reserve().unwrap_err().to_string();
        assert!(said.ends_with("audit.log is open to others (mode 0644): chmod 600 it"), "{said}");
        fs::remove_file(place.log()).unwrap();
        std::os::unix::fs::symlink("elsewhere", place.log()).unwrap();
        let said = sink.reserve().unwrap_err().to_string();
        assert!(said.ends_with("is a symbolic link: name the file itself, or put it there"), "{said}");
    }
}
