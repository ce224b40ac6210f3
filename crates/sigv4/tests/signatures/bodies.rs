//! Bodies in whatever pieces they come, and lies about their chunks.

use super::support::*;
use kmsfs_sigv4::{Complete, Error};
use proptest::prelude::*;

const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const CRC32: &str = "x-amz-checksum-crc32";

fn unsigned(length: u64, trailer: Option<&str>, body: &[u8]) -> Outcome {
    let (sent, _) = upload(UNSIGNED_TRAILER, length, trailer);
    let mut outcomes: Vec<_> =
        [1, 2, 3, body.len().max(1)].map(|size| receive(sent.verify().unwrap().into_body(), body.chunks(size))).into();
    outcomes.dedup();
    assert_eq!(outcomes.len(), 1, "the pieces make a difference: {outcomes:?}");
    outcomes.remove(0)
}

fn code(outcome: &Outcome) -> Result<u64, (&'static str, String)> {
    outcome.2.as_ref().map(|end| end.length).map_err(|error| (error.code(), error.to_string()))
}

#[test]
fn unsigned_chunks_as_clients_send_them() {
    let trailer = |value: &str| Some((CRC32, value.to_owned()));
    let sdk = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let (bytes, verified, end) = unsigned(5, Some(CRC32), sdk);
    assert_eq!((&bytes[..], verified), (&b"hello"[..], 0), "nothing of it is ever verified");
    assert_eq!(end.unwrap(), Complete { length: 5, trailer: trailer("NhCmhg==") });
    for body in [
        // minio-go.
        &b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\n\r\n\r\n"[..],
        b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\n\r\n",
        // As HTTP has it.
        b"0005\r\nhello\r\n00\r\nX-Amz-Checksum-CRC32: NhCmhg== \r\n\r\n",
    ] {
        let (bytes, _, end) = unsigned(5, Some(CRC32), body);
        assert_eq!((&bytes[..], end.unwrap().trailer), (&b"hello"[..], trailer("NhCmhg==")));
    }
    // Without a trailer, and without anything.
    assert_eq!(code(&unsigned(11, None, b"B\r\nhello world\r\n0\r\n\r\n")), Ok(11));
    assert_eq!(code(&unsigned(0, None, b"0\r\n\r\n")), Ok(0));
}

/// Each of these S3 answers so.
#[test]
fn framing_that_is_none_is_an_incomplete_body() {
    let incomplete = ("IncompleteBody", "The request body terminated unexpectedly".to_owned());
    for body in [
        "A\ndummy data\r\n0\r\n\r\n",
        "A\r\ndummy data0\r\n\r\n",
        "A\r\nXYZ\r\ndummy data\r\n0\r\n\r\n",
        "A\r\ndummy data\r\n0\r\n",
        "A\r\ndummy data\r\n0\r\nx-amz-checksum-crc32:dPVWcw==\r\n",
        "A\r\n",
        "",
        "A",
        "A\r\nA\r\ndummy data\r\n0\r\n\r\n",
        "invalid\r\ndummy data\r\n0\r\n\r\n",
        "A\r\ndummy data\r\nJ\r\n",
        "\r\n",
        " A\r\ndummy data\r\n",
        "A \r\ndummy data\r\n",
        "+A\r\ndummy data\r\n",
        "-1\r\n",
        "0x0a\r\ndummy data\r\n",
        "A;a=b\r\ndummy data\r\n0\r\n\r\n",
        &format!("A;chunk-signature={}\r\ndummy data\r\n", "0".repeat(64)),
        "10000000000000000\r\n",
        "0000000000000000A\r\ndummy data\r\n",
        "\u{661}\r\n",
    ] {
        assert_eq!(code(&unsigned(10, Some(CRC32), body.as_bytes())), Err(incomplete.clone()), "{body:?}");
    }
    assert_eq!(code(&unsigned(10, None, &b"0".repeat(10_000))), Err(incomplete), "a line without an end");
}

#[test]
fn the_object_has_the_length_that_was_said() {
    let wrong = "You did not provide the number of bytes specified by the Content-Length HTTP header".to_owned();
    let wrong = Err(("IncompleteBody", wrong));
    let body = b"b\r\nabcdefghijk\r\n0\r\n\r\n";
    for length in [0, 5, 10, 12, 200, u64::MAX] {
        assert_eq!(code(&unsigned(length, None, body)), wrong, "{length}");
    }
    let (bytes, ..) = unsigned(10, None, body);
    assert!(bytes.is_empty(), "nothing comes out of a chunk that does not fit");
    assert_eq!(code(&unsigned(10, None, b"FFFFFFFFFFFFFFFF\r\n")), wrong);
    assert_eq!(code(&unsigned(u64::MAX, None, b"FFFFFFFFFFFFFFFF\r\nabc")).unwrap_err().0, "IncompleteBody");
}

