//! Requests over HTTP with bounds on all that comes back.

use crate::configuration::Invalid;
use crate::retry::Failed;
use crate::secret::Secret;
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{HeaderMap, Request, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

/// Whom TLS trusts, and as whom it connects.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates of authorities, in PEM; the system's, if it is not given.
    pub ca_file: Option<PathBuf>,
    /// The chain of the client's certificate, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// The client's private key, in PEM.
    pub key: Option<Secret>,
}

/// An answer is no longer.
const LONGEST: usize = 64 << 10;
/// Where systems have the certificates of the authorities that they trust.
const OF_SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client, with connections that stay open, of one or several endpoints.
pub(crate) struct Http {
    agent: ureq::Agent,
    endpoints: Vec<Endpoint>,
    /// The last one that was there.
    current: AtomicUsize,
}

struct Endpoint {
    /// Without a slash at the end.
    url: String,
    host: String,
}

/// What a request is answered with.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    headers: HeaderMap,
}

/// A request, but for where it goes to.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    /// With a slash at its beginning.
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) timeout: Duration,
}

impl Http {
    pub(crate) fn new(endpoints: &[String], tls: &Tls) -> Result<Self, Invalid> {
        let parsed = endpoints.iter().map(|url| endpoint(url)).collect::<Result<Vec<_>, _>>()?;
        if parsed.is_empty() {
            return Err(Invalid("the provider has no endpoint".into()));
        }
        let by_tls = parsed.iter().any(|endpoint| endpoint.url.starts_with("https:"));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A secret is sent to the endpoint that was configured, and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("kmsfs/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(16);
        let agent = if by_tls { agent.tls_config(configured(tls)?) } else { agent };
        Ok(Self { agent: agent.build().new_agent(), endpoints: parsed, current: AtomicUsize::new(0) })
    }

    /// All endpoints, for people.
    pub(crate) fn name(&self) -> String {
        self.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Sends it with the headers that are made for the host (RFC 9110, 7.2); no other request is made to another
    /// endpoint until this one fails.
    ///
    /// # Errors
    ///
    /// All of them may pass by themselves: there was no connection, no valid answer, or not in time.
    pub(crate) fn send<'h>(
        &self,
        ask: Ask<'_>,
        headers: impl FnOnce(&str) -> Result<Vec<(&'h str, Zeroizing<String>)>, Failed>,
    ) -> Result<Answer, Failed> {
        let at = self.current.load(Ordering::Relaxed) % self.endpoints.len();
        let endpoint = &self.endpoints[at];
        let answer = self.exchange(endpoint, ask, headers(&endpoint.host)?);
        // Another one may be there where this one is not, or is not well.
        if answer.as_ref().map_or(true, |answer| answer.status >= 500 || (300..400).contains(&answer.status)) {
            self.current.store(at + 1, Ordering::Relaxed);
        }
        answer.map_err(|error| Failed::passing(format!("{}: {error}", endpoint.url)))
    }

    fn exchange(
        &self,
        endpoint: &Endpoint,
        ask: Ask<'_>,
        headers: Vec<(&str, Zeroizing<String>)>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(ask.method).uri(format!("{}{}", endpoint.url, ask.path));
        request = request.header("Host", &endpoint.host);
        for (name, value) in &headers {
            request = request.header(*name, value.as_str());
        }
        let request = request.body(ask.body)?;
        let request = self.agent.configure_request(request).timeout_global(Some(ask.timeout)).build();
        let mut response = self.agent.run(request)?;
        // It does not grow, which would leave copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
        response.body_mut().as_reader().take(LONGEST as u64 + 1).read_to_end(&mut body)?;
        if body.len() > LONGEST {
            return Err(ureq::Error::BodyExceedsLimit(LONGEST as u64));
        }
        Ok(Answer { status: response.status().as_u16(), body, headers: std::mem::take(response.headers_mut()) })
    }
}

impl Answer {
    /// The value of that header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The clock of whoever answered.
    pub(crate) fn date(&self) -> Option<OffsetDateTime> {
        self.header("date").and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok())
    }

    /// The body, as the JSON that it should be.
    ///
    /// # Errors
    ///
    /// It is something else: an outage, of whatever stands between.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failed> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // serde's texts quote what they read, which may be a key.
            let place = format!("line {} column {}", error.line(), error.column());
            Failed::passing(format!("what came with status {} is no answer: {place}", self.status))
        })
    }
}

/// An endpoint is `https://host[:port]`, or `http://` on this machine: what is sent there is secret.
fn endpoint(url: &str) -> Result<Endpoint, Invalid> {
    let wrong = |what: &str| Invalid(format!("the endpoint '{url}': {what}"));
    let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("it has to be https://HOST or https://HOST:PORT"));
    };
    let here = ["localhost", "127.0.0.1", "[::1]", METADATA].contains(&authority.host());
    match scheme {
        "https" => {}
        "http" if here => {}
        "http" => return Err(wrong("keys and secrets would be sent in the clear: it has to be https")),
        _ => return Err(wrong("it has to be https")),
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
        return Err(wrong("there is nothing behind the host and port, and no user before it"));
    }
    Ok(Endpoint { url: format!("{scheme}://{authority}"), host: authority.to_string() })
}

/// The instance's own metadata service, link-local and without TLS.
const METADATA: &str = "169.254.169.254";

fn configured(tls: &Tls) -> Result<TlsConfig, Invalid> {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| Invalid(format!("{}: {error}", path.display())))?;
        let chain = parse_pem(&bytes).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let chain = chain.collect::<Vec<Certificate<'static>>>();
        if chain.is_empty() { Err(Invalid(format!("{}: no certificate in it", path.display()))) } else { Ok(chain) }
    };
    let of_system = || OF_SYSTEM.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned);
    let ca_file = tls.ca_file.clone().or_else(of_system);
    let ca_file = ca_file.ok_or_else(|| Invalid("whom to trust is not known: give the provider a ca_file".into()))?;
    let client = match (&tls.certificate_file, &tls.key) {
        (None, None) => None,
        (Some(chain), Some(key)) => {
            let pem = key.read(crate::retry::TRY).map_err(Invalid)?;
            let key =
                PrivateKey::from_pem(pem.as_bytes()).map_err(|_| Invalid(format!("{key}: no private key in it")))?;
            Some(ClientCert::new_with_certs(&read(chain)?, key))
        }
        _ => return Err(Invalid("a client's certificate takes both certificate_file and key".into())),
    };
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&read(&ca_file)?))
        .client_cert(client)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_tls_or_stay_on_the_machine() {
        for right in
            ["https://vault.example", "https://v:8200/", "http://127.0.0.1:8200", "http://[::1]:1", "http://localhost"]
        {
            assert!(endpoint(right).is_ok(), "{right}");
        }
        for wrong in
            ["http://vault.example:8200", "vault:8200", "", "ftp://x", "https://u:p@h", "https://h/v1", "https://h?x"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
