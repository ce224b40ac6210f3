//! Frames as bytes.

use super::Malformed;
use serde::Serialize;
use std::io::{self, Read, Write};
use zeroize::Zeroizing;

/// Most bytes of a frame's JSON.
pub const LONGEST: usize = 64 << 10;
const HEADER: usize = size_of::<u32>();

/// A frame, with its length before it.
pub struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    /// The frame of that message.
    ///
    /// # Errors
    ///
    /// It is longer than [`LONGEST`].
    pub fn new(message: &impl Serialize) -> Result<Self, Malformed> {
        // Never grown, since what it would be moved from is not zeroized.
        let mut bytes = Zeroizing::new(vec![0; HEADER + LONGEST]);
        let mut rest = &mut bytes[HEADER..];
        let too_long = |_| Malformed(format!("the message is longer than {LONGEST} bytes"));
        serde_json::to_writer(&mut rest, message).map_err(too_long)?;
        let len = LONGEST - rest.len();
        bytes[..HEADER].copy_from_slice(&(len as u32).to_be_bytes());
        bytes.truncate(HEADER + len);
        Ok(Self(bytes))
    }

    /// Writes it, in one piece where the stream takes that.
    pub fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&self.0)?;
        stream.flush()
    }

    /// The JSON.
    pub fn json(&self) -> &[u8] {
        &self.0[HEADER..]
    }
}

/// Waits for the next frame and returns its JSON; `None` where the stream ends instead of beginning one.
///
/// # Errors
///
/// `InvalidData` for one that is longer than [`LONGEST`], of which nothing is read; `UnexpectedEof` where it ends
/// early.
pub fn read_frame(stream: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut header = [0; HEADER];
    let first = loop {
        match stream.read(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[first..])?;
    let len = u32::from_be_bytes(header) as usize;
    if len > LONGEST {
        let text = format!("a frame of {len} bytes: the most is {LONGEST}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut json = Zeroizing::new(vec![0; len]);
    stream.read_exact(&mut json)?;
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_length_and_json() {
        let frame = Frame::new(&serde_json::json!({"id": 7})).unwrap();
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0\0\x08{\"id\":7}");
        assert_eq!(frame.json(), &bytes[4..]);
        let mut stream = &bytes[..];
        assert_eq!(read_frame(&mut stream).unwrap().unwrap()[..], bytes[4..]);
        assert_eq!(read_frame(&mut stream).unwrap(), None);
    }

    #[test]
    fn what_is_too_long_or_ends_early_is_no_frame() {
        let longest = "x".repeat(LONGEST - 2);
        assert_eq!(Frame::new(&longest).unwrap().json().len(), LONGEST);
        assert!(Frame::new(&format!("{longest}x")).is_err());
        let kind = |bytes: &[u8]| read_frame(&mut &*bytes).unwrap_err().kind();
        assert_eq!(kind(&[0xff; 100]), io::ErrorKind::InvalidData);
        assert_eq!(kind(b"\0\0"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"\0\0\0\x08{\"id\""), io::ErrorKind::UnexpectedEof);
    }
}
