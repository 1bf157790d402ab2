//! HTTP servers with every wait bounded: handshake, headers, connections.

use axum::Router;
use axum_server::{
    Handle,
    tls_rustls::{RustlsConfig, bind_rustls},
};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};

/// How long a client may take for its TLS handshake, and then for the headers of each request.
const HEADERS: Duration = Duration::from_secs(5);

/// How long open requests may take to finish once the server is asked to stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// Streams one HTTP/2 connection may have open; the API server needs few.
const STREAMS: u32 = 256;

/// Serves `router` over TLS until `handle` is told to stop.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_tls(
    address: SocketAddr,
    config: ServerConfig,
    router: Router,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let mut server = bind_rustls(address, RustlsConfig::from_config(Arc::new(config)))
        .map(|acceptor| acceptor.handshake_timeout(HEADERS))
        .first_request_timeout(HEADERS)
        .handle(handle);
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    server.serve(router.into_make_service()).await
}

/// Serves `router` in the clear until `handle` is told to stop.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, router: Router, handle: Handle<SocketAddr>) -> io::Result<()> {
    let mut server = axum_server::bind(address).handle(handle);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    server.serve(router.into_make_service()).await
}
