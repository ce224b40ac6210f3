//! aws-chunked: chunks with their sizes and signatures, an empty one, and trailers.
//!
//! ```text
//! 10000;chunk-signature=SIGNATURE CRLF    the size in hexadecimal digits; unsigned chunks have nothing behind it
//! BYTES CRLF
//! 0;chunk-signature=SIGNATURE CRLF
//! x-amz-checksum-crc32:VALUE CRLF         where one was announced
//! x-amz-trailer-signature:SIGNATURE CRLF  where chunks are signed
//! CRLF
//! ```
//!
//! minio-go ends a trailer's line with a bare line feed and has an empty line more behind it, which S3 takes.

use super::framing::{Chunks, Trailers};
use super::line::{Line, TooLong};
use super::{Chain, Event};
use crate::error::Error;
use sha2::{Digest, Sha256};

#[derive(Debug)]
pub(super) struct Chunked {
    /// Where chunks are signed.
    chain: Option<Chain>,
    trailers: Trailers,
    state: State,
    line: Line,
    /// Bytes of the object that no chunk has begun with yet.
    left: u64,
    /// Chunks that have begun, and the size of the last one in bytes.
    chunks: u64,
    last_size: u64,
    /// Of the chunk's bytes so far, and the signature that it came with; unsigned chunks have an empty one.
    sha256: Sha256,
    signature: String,
    trailer: Option<Trailer>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the line before a chunk.
    Head,
    /// In a chunk's bytes, of which so many are to come.
    Data(u64),
    /// Behind a chunk's bytes, in the line's end; so many of its two bytes are there.
    DataEnd(usize),
    /// Behind the last chunk.
    Trailers,
    /// At the end. So many bytes of the empty line that may still come are there, if one may.
    End(Option<usize>),
}

#[derive(Debug)]
struct Trailer {
    value: String,
    /// The line had no carriage return at its end.
    bare: bool,
    /// An empty line came behind it, before its signature.
    apart: bool,
    signed: bool,
}

const LINE_END: &[u8; 2] = b"\r\n";
/// Each chunk but the last has at least this many bytes (Amazon S3 API Reference, "Transferring Payload in Multiple
/// Chunks").
const SMALLEST: u64 = 8192;

impl Chunked {
    pub(super) fn new(chunks: Chunks, chain: Option<Chain>) -> Self {
        Self {
            chain,
            trailers: chunks.trailers,
            state: State::Head,
            line: Line::new(),
            left: chunks.length,
            chunks: 0,
            last_size: u64::MAX,
            sha256: Sha256::new(),
            signature: String::new(),
            trailer: None,
        }
    }

