//! A client that signs as AWS's SDKs do and sends exactly what it is told to, byte by byte.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

#[derive(Clone, Debug)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
}

/// Whoever has an access key.
#[derive(Clone)]
pub struct Client {
    pub address: String,
    pub key: AccessKey,
}

/// A request that is signed, and may be changed before it is sent.
#[derive(Clone, Debug)]
pub struct Signed {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What the server has answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Whatever waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Client {
    pub fn new(address: &str, key: &AccessKey) -> Self {
        Self { address: address.to_owned(), key: key.clone() }
    }

    pub fn get(&self, target: &str) -> Reply {
        self.sign("GET", target, &[], b"").send(&self.address)
    }

    pub fn put(&self, target: &str, body: &[u8]) -> Reply {
        self.sign("PUT", target, &[], body).send(&self.address)
    }

    pub fn head(&self, target: &str) -> Reply {
        self.sign("HEAD", target, &[], b"").send(&self.address)
    }

    pub fn delete(&self, target: &str) -> Reply {
        self.sign("DELETE", target, &[], b"").send(&self.address)
    }

    /// With the body's hash signed.
    pub fn sign(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Signed {
        self.sign_as("s3", (method, target), headers, SignableBody::Bytes(body), body)
    }

    /// With that text signed in the place of the body's hash.
    pub fn sign_text(&self, method: &str, target: &str, headers: &[(&str, &str)], text: &str, body: &[u8]) -> Signed {
        self.sign_as("s3", (method, target), headers, SignableBody::Precomputed(text.to_owned()), body)
    }

    /// A call of another service than S3.
    pub fn call(&self, service: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let signable = SignableBody::Bytes(body.as_bytes());
        self.sign_as(service, ("POST", "/"), headers, signable, body.as_bytes()).send(&self.address)
    }

    fn sign_as(
        &self,
        service: &str,
        (method, target): (&str, &str),
        headers: &[(&str, &str)],
        signable: SignableBody<'_>,
        body: &[u8],
    ) -> Signed {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.signature_location = SignatureLocation::Headers;
        let identity: Identity = Credentials::new(&self.key.id, &self.key.secret, None, None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let uri = format!("http://{}{target}", self.address);
        let all: Vec<(&str, &str)> =
            [("host", self.address.as_str())].into_iter().chain(headers.iter().copied()).collect();
        let request = SignableRequest::new(method, uri, all.iter().copied(), signable).unwrap();
        let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut headers: Vec<_> = all.into_iter().map(own).collect();
        headers.extend(instructions.headers().map(own));
        Signed { method: method.to_owned(), target: target.to_owned(), headers, body: body.to_vec() }
    }
}

impl Signed {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).expect(name)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The request's line and headers, with the length of the body unless the headers say something of it.
    pub fn head(&self) -> String {
        let lines: Vec<_> = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let framed = |(name, _): &(String, String)| {
            ["content-length", "transfer-encoding"].iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        let is_framed = self.headers.iter().any(framed);
        let length = if is_framed { String::new() } else { format!("content-length: {}\r\n", self.body.len()) };
        format!("{} {} HTTP/1.1\r\n{}{length}\r\n", self.method, self.target, lines.concat())
    }

    pub fn send(&self, address: &str) -> Reply {
        let mut connection = Connection::open(address);
        connection.send(&[self.head().as_bytes(), &self.body].concat());
        connection.reply(&self.method)
    }
}

/// A connection, over which bytes go as they are.
pub struct Connection(pub BufReader<TcpStream>);

impl Connection {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// The server may have answered and gone already.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// Status and headers, of an answer that goes on or ends here.
    pub fn reply_head(&mut self) -> (u16, Vec<(String, String)>) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        (status, headers)
    }

    /// Of a request with that method.
    pub fn reply(&mut self, method: &str) -> Reply {
        let (mut status, mut headers) = self.reply_head();
        while status == 100 {
            (status, headers) = self.reply_head();
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        if method == "HEAD" || status == 204 || status == 304 {
            return reply;
        }
        if reply.find("transfer-encoding").is_some() {
            reply.body = self.chunks();
        } else {
            let len: usize = reply.header("content-length").parse().unwrap();
            reply.body = vec![0; len];
            self.0.read_exact(&mut reply.body).unwrap();
        }
        reply
    }

    pub fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let len = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; len + 2];
            self.0.read_exact(&mut chunk).unwrap();
            if len == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..len]);
        }
    }

    /// Whether the server ends the connection without another byte.
    pub fn is_ended(&mut self) -> bool {
        let mut byte = [0];
        let read = self.0.read(&mut byte);
        matches!(&read, Ok(0)) || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    }
}

impl Reply {
    pub fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of an XML element.
    pub fn element(&self, name: &str) -> String {
        let text = self.text();
        let within = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        within.map(|(within, _)| within.to_owned()).unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        self
    }

    /// An error with S3's code.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.element("Code"), code, "{}", reply.text());
        assert_eq!(reply.element("RequestId"), reply.header("x-amz-request-id"));
        reply
    }
}
