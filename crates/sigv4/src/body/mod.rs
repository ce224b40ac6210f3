//! Bodies: what is in them, and whether it was signed.

mod chain;
mod chunked;
mod framing;
mod line;

pub(crate) use chain::Chain;
pub(crate) use framing::Framing;

use crate::error::Error;
use crate::payload::Payload;
use chunked::Chunked;
use sha2::{Digest, Sha256};

/// A body that is being received: bytes of the connection go in, bytes of the object come out.
///
/// It takes slices of any length, copies none of the object's bytes, and keeps a line of at most 256 bytes. What comes
/// out is not to be believed before its end: only [`Body::finish`] says that the body is complete and signed.
#[derive(Debug)]
pub struct Body {
    decoder: Decoder,
    decoded_length: Option<u64>,
    /// Bytes of the object that have come out.
    length: u64,
    /// A body that was refused once stays refused.
    refused: Option<Error>,
}

#[derive(Debug)]
enum Decoder {
    Whole { hash: Sha256, payload: Payload },
    Chunked(Box<Chunked>),
}

/// What a piece of the input was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The next bytes of the object, never none. Whether they were signed is not known yet.
    Unverified(&'a [u8]),
    /// All bytes so far were signed, in this order. More may have to come: this is not the end.
    Verified,
}

/// A body that came to its end, of the length that it should have and with the signatures that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// Bytes of the object.
    pub length: u64,
    /// The trailer that was announced: its name in lower case, and its value. Nobody has compared it with the bytes.
    pub trailer: Option<(&'static str, String)>,
}

impl Body {
    /// `chain`: what chunks are verified by, where they are signed.
    pub(crate) fn new(framing: Framing, chain: Option<Chain>) -> Self {
        let mut decoded_length = None;
        let decoder = match framing {
            Framing::Whole(payload) => Decoder::Whole { hash: Sha256::new(), payload },
            Framing::Chunked(chunks) => {
                decoded_length = Some(chunks.length);
                Decoder::Chunked(Box::new(Chunked::new(chunks, chain)))
            }
        };
        Self { decoder, decoded_length, length: 0, refused: None }
    }

    /// Bytes of the object, where it comes in chunks: its `x-amz-decoded-content-length`.
    pub fn decoded_length(&self) -> Option<u64> {
        self.decoded_length
    }

    /// Takes some of the input off its front, and says what it was; `None` when there is no more input.
    ///
    /// # Errors
    /// Whatever is wrong with the body, from then on at each call. The bytes that came out belong to nobody.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let event = match &mut self.decoder {
            Decoder::Chunked(chunked) => chunked.decode(input),
            Decoder::Whole { .. } if input.is_empty() => Ok(None),
            Decoder::Whole { hash, payload } => {
                let bytes = std::mem::take(input);
                if let Payload::Sha256(_) = payload {
                    hash.update(bytes);
                }
                Ok(Some(Event::Unverified(bytes)))
            }
        };
        match &event {
            Ok(Some(Event::Unverified(bytes))) => self.length += bytes.len() as u64,
            Ok(_) => {}
            Err(error) => self.refused = Some(error.clone()),
        }
        event
    }

    /// To be called where the connection says that the body is at its end: the object may be kept if this succeeds.
    ///
    /// # Errors
    /// [`Error::Incomplete`] and [`Error::WrongLength`] if something is missing, [`Error::ContentSha256Mismatch`] if it
    /// is another body than was signed.
    pub fn finish(self) -> Result<Complete, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let trailer = match self.decoder {
            Decoder::Chunked(chunked) => chunked.finish()?,
            Decoder::Whole { hash, payload: Payload::Sha256(provided) } => {
                let computed: [u8; 32] = hash.finalize().into();
                if computed != provided {
                    let [provided, computed] = [provided, computed].map(hex::encode);
                    return Err(Error::ContentSha256Mismatch { provided, computed });
                }
                None
            }
            Decoder::Whole { .. } => None,
        };
        Ok(Complete { length: self.length, trailer })
    }
}
