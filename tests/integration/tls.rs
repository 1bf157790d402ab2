//! The TLS server on a real socket: a certificate swapped under traffic, clients that dawdle, and the way out.

use axum::{
    Router,
    routing::{get, post},
};
use axum_server::Handle;
use deputy::runtime::{
    server::{self, Bounds},
    tls::{Resolver, server_config},
};
use hyper::{
    Request, StatusCode,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate that is its own authority, and its key; both PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

struct Served {
    address: SocketAddr,
    resolver: Arc<Resolver>,
    serving: watch::Sender<bool>,
    handle: Handle<SocketAddr>,
    _server: JoinSet<io::Result<()>>,
}

async fn served(bounds: Bounds) -> Served {
    let resolver = Arc::new(Resolver::default());
    let (serving, is_serving) = watch::channel(true);
    let handle = Handle::new();
    let router = Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/slow", post(|_: String| async { sleep(Duration::from_millis(300)).await }));
    let config = server_config(Arc::clone(&resolver)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut server = JoinSet::new();
    server.spawn(server::serve_tls(address, config, router, bounds, is_serving, handle.clone()));
    let address = handle.listening().await.unwrap();
    Served { address, resolver, serving, handle, _server: server }
}

/// A handshake that trusts `roots` only.
async fn connect(address: SocketAddr, roots: &[&str], alpn: &str) -> io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn request() -> Request<String> {
    Request::get("/").header("host", "localhost").body(String::new()).unwrap()
}

/// One request on a connection of its own; the certificate the server showed.
async fn fetch(address: SocketAddr, roots: &[&str]) -> CertificateDer<'static> {
    let stream = connect(address, roots, "http/1.1").await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let (response, _) = tokio::join!(
        async {
            let response = sender.send_request(request()).await.unwrap();
            drop(sender);
            response
        },
        connection
    );
    assert_eq!(response.status(), StatusCode::OK);
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_swapped_without_a_failed_request() {
    let ((old, old_key), (new, new_key)) = (pair(), pair());
    let served = served(Bounds::default()).await;
    served.resolver.use_pair(old.as_bytes(), old_key.as_bytes()).unwrap();
    let address = served.address;

    // As the API server does during a rotation: it trusts both, on connections new and kept.
    let mut traffic = JoinSet::new();
    let (stop, stopping) = watch::channel(false);
    for _ in 0..4 {
        let (old, new, stopping) = (old.clone(), new.clone(), stopping.clone());
        traffic.spawn(async move {
            let mut requests = 0;
            while !*stopping.borrow() {
                fetch(address, &[&old, &new]).await;
                requests += 1;
            }
            requests
        });
    }
    let kept = connect(address, &[&old], "h2").await.unwrap();
    let (mut kept, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(kept)).await.unwrap();
    traffic.spawn(async move { connection.await.map_or(0, |()| 0) });

    sleep(Duration::from_millis(200)).await;
    served.resolver.use_pair(new.as_bytes(), new_key.as_bytes()).unwrap();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(kept.send_request(request()).await.unwrap().status(), StatusCode::OK);
    stop.send_replace(true);
    drop(kept);
    let mut requests = 0;
    while let Some(ended) = traffic.join_next().await {
        requests += ended.unwrap();
    }
    assert!(requests > 8, "{requests}");

    let shown = fetch(address, &[&new]).await;
    assert_eq!(shown, CertificateDer::from_pem_slice(new.as_bytes()).unwrap());
    assert!(connect(address, &[&old], "http/1.1").await.is_err());
}

#[tokio::test]
async fn without_a_certificate_there_is_no_handshake() {
    let served = served(Bounds::default()).await;
    let (certificate, key) = pair();
    assert!(connect(served.address, &[&certificate], "http/1.1").await.is_err());
    served.resolver.use_pair(certificate.as_bytes(), key.as_bytes()).unwrap();
    fetch(served.address, &[&certificate]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dawdles_is_cut_and_the_others_are_served() {
    let bounds = Bounds { first_request: Duration::from_secs(2), ..Bounds::default() };
    let served = served(bounds).await;
    let (certificate, key) = pair();
    served.resolver.use_pair(certificate.as_bytes(), key.as_bytes()).unwrap();

    let mut slow = connect(served.address, &[&certificate], "http/1.1").await.unwrap();
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let started = Instant::now();
    let dawdle = async {
        for byte in "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".bytes() {
            let sent = slow.write_all(&[byte]).await;
            let answer = timeout(Duration::from_secs(1), slow.read_u8()).await;
            if sent.is_err() || answer.is_ok_and(|answer| answer.is_err()) {
                return started.elapsed();
            }
        }
        panic!("a request sent at a byte a second was waited for");
    };
    let others = async {
        while started.elapsed() < Duration::from_secs(2) {
            let one = Instant::now();
            fetch(served.address, &[&certificate]).await;
            assert!(one.elapsed() < Duration::from_secs(1), "{:?}", one.elapsed());
            sleep(Duration::from_millis(50)).await;
        }
    };
    let (cut, ()) = tokio::join!(dawdle, others);
    assert!(cut < Duration::from_secs(4), "{cut:?}");
    // One that does not even begin its handshake is gone as well.
    assert!(!matches!(timeout(Duration::from_secs(2), silent.read_u8()).await, Ok(Ok(_)) | Err(_)));
}

/// Idle connections, however many, do not keep out the next client: the oldest of theirs is closed.
#[tokio::test]
async fn connections_are_bounded_and_the_next_is_served() {
    let served = served(Bounds { connections: 2, ..Bounds::default() }).await;
    let (certificate, key) = pair();
    served.resolver.use_pair(certificate.as_bytes(), key.as_bytes()).unwrap();
    let mut oldest = connect(served.address, &[&certificate], "http/1.1").await.unwrap();
    let _idle = connect(served.address, &[&certificate], "http/1.1").await.unwrap();
    let stream = connect(served.address, &[&certificate], "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    assert_eq!(sender.send_request(request()).await.unwrap().status(), StatusCode::OK);
    let closed = timeout(Duration::from_secs(5), oldest.read_u8()).await.unwrap();
    assert!(closed.is_err(), "the oldest is still open");
}

#[tokio::test]
async fn a_server_that_leaves_sends_its_clients_away_and_finishes_what_is_open() {
    let served = served(Bounds::default()).await;
    let (certificate, key) = pair();
    served.resolver.use_pair(certificate.as_bytes(), key.as_bytes()).unwrap();
    let stream = connect(served.address, &[&certificate], "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);

    let response = sender.send_request(request()).await.unwrap();
    assert_eq!(response.headers().get("connection"), None);
    served.serving.send_replace(false);
    sender.ready().await.unwrap();
    let response = sender.send_request(request()).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    drop(response);
    assert!(sender.ready().await.is_err(), "the connection is closed after that answer");

    let stream = connect(served.address, &[&certificate], "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    connections.spawn(connection);
    let slow = Request::post("/slow").header("host", "localhost").body("x".to_owned()).unwrap();
    let stop = async {
        sleep(Duration::from_millis(100)).await;
        served.handle.graceful_shutdown(Some(server::GRACE));
    };
    let (response, ()) = tokio::join!(sender.send_request(slow), stop);
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}
