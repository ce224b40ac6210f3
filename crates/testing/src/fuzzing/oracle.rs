//! Requests that AWS's own signer has signed: whatever is in them, the signature is the one that is expected here.

use super::signatures::{ACCESS_KEY, SECRET, by};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use kmsfs_sigv4::{Request, Service};
use std::time::{Duration, UNIX_EPOCH};

/// 2013-05-24, as in AWS's documentation.
const NOW: Duration = Duration::from_secs(1_369_353_600);

/// Three lines: a path, parameters with `&` and `=`, and headers with `&` and `:`; all of them before they are escaped.
/// What follows is the body.
pub(super) fn sigv4_oracle(bytes: &[u8]) {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, parameters, headers, body) = (line(), line(), line(), line());
    let path = format!("/{}", path.split(|byte| *byte == b'/').map(escaped).collect::<Vec<_>>().join("/"));
    let pairs = parameters.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.splitn(2, |byte| *byte == b'=').map(escaped).collect::<Vec<_>>());
    let query: Vec<_> = pairs.map(|pair| format!("{}={}", pair[0], pair.get(1).map_or("", String::as_str))).collect();
    let query = query.join("&");
    let mut sent = vec![("host".to_owned(), "h.example:9000".to_owned())];
    for header in headers.split(|byte| *byte == b'&') {
        let mut parts = header.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_right = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && value.iter().all(|byte| (b' '..=b'~').contains(byte));
        if is_right {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            sent.push((format!("x-amz-meta-{}", text(name)), text(value)));
        }
    }

    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = Credentials::new(ACCESS_KEY, SECRET, None, None, "fuzzing").into();
    let parameters = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("s3");
    let parameters = parameters.time(UNIX_EPOCH + NOW).settings(settings).build().expect("nothing is missing").into();
    let uri = format!("https://h.example:9000{path}?{query}");
    let pairs = sent.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // It has limits of its own.
    let Ok(signable) = SignableRequest::new("PUT", uri, pairs, SignableBody::Bytes(body)) else { return };
    let Ok(signed) = sign(signable, &parameters) else { return };
    let (instructions, _) = signed.into_parts();
    sent.extend(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())));

    let headers: Vec<_> = sent.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let request = Request { method: "PUT", path: path.as_bytes(), query: query.as_bytes(), headers: &headers };
    if let Err(refusal) = by(SECRET, &request, Service::S3) {
        assert_ne!(refusal.code(), "SignatureDoesNotMatch", "{path} {query} {sent:?}: {:#?}", refusal.elements());
    }
}

/// All but what never needs an escape is one.
fn escaped(text: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.iter()
        .map(|&byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
