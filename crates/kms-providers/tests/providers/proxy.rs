//! What may stand between a provider and its server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Each answer comes five seconds late.
    Slow,
    /// Two of three connections end before anything is said.
    Flapping,
    /// The connection ends in the middle of an answer.
    CutOff,
    /// What comes is no HTTP.
    Garbage,
    /// What comes is HTTP, and no JSON.
    NoJson,
    /// The answer never ends.
    Endless,
}

pub struct Proxy {
    pub at: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    live: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    to: SocketAddr,
}

impl Proxy {
    pub fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (fault, live) = (Mutex::new(Fault::None), Mutex::default());
        let shared = Arc::new(Shared { fault, live, connections: AtomicUsize::new(0), to });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = serving.connections.fetch_add(1, Ordering::Relaxed);
                serving.live.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.connection(stream, number));
            }
        });
        Self { at, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// From now on; connections that there are end.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        for stream in self.shared.live.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn connection(&self, mut client: TcpStream, number: usize) {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::Flapping if number % 3 != 2 => return,
            Fault::None | Fault::Flapping | Fault::Slow => {
                let Ok(server) = TcpStream::connect(self.to) else { return };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to, Duration::ZERO));
                let late = if fault == Fault::Slow { Duration::from_secs(5) } else { Duration::ZERO };
                return pass(server, client, late);
            }
            _ => {}
        }
        let mut request = [0; 4096];
        let _ = client.read(&mut request);
        let _ = match fault {
            Fault::CutOff => client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"request_id\": \"1"),
            Fault::Garbage => client.write_all(&[b'\x16'; 5000]),
            Fault::NoJson => client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>"),
            _ => {
                let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
                let begun = client.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                begun.and_then(|()| {
                    loop {
                        client.write_all(chunk.as_bytes())?;
                    }
                })
            }
        };
        let _ = client.shutdown(Shutdown::Both);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, late: Duration) {
    let mut bytes = [0; 16384];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(late);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
