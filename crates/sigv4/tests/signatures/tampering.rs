//! Nothing that is signed can be changed: not a byte more, less or other.

use super::published::{get_object, presigned};
use super::support::*;
use kmsfs_sigv4::Complete;

/// The text with each byte changed, left out, and with a byte more before each. Letters do not only change their case,
/// which means nothing in names of headers and escapes.
fn changes(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let other = |bits: u8| {
        move |at: usize| {
            let mut changed = text.to_vec();
            changed[at] ^= bits;
            changed
        }
    };
    let less = |at: usize| [&text[..at], &text[at + 1..]].concat();
    let more = |at: usize| [&text[..at], b"x", &text[at..]].concat();
    let all = 0..text.len();
    all.clone().map(other(1)).chain(all.clone().map(other(4))).chain(all.clone().map(less)).chain(all.map(more))
}

#[track_caller]
fn assert_refused(sent: &Sent) {
    let shown = || String::from_utf8_lossy(&[&sent.path[..], b"?", &sent.query].concat()).into_owned();
    assert!(sent.verify().is_err(), "{} {} {:?}", sent.method, shown(), sent.headers);
}

fn each_change_is_refused(sent: &Sent) {
    sent.verify().unwrap();
    for method in changes(sent.method.as_bytes()) {
        assert_refused(&Sent { method: String::from_utf8(method).unwrap(), ..sent.clone() });
    }
    for path in changes(&sent.path) {
        assert_refused(&Sent { path, ..sent.clone() });
    }
    for query in changes(&sent.query) {
        assert_refused(&Sent { query, ..sent.clone() });
    }
    for at in 0..sent.headers.len() {
        let (name, value) = &sent.headers[at];
        let names = changes(name).map(|name| (name, value.clone()));
        for header in names.chain(changes(value).map(|value| (name.clone(), value))) {
            let mut changed = sent.clone();
            changed.headers[at] = header;
            assert_refused(&changed);
        }
        let mut more = sent.clone();
        more.headers.push((name.clone(), b"more".to_vec()));
        assert_refused(&more);
        let mut fewer = sent.clone();
        fewer.headers.remove(at);
        assert_refused(&fewer);
    }
    assert_refused(&sent.clone().with("x-amz-meta-a", "b"));
    let mut more = sent.clone();
    more.query.extend(b"&acl");
    assert_refused(&more);
}

#[test]
fn of_a_request_with_an_authorization_header() {
    each_change_is_refused(&get_object());
    let (upload, _) = upload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", 5, Some("x-amz-checksum-crc32"));
    each_change_is_refused(&upload);
}

#[test]
fn of_a_presigned_url() {
    each_change_is_refused(&presigned());
}

/// A change is refused, or is none: a line's end in another form.
#[test]
fn of_a_body_in_chunks() {
    let value = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let object = b"the object's bytes, which are few";
    let (sent, seed) = upload(value, object.len() as u64, Some("x-amz-checksum-crc32"));
    let (mut body, mut signer) = signed_chunks(&seed, &[object]);
    let line = "x-amz-checksum-crc32:AAAAAA==";
    let signature = signer.trailer(&format!("{line}\n"));
    body.extend(format!("{line}\r\nx-amz-trailer-signature:{signature}\r\n\r\n").into_bytes());

    let receive = |body: &[u8]| receive(sent.verify().unwrap().into_body(), [body]);
    let trailer = Some(("x-amz-checksum-crc32", "AAAAAA==".to_owned()));
    let whole = Complete { length: object.len() as u64, trailer };
    assert_eq!(receive(&body), (object.to_vec(), object.len(), Ok(whole.clone())));
    let mut same = 0;
    for changed in changes(&body) {
        let (bytes, verified, end) = receive(&changed);
        assert!(object.starts_with(&bytes[..verified]), "only the object's bytes are ever called verified");
        if let Ok(end) = end {
            assert_eq!((&bytes[..], verified, &end), (&object[..], object.len(), &whole));
            same += 1;
        }
    }
    assert_eq!(same, 2, "the trailer's line without its carriage return, and with a tab instead");
    for len in 0..body.len() {
        let (_, _, end) = receive(&body[..len]);
        assert_eq!(end.unwrap_err().code(), "IncompleteBody", "cut off at {len}");
    }
}

/// Chunks of one body in another order, left out, twice, and of another request's body.
#[test]
fn chunks_are_in_one_order_of_one_request() {
    let value = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let (one, two) = (vec![1; 8192], vec![2; 8192]);
    let chunk = |bytes: &[u8], signature: &str| {
        let head = format!("{:x};chunk-signature={signature}\r\n", bytes.len());
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let signatures = |seed: &str| {
        let mut signer = ChunkSigner { previous: seed.to_owned() };
        [signer.chunk(&one), signer.chunk(&two), signer.chunk(b"")]
    };
    let (sent, seed) = upload(value, 16_384, None);
    let [first, second, last] = signatures(&seed);
    let parts = [chunk(&one, &first), chunk(&two, &second), chunk(b"", &last)];
    let outcome = |order: &[usize]| {
        let body: Vec<u8> = order.iter().flat_map(|at| parts[*at].clone()).collect();
        let (_, verified, end) = receive(sent.verify().unwrap().into_body(), body.chunks(1000));
        (verified, end.map(|end| end.length).map_err(|error| error.code()))
    };
    assert_eq!(outcome(&[0, 1, 2]), (16_384, Ok(16_384)));
    assert_eq!(outcome(&[1, 0, 2]), (0, Err("SignatureDoesNotMatch")));
    assert_eq!(outcome(&[0, 0, 2]), (8192, Err("SignatureDoesNotMatch")));
    assert_eq!(outcome(&[0, 2]), (8192, Err("IncompleteBody")));
    assert_eq!(outcome(&[0, 1]), (16_384, Err("IncompleteBody")));
    assert_eq!(outcome(&[0, 1, 0, 2]), (16_384, Err("IncompleteBody")));

    // A chain that begins at another seed.
    let parts = signatures(&"0".repeat(64)).map(|signature| chunk(&one, &signature));
    let (_, verified, end) = receive(sent.verify().unwrap().into_body(), [&parts[0][..]]);
    assert_eq!((verified, end.unwrap_err().code()), (0, "SignatureDoesNotMatch"));
}
