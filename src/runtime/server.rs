//! HTTP servers with everything bounded that a client could make wait: connections, handshake, headers, idleness.

use super::places::Places;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Version, header},
    middleware::{self, Next},
    response::Response,
};
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long open requests may take to finish once the server is asked to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// Streams and unread bytes one HTTP/2 connection may have.
const STREAMS: u32 = 64;
const WINDOW: u32 = 256 << 10;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once; of more, the peer that has most loses its oldest.
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
        .acceptor(Places::new(bounds.connections));
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
pub async fn serve(
    address: SocketAddr,
    router: Router,
    bounds: Bounds,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let mut server = axum_server::bind(address)
        .acceptor(Places::new(bounds.connections))
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
