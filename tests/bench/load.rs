//! Who asks: connections that are kept, each with one request under way.

use super::{place, serve::Server};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Requests, and how their answers begin: others are failures.
#[derive(Clone)]
pub(super) struct Requests {
    /// The requests.
    pub all: Arc<Vec<Vec<u8>>>,
    /// Whether each is sent once only, rather than again and again.
    pub once: bool,
    /// The first bytes of each answer.
    pub begins: &'static str,
}

/// What came of it.
pub(super) struct Run {
    /// How long it took.
    pub wall: Duration,
    /// How long each request took, in microseconds, sorted.
    pub waits: Vec<u32>,
    /// The server's time on its core.
    pub server: Duration,
    /// The driver's.
    pub driver: Duration,
}

impl Run {
    /// Requests in a second.
    pub(super) fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.wall.as_secs_f64()
    }

    /// What the server's core spent on one, in microseconds.
    pub(super) fn cost(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.waits.len() as f64
    }

    /// Within how many microseconds so many in a hundred were answered.
    pub(super) fn percentile(&self, percent: usize) -> u32 {
        self.waits.get(self.waits.len() * percent / 100).copied().unwrap_or(0)
    }
}

/// Connections to a server.
pub(super) struct Load {
    process: u32,
    connections: Vec<Connection>,
}

impl Load {
    /// So many.
    pub(super) async fn connect(server: &Server, connections: usize) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let mut load = Self { process: server.id(), connections: vec![] };
        for _ in 0..connections {
            let stream = TcpStream::connect(server.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, stream).await.unwrap();
            let mut connection = Connection { stream, buffer: vec![0; 16 << 10] };
            // The server does not wait long for the first request.
            connection.ask(b"GET /jwks HTTP/1.1\r\nhost: deputy.example.com\r\n\r\n").await;
            load.connections.push(connection);
        }
        load
    }

    /// The answers to all of these, one after the other.
    pub(super) async fn answers(&mut self, requests: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let connection = &mut self.connections[0];
        let mut answers = vec![];
        for request in requests {
            answers.push(connection.ask(request).await.to_vec());
        }
        answers
    }

    /// Sends `requests` for so long, or until there are none left.
    pub(super) async fn run(&mut self, requests: &Requests, time: Duration) -> Run {
        let next = Arc::new(AtomicUsize::new(0));
        let used = || (place::used(self.process), place::used(process::id()));
        let (before, start) = (used(), Instant::now());
        let mut tasks = JoinSet::new();
        for connection in self.connections.drain(..) {
            tasks.spawn(connection.send(requests.clone(), Arc::clone(&next), start + time));
        }
        let mut waits = vec![];
        for (connection, own) in tasks.join_all().await {
            self.connections.push(connection);
            waits.extend(own);
        }
        let (wall, after) = (start.elapsed(), (place::used(self.process), place::used(process::id())));
        waits.sort_unstable();
        Run { wall, waits, server: after.0 - before.0, driver: after.1 - before.1 }
    }
}

struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn send(mut self, requests: Requests, next: Arc<AtomicUsize>, end: Instant) -> (Self, Vec<u32>) {
        let mut waits = vec![];
        loop {
            let (at, start) = (next.fetch_add(1, Ordering::Relaxed), Instant::now());
            let is_over = start >= end || requests.once && at >= requests.all.len();
            let Some(request) = requests.all.get(at % requests.all.len()).filter(|_| !is_over) else {
                return (self, waits);
            };
            let answer = self.ask(request).await;
            let shown = || String::from_utf8_lossy(answer).into_owned();
            assert!(answer.starts_with(requests.begins.as_bytes()), "unexpected answer: {}", shown());
            waits.push(u32::try_from(start.elapsed().as_micros()).unwrap());
        }
    }

    /// The body of the answer, whose status must be 200.
    async fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).await.unwrap();
        let (mut length, mut whole) = (0, None);
        loop {
            let read = self.stream.read(&mut self.buffer[length..]).await.unwrap();
            assert!(read > 0, "the server hung up");
            length += read;
            whole = whole.or_else(|| extent(&self.buffer[..length]));
            if let Some((head, end)) = whole.filter(|(_, end)| *end <= length) {
                return &self.buffer[head..end];
            }
        }
    }
}

/// Where the body of the answer begins and ends, once its head is there.
fn extent(answer: &[u8]) -> Option<(usize, usize)> {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = str::from_utf8(&answer[..head]).unwrap();
    let field = "content-length: ";
    let length = text.find(field).map(|at| &text[at + field.len()..]);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    assert!(text.starts_with("HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    Some((head, head + length.expect("the answer has no length")))
}
