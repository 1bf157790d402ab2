//! One connection to one API server.
//!
//! kube's own client speaks HTTP/1.1: every watch has a connection of its own, perhaps to an API server of its own, and
//! each of them can die silently alone. Here all requests are streams of one HTTP/2 connection that is pinged, so that
//! what one stream proves of the connection and of the server behind it holds for all.

use anyhow::Context as _;
use http::{HeaderValue, Request, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder, service_fn};

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

/// The same connection, asking for the metadata of objects alone: what a watch that looks at nothing else need not have
/// sent. Only for lists and watches.
pub fn of_metadata(client: &Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let service = service_fn(move |mut request: Request<Body>| {
        let accepted = as_metadata(request.uri().query());
        request.headers_mut().insert(header::ACCEPT, accepted);
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, namespace)
}

/// A watch delivers objects one by one, a list a list.
fn as_metadata(query: Option<&str>) -> HeaderValue {
    let is_watch = query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    HeaderValue::from_static(if is_watch {
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    } else {
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_watches_are_asked_for_by_their_own_names() {
        for (query, name) in [
            (None, "PartialObjectMetadataList"),
            (Some("limit=20"), "PartialObjectMetadataList"),
            (Some("timeoutSeconds=290&watch=true&resourceVersion=7"), "PartialObjectMetadata"),
        ] {
            let asked = as_metadata(query);
            assert_eq!(asked.to_str().unwrap().split(['=', ';']).nth(2), Some(name), "{query:?}");
        }
    }
}
