//! Requests of S3 and their documents. What is taken is checked and crosses to another process as it is; what no S3 has
//! is refused, whatever else the request says.

use kmsfs_s3::{Body, Endpoint, Error, Operation, Request, Route, refusal, route};

/// A request as HTTP has it, with line feeds; the body, where it has one, behind an empty line.
pub(super) fn s3_request(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let body = bytes.get(end + 2..).unwrap_or_default();
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (method, target) = split(first, b' ');
    let (path, query) = split(target, b'?');
    let Ok(method) = std::str::from_utf8(method) else { return };
    let mut headers: Vec<_> = lines.map(|line| split(line, b':')).collect();
    let pairs = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| split(pair, b'='));
    let mut query: Vec<_> = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
    let path = decoded(path);
    let routed = |query: &[(Vec<u8>, Vec<u8>)], headers: &[(&[u8], &[u8])]| {
        let anonymous = false;
        operation(route(&Request { method, path: &path, query, headers, anonymous }, &endpoint()), body)
    };
    match routed(&query, &headers) {
        Ok(operation) => check(&operation),
        Err(error) => return check_refusal(&error),
    }
    // It is taken: with a sub-resource or a header that nobody knows it is not.
    query.push((b"new-feature".to_vec(), Vec::new()));
    let error = routed(&query, &headers).expect_err("an unknown sub-resource falls through");
    assert_eq!(error.status(), 501);
    query.pop();
    headers.push((b"x-amz-new-feature", b"on"));
    let error = routed(&query, &headers).expect_err("an unknown header is passed over");
    assert_eq!(error.status(), 501);
}

/// Which document it is to be, and the document.
pub(super) fn s3_document(bytes: &[u8]) {
    const TARGETS: [(&str, &str, &str); 8] = [
        ("PUT", "/bucket", ""),
        ("PUT", "/bucket", "encryption"),
        ("PUT", "/bucket", "tagging"),
        ("PUT", "/bucket", "publicAccessBlock"),
        ("PUT", "/bucket", "ownershipControls"),
        ("POST", "/bucket", "delete"),
        ("PUT", "/bucket/key", "encryption"),
        ("POST", "/bucket/key", "uploadId"),
    ];
    let [which, document @ ..] = bytes else { return };
    let (method, path, name) = TARGETS[usize::from(*which) % TARGETS.len()];
    let id = if name == "uploadId" { "id" } else { "" };
    let query = [(name.as_bytes().to_vec(), id.as_bytes().to_vec())];
    let query = if name.is_empty() { &[][..] } else { &query };
    let headers: &[(&[u8], &[u8])] = &[(b"host", b"localhost"), (b"content-md5", b"1B2M2Y8AsgTpgAmY7PhCfg==")];
    let request = Request { method, path: path.as_bytes(), query, headers, anonymous: false };
    match operation(route(&request, &endpoint()), document) {
        Ok(operation) => check(&operation),
        Err(error) => check_refusal(&error),
    }
}

fn endpoint() -> Endpoint {
    let names = vec!["localhost".to_owned(), "s3.example".to_owned()];
    Endpoint { names, region: "us-east-1".into(), account_id: "123456789012".into() }
}

fn operation(route: Result<Route, Error>, body: &[u8]) -> Result<Operation, Error> {
    match route? {
        Route::Operation(operation) => Ok(*operation),
        Route::Document(document) => document.read(body),
    }
}

fn check(operation: &Operation) {
    let sent = bincode::serialize(operation).expect("an operation can be sent");
    let received: Operation = bincode::deserialize(&sent).expect("what was sent can be received");
    assert_eq!(&received, operation);
    if let Some(key) = operation.key() {
        assert!(!key.as_str().starts_with('/') && key.segments().all(|name| !matches!(name, "" | "." | "..")));
    }
}

/// A refusal is the client's mistake or is not implemented, and can be sent.
fn check_refusal(error: &Error) {
    assert!((400..500).contains(&error.status()) || error.status() == 501, "{error}");
    let response = refusal(error, None, "id", "id");
    let Body::Document(document) = response.body else { panic!("a refusal without a document") };
    let text = String::from_utf8(document).expect("a document is UTF-8");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    assert!(response.headers.iter().all(|(_, value)| !value.contains(char::is_control)));
}

/// Before and behind the separator; all before where there is none.
fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let place = text.iter().position(|byte| *byte == at);
    place.map_or((text, &[]), |place| (&text[..place], &text[place + 1..]))
}

/// Escapes are decoded; what is none stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let mut byte = [*first];
        rest = behind;
        if *first == b'%' && behind.len() >= 2 && hex::decode_to_slice(&behind[..2], &mut byte).is_ok() {
            rest = &behind[2..];
        }
        bytes.push(byte[0]);
    }
    bytes
}