#[test]
fn only_the_last_chunk_is_small() {
    let body = |sizes: &[usize]| {
        let chunks = sizes.iter().flat_map(|size| format!("{size:x}\r\n{}\r\n", "a".repeat(*size)).into_bytes());
        chunks.chain(*b"0\r\n\r\n").collect::<Vec<u8>>()
    };
    let outcome = |sizes: &[usize]| unsigned(sizes.iter().sum::<usize>() as u64, None, &body(sizes));
    for sizes in [&[8192, 8192, 100][..], &[100], &[10_000, 9500, 20], &[8192]] {
        assert!(outcome(sizes).2.is_ok(), "{sizes:?}");
    }
    for (sizes, chunk, size) in [(&[5, 5][..], 2, 5), (&[100, 8192, 100], 2, 100), (&[8192, 8191, 100], 3, 8191)] {
        let error = outcome(sizes).2.unwrap_err();
        assert_eq!(error, Error::ChunkTooSmall { chunk, size });
        assert_eq!((error.code(), error.status()), ("InvalidChunkSizeError", 403));
        assert_eq!(error.elements(), [("Chunk", chunk.to_string()), ("BadChunkSize", size.to_string())]);
    }
}

#[test]
fn trailers_are_what_was_announced() {
    let malformed = |trailer, behind: &str| {
        let error = unsigned(5, trailer, format!("5\r\nhello\r\n0\r\n{behind}").as_bytes()).2.unwrap_err();
        assert_eq!(
            (&error, error.code(), error.status()),
            (&Error::MalformedTrailer, "MalformedTrailerError", 400),
            "{behind:?}"
        );
    };
    let good = "x-amz-checksum-crc32:NhCmhg==\r\n";
    for behind in [
        "\r\n",
        ":NhCmhg==\r\n\r\n",
        "x-amz-checksum-sha1:NhCmhg==\r\n\r\n",
        "x-amz-checksum-crc32:\r\n\r\n",
        "x-amz-checksum-crc32 NhCmhg==\r\n\r\n",
        "x-amz-checksum-crc32 :NhCmhg==\r\n\r\n",
        "x-amz-checksum-crc32:Nh Cmhg==\r\n\r\n",
        "x-amz-checksum-crc32:NhCmhg==\u{e9}\r\n\r\n",
        &format!("{good}{good}\r\n"),
        &format!("{good}x-amz-meta-a:b\r\n\r\n"),
        &format!("{good}x-amz-trailer-signature:{}\r\n\r\n", "0".repeat(64)),
        &format!("{good}\n"),
        &format!("{good}\r\n\r\n"),
        &format!("{good}\r\nGET / HTTP/1.1\r\n"),
        &format!("x-amz-checksum-crc32:{}\r\n\r\n", "A".repeat(300)),
    ] {
        malformed(Some(CRC32), behind);
    }
    malformed(None, good);
    malformed(None, "\r\n\r\n");
    malformed(None, "\r\n0\r\n\r\n");
    malformed(Some(CRC32), "x-amz-checksum-crc32:NhCmhg==\n\r\n\r\nmore");
    malformed(Some(CRC32), "x-amz-checksum-crc32:NhCmhg==\n\r\nmore");
    let cut = unsigned(5, Some(CRC32), b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\n\r\n\r").2;
    assert_eq!(cut.unwrap_err(), Error::Incomplete);
}

#[test]
fn a_signed_trailer_needs_its_signature() {
    let line = "x-amz-checksum-crc32:NhCmhg==";
    let (sent, seed) = upload(SIGNED_TRAILER, 5, Some(CRC32));
    let (body, mut signer) = signed_chunks(&seed, &[b"hello"]);
    let good = format!("x-amz-trailer-signature:{}\r\n", signer.trailer(&format!("{line}\n")));
    let zeros = format!("x-amz-trailer-signature:{}\r\n", "0".repeat(64));
    let end = |behind: &str| {
        let body = [&body[..], behind.as_bytes()].concat();
        receive(sent.verify().unwrap().into_body(), [&body[..]]).2.map(|end| end.trailer).map_err(|error| error.code())
    };
    assert_eq!(end(&format!("{line}\r\n{good}\r\n")), Ok(Some((CRC32, "NhCmhg==".to_owned()))));
    for behind in [
        format!("{line}\r\n\r\n"),
        format!("{line}\r\n\r\n{good}\r\n"),
        format!("{line}\n\r\n\r\n{good}\r\n"),
        format!("{good}{line}\r\n\r\n"),
        format!("{line}\r\n{good}{good}\r\n"),
        format!("{line}\r\n{good}\r\n\r\n"),
        "\r\n".to_owned(),
    ] {
        assert_eq!(end(&behind), Err("MalformedTrailerError"), "{behind:?}");
    }
    for behind in [format!("{line}\r\n{zeros}\r\n"), format!("x-amz-checksum-crc32:AhCmhg==\r\n{good}\r\n")] {
        assert_eq!(end(&behind), Err("SignatureDoesNotMatch"), "{behind:?}");
    }
    assert_eq!(end(&format!("{line}\r\n{good}")), Err("IncompleteBody"));
}

#[test]
fn nothing_follows_signed_chunks() {
    let (sent, seed) = upload(SIGNED, 5, None);
    let (body, _) = signed_chunks(&seed, &[b"hello"]);
    for (behind, code) in [
        ("\r\n", None),
        ("", Some("IncompleteBody")),
        ("\n", Some("IncompleteBody")),
        ("x-amz-checksum-crc32:NhCmhg==\r\n\r\n", Some("IncompleteBody")),
        ("\r\nmore", Some("MalformedTrailerError")),
    ] {
        let body = [&body[..], behind.as_bytes()].concat();
        let end = receive(sent.verify().unwrap().into_body(), body.chunks(7)).2;
        assert_eq!(end.err().map(|error| error.code()), code, "{behind:?}");
    }
}

#[test]
fn a_whole_body_is_the_one_that_was_hashed() {
    let object = b"Welcome to Amazon S3.";
    let (sent, _) = upload(&sha256(object), 21, None);
    let (bytes, verified, end) = receive(sent.verify().unwrap().into_body(), object.chunks(4));
    assert_eq!((&bytes[..], verified, end.unwrap().length), (&object[..], 0, 21));
    for other in [&object[1..], b"", b"Welcome to Amazon S3!"] {
        let error = receive(sent.verify().unwrap().into_body(), [other]).2.unwrap_err();
        assert_eq!((error.code(), error.status()), ("XAmzContentSHA256Mismatch", 400));
        let elements = [("ClientComputedContentSHA256", sha256(object)), ("S3ComputedContentSHA256", sha256(other))];
        assert_eq!(error.elements(), elements);
    }
    let (sent, _) = upload("UNSIGNED-PAYLOAD", 21, None);
    assert_eq!(receive(sent.verify().unwrap().into_body(), [&b"anything"[..]]).2.unwrap().length, 8);
}

/// The body cut at these places.
fn pieces<'a>(body: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    cuts.sort_unstable();
    let ends = cuts.iter().copied().chain([body.len()]);
    [0].into_iter().chain(cuts.iter().copied()).zip(ends).map(|(from, to)| &body[from..to]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Also of a body that is wrong somewhere.
    #[test]
    fn pieces_make_no_difference(
        sizes in prop::collection::vec(8192_usize..9000, 0..3),
        last in 0_usize..300,
        form in 0_usize..3,
        wrong in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let sizes: Vec<_> = sizes.into_iter().chain((last > 0).then_some(last)).collect();
        let chunks: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
        let object = chunks.concat();
        let (value, trailer) = [(SIGNED, None), (SIGNED_TRAILER, Some(CRC32)), (UNSIGNED_TRAILER, Some(CRC32))][form];
        let (sent, seed) = upload(value, object.len() as u64, trailer);
        let mut body = Vec::new();
        if value == UNSIGNED_TRAILER {
            for chunk in chunks.iter().copied().chain([&b""[..]]) {
                body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(if chunk.is_empty() { b"x-amz-checksum-crc32:AAAAAA==\r\n" } else { b"\r\n" });
            }
        } else {
            let (signed, mut signer) = signed_chunks(&seed, &chunks);
            body.extend(signed);
            if trailer.is_some() {
                let line = "x-amz-checksum-crc32:AAAAAA==";
                let signature = signer.trailer(&format!("{line}\n"));
                body.extend(format!("{line}\r\nx-amz-trailer-signature:{signature}\r\n").into_bytes());
            }
        }
        body.extend_from_slice(b"\r\n");
        if let Some((at, byte)) = wrong {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let at_once = receive(sent.verify().unwrap().into_body(), [&body[..]]);
        if wrong.is_none() {
            prop_assert_eq!(&at_once.0, &object);
            prop_assert_eq!(at_once.2.as_ref().unwrap().length, object.len() as u64);
        }
        let byte_by_byte = receive(sent.verify().unwrap().into_body(), body.chunks(1));
        let in_pieces = receive(sent.verify().unwrap().into_body(), pieces(&body, &cuts));
        prop_assert_eq!(&byte_by_byte, &at_once);
        prop_assert_eq!(&in_pieces, &at_once);
    }
}