    pub(super) fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        loop {
            match self.state {
                State::Data(0) => {
                    self.state = State::DataEnd(0);
                    if self.verify_chunk()? {
                        return Ok(Some(Event::Verified));
                    }
                }
                _ if input.is_empty() => return Ok(None),
                State::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (bytes, rest) = input.split_at(here);
                    *input = rest;
                    if self.chain.is_some() {
                        self.sha256.update(bytes);
                    }
                    self.state = State::Data(left - bytes.len() as u64);
                    return Ok(Some(Event::Unverified(bytes)));
                }
                State::Head => {
                    let Some(line) = self.line.take(input).map_err(|TooLong| Error::Incomplete)? else { continue };
                    self.state = self.begin_chunk(line.bytes())?;
                }
                State::DataEnd(there) => {
                    let there = line_end(there, input).ok_or(Error::Incomplete)?;
                    self.state = if there == LINE_END.len() { State::Head } else { State::DataEnd(there) };
                }
                State::Trailers => {
                    let wrong =
                        if self.trailers == Trailers::Never { Error::Incomplete } else { Error::MalformedTrailer };
                    let Some(line) = self.line.take(input).map_err(|TooLong| wrong.clone())? else { continue };
                    self.state = match line.bytes() {
                        b"\r\n" => self.empty_line()?,
                        _ if self.trailers == Trailers::Never => return Err(wrong),
                        line => self.trailer_line(line)?,
                    };
                }
                State::End(Some(there)) if there < LINE_END.len() => {
                    let there = line_end(there, input).ok_or(Error::MalformedTrailer)?;
                    self.state = State::End(Some(there));
                }
                State::End(_) => return Err(Error::MalformedTrailer),
            }
        }
    }

    pub(super) fn finish(self) -> Result<Option<(&'static str, String)>, Error> {
        if !matches!(self.state, State::End(None | Some(0 | 2))) {
            return Err(Error::Incomplete);
        }
        let name = match self.trailers {
            Trailers::Never | Trailers::Unsigned(None) => None,
            Trailers::Unsigned(Some(name)) | Trailers::Signed(name) => Some(name),
        };
        Ok(name.zip(self.trailer.map(|trailer| trailer.value)))
    }

    /// What comes behind a chunk's head. The chunk may not have more bytes than the object has left.
    fn begin_chunk(&mut self, line: &[u8]) -> Result<State, Error> {
        let (size, signature) = head(line, self.chain.is_some()).ok_or(Error::Incomplete)?;
        self.chunks += 1;
        if size > 0 && self.last_size < SMALLEST {
            return Err(Error::ChunkTooSmall { chunk: self.chunks, size: self.last_size });
        }
        self.left = self.left.checked_sub(size).ok_or(Error::WrongLength)?;
        self.last_size = size;
        self.signature = signature;
        if size > 0 {
            return Ok(State::Data(size));
        }
        if self.left > 0 {
            return Err(Error::WrongLength);
        }
        self.verify_chunk()?;
        Ok(State::Trailers)
    }

    /// Whether it is verified: unsigned ones never are.
    fn verify_chunk(&mut self) -> Result<bool, Error> {
        let Some(chain) = &mut self.chain else { return Ok(false) };
        let sha256 = std::mem::take(&mut self.sha256).finalize().into();
        chain.chunk(sha256, &self.signature)?;
        Ok(true)
    }

    fn empty_line(&mut self) -> Result<State, Error> {
        match (self.trailers, &mut self.trailer) {
            (Trailers::Never | Trailers::Unsigned(None), _) => Ok(State::End(None)),
            (_, None) => Err(Error::MalformedTrailer),
            (Trailers::Unsigned(_), Some(trailer)) => Ok(State::End(trailer.bare.then_some(0))),
            (Trailers::Signed(_), Some(trailer)) if trailer.signed => Ok(State::End(None)),
            (Trailers::Signed(_), Some(trailer)) => {
                let once = trailer.bare && !std::mem::replace(&mut trailer.apart, true);
                if once { Ok(State::Trailers) } else { Err(Error::MalformedTrailer) }
            }
        }
    }

    fn trailer_line(&mut self, line: &[u8]) -> Result<State, Error> {
        let (name, value, bare) = trailer(line).ok_or(Error::MalformedTrailer)?;
        match (self.trailers, &mut self.trailer) {
            (Trailers::Unsigned(Some(announced)) | Trailers::Signed(announced), none @ None)
                if name.eq_ignore_ascii_case(announced) =>
            {
                *none = Some(Trailer { value: value.to_owned(), bare, apart: false, signed: false });
            }
            (Trailers::Signed(announced), Some(trailer))
                if !bare && !trailer.signed && name.eq_ignore_ascii_case("x-amz-trailer-signature") =>
            {
                let chain = self.chain.as_mut().ok_or(Error::MalformedTrailer)?;
                chain.trailer(announced, &trailer.value, value)?;
                trailer.signed = true;
            }
            _ => return Err(Error::MalformedTrailer),
        }
        Ok(State::Trailers)
    }
}

/// Takes as much of a line's end as is there off the input's front; `None` where it is something else.
fn line_end(there: usize, input: &mut &[u8]) -> Option<usize> {
    let expected = &LINE_END[there..];
    let (bytes, rest) = input.split_at(expected.len().min(input.len()));
    *input = rest;
    expected.starts_with(bytes).then_some(there + bytes.len())
}

/// A chunk's size in bytes, and its signature; the empty text where chunks are not signed. There is nothing else that
/// the line may have.
fn head(line: &[u8], signed: bool) -> Option<(u64, String)> {
    let line = std::str::from_utf8(line.strip_suffix(LINE_END)?).ok()?;
    let (size, signature) = if signed { line.split_once(";chunk-signature=")? } else { (line, "") };
    let digits = (1..=16).contains(&size.len()) && size.bytes().all(|digit| digit.is_ascii_hexdigit());
    let whole = signature.len() == if signed { 64 } else { 0 };
    (digits && whole).then(|| u64::from_str_radix(size, 16).ok()).flatten().map(|size| (size, signature.to_owned()))
}

/// Name, value, and whether the line ends without a carriage return.
fn trailer(line: &[u8]) -> Option<(&str, &str, bool)> {
    let line = line.strip_suffix(b"\n")?;
    let (line, bare) = line.strip_suffix(b"\r").map_or((line, true), |line| (line, false));
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let value = value.trim_matches([' ', '\t']);
    let visible = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    visible.then_some((name, value, bare))
}
