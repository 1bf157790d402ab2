//! HTTP servers with everything bounded that a client could make wait: connections, handshake, headers, idleness.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Version, header},
    middleware::{self, Next},
    response::Response,
};
use axum_server::{
    Handle,
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::Service;

/// How long open requests may take to finish once the server is asked to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// Streams and unread bytes one HTTP/2 connection may have.
const STREAMS: u32 = 64;
const WINDOW: u32 = 256 << 10;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; more are closed as they come.
    pub connections: usize,
    /// Time for the TLS handshake, and again for the headers of a connection's first request.
    pub first_request: Duration,
    /// Time between requests, headers included. Longer than the 90 seconds after which the API server closes a
    /// connection it does not use: who closes first must not be us, or a review sent at that moment is lost.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 512, first_request: Duration::from_secs(5), idle: Duration::from_secs(120) }
    }
}

/// Serves `router` over TLS until `handle` is told to stop. Once `serving` is false, answers ask HTTP/1 clients to
/// close their connection: a client that keeps one open would not notice that endpoints no longer name this pod.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_tls(
    address: SocketAddr,
    config: ServerConfig,
    router: Router,
    bounds: Bounds,
    serving: watch::Receiver<bool>,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let router = router.layer(middleware::from_fn_with_state(serving, close_when_leaving));
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config)))
        .handshake_timeout(bounds.first_request)
        .acceptor(Places::new(&bounds));
    let mut server = axum_server::bind(address)
        .acceptor(acceptor)
        .first_request_timeout(bounds.first_request)
        .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "connection not accepted"))
        .handle(handle);
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    server.serve(router.into_make_service()).await
}

/// Serves `router` in the clear until `handle` is told to stop.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, router: Router, handle: Handle<SocketAddr>) -> io::Result<()> {
    let bounds = Bounds::default();
    let mut server = axum_server::bind(address)
        .acceptor(Places::new(&bounds))
        .first_request_timeout(bounds.first_request)
        .handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(bounds.idle);
    server.serve(router.into_make_service()).await
}

async fn close_when_leaving(
    State(serving): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    let http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if http1 && !*serving.borrow() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Gives each connection a place, before its handshake, for as long as it lives.
#[derive(Clone, Debug)]
struct Places(Arc<Semaphore>);

impl Places {
    fn new(bounds: &Bounds) -> Self {
        Self(Arc::new(Semaphore::new(bounds.connections)))
    }
}

impl<S> Accept<TcpStream, S> for Places {
    type Stream = TcpStream;
    type Service = Placed<S>;
    type Future = Ready<io::Result<(TcpStream, Placed<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = Arc::clone(&self.0).try_acquire_owned();
        ready(match place {
            // Answers are small and whole: nothing is won by waiting for more to send.
            Ok(place) => {
                stream.set_nodelay(true).map(|()| (stream, Placed { service, _place: Arc::new(place) }))
            }
            Err(_) => Err(io::Error::other("too many connections")),
        })
    }
}

/// A connection's service, which holds its place.
#[derive(Clone, Debug)]
struct Placed<S> {
    service: S,
    _place: Arc<OwnedSemaphorePermit>,
}

impl<S: Service<R>, R> Service<R> for Placed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.service.call(request)
    }
}
