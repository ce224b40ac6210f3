//! The load of `scripts/bench s3`: clients that ask an HTTP server, each by one connection that is kept, or that do the
//! same with files, as fast as they are served.
//!
//! `http_load METHOD WHERE CLIENTS SECONDS SIZE` reads targets from its standard input, one a line, and prints a line
//! of JSON. METHOD is `GET` or `PUT` of HTTP, WHERE is the server's `ADDRESS:PORT` and a target the path and query of a
//! request, signed already; or METHOD is `read` or `write`, WHERE a directory, and a target a name in it. A written
//! file takes its name when it is whole and durable, as an object does. Client n takes the targets n, n + CLIENTS and
//! so on, from the beginning again at their end; with SECONDS `once` each target is taken once. SIZE is that of a body,
//! in bytes: what a server sends or a file has is discarded, but has to be as long.

use rustix::net::RecvFlags;
use serde_json::json;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// An answer's head has to fit.
const HEAD: usize = 16 << 10;
/// Bytes that are discarded with one call.
const DISCARD: usize = 1 << 20;

/// What one client did: how long each request took, and what went wrong first.
#[derive(Default)]
struct Done {
    latencies: Vec<Duration>,
    errors: usize,
    first_error: Option<String>,
}

/// One client's way to do one request.
trait Client {
    fn request(&mut self, target: &str) -> io::Result<()>;
}

struct Http<'a> {
    stream: TcpStream,
    address: &'a str,
    /// Of a PUT.
    body: Option<&'a [u8]>,
    size: usize,
    buffer: Vec<u8>,
}

impl<'a> Http<'a> {
    fn connect(address: &'a str, body: Option<&'a [u8]>, size: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, body, size, buffer: vec![0; DISCARD] })
    }

    /// The answer's head, and how many bytes of its body have come with it.
    fn head(&mut self) -> io::Result<(String, usize)> {
        let mut len = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[len..HEAD])?;
            if read == 0 {
                return Err(failed("the server closed the connection, or its answer's head is too long".into()));
            }
            len += read;
            if let Some(end) = self.buffer[..len].windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok((String::from_utf8_lossy(&self.buffer[..end]).into_owned(), len - end - 4));
            }
        }
    }
}

impl Client for Http<'_> {
    fn request(&mut self, target: &str) -> io::Result<()> {
        let head = match self.body {
            None => format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address),
            Some(body) => {
                format!("PUT {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.address, body.len())
            }
        };
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(self.body.unwrap_or_default())?;
        let (head, already) = self.head()?;
        let length = content_length(&head).ok_or_else(|| failed(format!("an answer without a length: {head}")))?;
        let mut left = length.checked_sub(already).ok_or_else(|| failed("more than was announced".into()))?;
        while left > 0 {
            let at_most = left.min(DISCARD);
            // Linux discards what a TCP socket has received where TRUNC is asked for, without copying it (tcp(7)).
            let (_, read) = rustix::net::recv(&self.stream, &mut self.buffer[..at_most], RecvFlags::TRUNC)?;
            if read == 0 {
                return Err(failed("the server closed the connection".into()));
            }
            left -= read.min(at_most);
        }
        let expected = if self.body.is_some() { 0 } else { self.size };
        if !head.starts_with("HTTP/1.1 200 ") || length != expected {
            return Err(failed(format!("{length} bytes instead of {expected}: {head}")));
        }
        Ok(())
    }
}

fn content_length(head: &str) -> Option<usize> {
    let (_, value) = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    value.trim().parse().ok()
}

struct Files<'a> {
    directory: PathBuf,
    number: usize,
    /// Of files that are written.
    body: Option<&'a [u8]>,
    size: usize,
    buffer: Vec<u8>,
}

impl Client for Files<'_> {
    fn request(&mut self, target: &str) -> io::Result<()> {
        let path = self.directory.join(target);
        let Some(body) = self.body else {
            let mut file = File::open(path)?;
            let mut read = 0;
            loop {
                match file.read(&mut self.buffer)? {
                    0 if read == self.size => return Ok(()),
                    0 => return Err(failed(format!("{read} bytes instead of {}", self.size))),
                    more => read += more,
                }
            }
        };
        let temporary = self.directory.join(format!(".being-written-{}", self.number));
        let mut file = File::create(&temporary)?;
        file.write_all(body)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

fn failed(why: String) -> io::Error {
    io::Error::other(why)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [method, place, clients, seconds, size] = &arguments[..] else {
        return Err("usage: http_load GET|PUT|read|write ADDRESS:PORT|DIRECTORY CLIENTS SECONDS|once SIZE".into());
    };
    let (clients, size): (usize, usize) = (clients.parse()?, size.parse()?);
    let limit = if seconds == "once" { None } else { Some(Duration::from_secs_f64(seconds.parse()?)) };
    let targets: Vec<String> = io::stdin().lines().collect::<Result<_, _>>()?;
    if clients == 0 || targets.len() < clients {
        return Err("each client needs a target of its own".into());
    }
    let body: Option<Vec<u8>> = match method.as_str() {
        "PUT" | "write" => Some((0..size).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 11) as u8).collect()),
        "GET" | "read" => None,
        _ => return Err(format!("no such method: {method}").into()),
    };
    let (body, targets, barrier) = (body.as_deref(), &targets, &Barrier::new(clients + 1));
    let is_http = method.chars().all(char::is_uppercase);
    let (all, seconds) = thread::scope(|scope| {
        let running: Vec<_> = (0..clients)
            .map(|number| {
                scope.spawn(move || {
                    let client: io::Result<Box<dyn Client>> = if is_http {
                        Http::connect(place, body, size).map(|http| Box::new(http) as Box<dyn Client>)
                    } else {
                        let directory = PathBuf::from(place);
                        Ok(Box::new(Files { directory, number, body, size, buffer: vec![0; DISCARD] }))
                    };
                    barrier.wait();
                    match client {
                        Ok(client) => one_client(client, targets.iter().skip(number).step_by(clients), limit),
                        Err(error) => Done { errors: 1, first_error: Some(error.to_string()), ..Done::default() },
                    }
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        let all: Vec<Done> = running.into_iter().map(|client| client.join().expect("a client")).collect();
        (all, start.elapsed().as_secs_f64())
    });
    let mut latencies: Vec<f64> =
        all.iter().flat_map(|done| &done.latencies).map(|latency| latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).or(latencies.last()).copied();
    let report = json!({
        "requests": latencies.len(),
        "seconds": seconds,
        "bytes": latencies.len() * size,
        "p50_ms": at(50),
        "p99_ms": at(99),
        "errors": all.iter().map(|done| done.errors).sum::<usize>(),
        "first_error": all.iter().find_map(|done| done.first_error.clone()),
    });
    println!("{report}");
    Ok(())
}

/// Goes on until the time is over, or through all targets once; ends at the first error.
fn one_client<'a>(
    mut client: Box<dyn Client + '_>,
    targets: impl Iterator<Item = &'a String> + Clone,
    limit: Option<Duration>,
) -> Done {
    let mut done = Done::default();
    let start = Instant::now();
    let often = if limit.is_some() { usize::MAX } else { 1 };
    for target in (0..often).flat_map(|_| targets.clone()) {
        let before = Instant::now();
        if limit.is_some_and(|limit| before - start >= limit) {
            break;
        }
        if let Err(error) = client.request(target) {
            done.errors += 1;
            done.first_error = Some(error.to_string());
            break;
        }
        done.latencies.push(before.elapsed());
    }
    done
}
