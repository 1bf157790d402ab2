//! One connection to one API server.
//!
//! kube's own client speaks HTTP/1.1: every watch has a connection of its own, perhaps to an API server of its own, and
//! each of them can die silently alone. Here all requests are streams of one HTTP/2 connection that is pinged, so that
//! what one stream proves of the connection and of the server behind it holds for all.

use anyhow::Context as _;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{Client, Config, client::ConfigExt as _};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How often the other side is asked whether it is there, and how long it may take to say so. Together well below the
/// bound on a view's age, so that a connection that died silently is replaced before permits have to stop.
const PING: Duration = Duration::from_secs(2);
const PONG: Duration = Duration::from_secs(3);

/// A client of the API server that the environment names: the pod's own account in a cluster, else the kubeconfig.
///
/// # Errors
/// When there is no such API server, or its credentials cannot be read.
pub async fn connect() -> anyhow::Result<Client> {
    let config = Config::infer().await.context("no way to reach a Kubernetes API server")?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_only()
        .enable_http2()
        .wrap_connector(tcp);
    let http = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_keep_alive_while_idle(true)
        .build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}
