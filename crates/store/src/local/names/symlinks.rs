//! Symlinks: their targets are encrypted under the bucket's metadata data key.
//!
//! The backing symlink's text is `1` and the sealed target in base64url; or, where the file system below refuses that
//! as too long, `2`, the target's length and the place and id of a record that holds it.

use crate::backend::NewNode;
use crate::local::segments::Segments;
use crate::{Dir, Error, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kmsfs_crypto::MetadataCipher;
use kmsfs_format::ObjectId;
use kmsfs_format::sidecar::{Kind, Place, Record, units_for};
use std::ffi::OsStr;

const BOUND_TO: &[u8] = b"kmsfs symlink";
/// Longest text of a backing symlink: PATH_MAX less its NUL.
const LONGEST: usize = 4095;

/// A backing symlink's text, parsed.
enum Text {
    Here(Vec<u8>),
    Record { length: u64, place: Place, id: ObjectId },
}

/// The target of a symlink.
pub(crate) fn read(segments: &Segments, dir: &Dir, name: &OsStr) -> Result<Vec<u8>> {
    let bucket = dir.in_bucket()?;
    let damaged = || Error::corrupt(dir.show(name), "the symlink's target is not what was written");
    let sealed = match parse(&dir.backing.read_link(name)?).ok_or_else(damaged)? {
        Text::Here(sealed) => sealed,
        Text::Record { place, id, .. } => {
            let record = Record::read(&segments.read(place)?).map_err(|_| damaged())?;
            if record.object_id != id || record.kind != Kind::SymlinkTarget {
                return Err(damaged());
            }
            record.body
        }
    };
    bucket.metadata.open(BOUND_TO, &sealed).map_err(|_| damaged())
}

/// Makes a symlink. EPERM at the root.
pub(crate) fn make(segments: &Segments, dir: &Dir, name: &OsStr, target: &[u8], node: &NewNode) -> Result<()> {
    let bucket = dir.in_bucket()?;
    if target.is_empty() {
        return Err(Error::Errno(libc::ENOENT));
    }
    if target.len() > LONGEST {
        return Err(Error::Errno(libc::ENAMETOOLONG));
    }
    let sealed = bucket.metadata.seal(BOUND_TO, target);
    let text = format!("1{}", URL_SAFE_NO_PAD.encode(&sealed));
    if text.len() <= LONGEST {
        match dir.backing.make_symlink(name, text.as_bytes(), node) {
            // Some file systems take less: 1,024 bytes on xfs, a block on ext4.
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {}
            made => return Ok(made?),
        }
    }
    let units = units_for(sealed.len()).ok_or(Error::Errno(libc::ENAMETOOLONG))?;
    let place = segments.take(units)?;
    let id = ObjectId::random();
    let record = Record { kind: Kind::SymlinkTarget, object_id: id, inode: 0, body: sealed, mac: [0; 32] };
    segments.write(place.segment, place.offset(), &record.write(units))?;
    // Rare and long: made durable at once, so that the symlink never names what is not there.
    segments.sync(place.segment)?;
    let text = format!("2 {} {} {} {units} {id}", target.len(), place.segment, place.unit);
    dir.backing.make_symlink(name, text.as_bytes(), node).inspect_err(|_| {
        let _ = segments.free(place, id);
        segments.give_back(place);
    })?;
    Ok(())
}

/// Length of the target, without a key.
pub(crate) fn size(dir: &Dir, name: &OsStr) -> Result<u64> {
    Ok(match parse(&dir.backing.read_link(name)?) {
        Some(Text::Here(sealed)) => sealed.len().saturating_sub(MetadataCipher::OVERHEAD) as u64,
        Some(Text::Record { length, .. }) => length,
        None => 0,
    })
}

/// The record to free when the symlink goes.
pub(crate) fn record(dir: &Dir, name: &OsStr) -> Result<Option<(ObjectId, Place)>> {
    Ok(match parse(&dir.backing.read_link(name)?) {
        Some(Text::Record { place, id, .. }) => Some((id, place)),
        _ => None,
    })
}

fn parse(text: &[u8]) -> Option<Text> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_at_checked(1)? {
        ("1", sealed) => Some(Text::Here(URL_SAFE_NO_PAD.decode(sealed).ok()?)),
        ("2", rest) => {
            let mut fields = rest.trim_start().split(' ');
            let length = fields.next()?.parse().ok()?;
            let segment = fields.next()?.parse().ok()?;
            let unit = fields.next()?.parse().ok()?;
            let units = fields.next()?.parse().ok()?;
            let id = u128::from_str_radix(fields.next()?, 16).ok()?.to_be_bytes();
            let fits = (1..=kmsfs_format::sidecar::MAX_UNITS).contains(&usize::from(units));
            fits.then_some(Text::Record { length, place: Place { segment, unit, units }, id: ObjectId(id) })
        }
        _ => None,
    }
}
