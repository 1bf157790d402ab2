//! Gets an issuer's keys: its discovery document (OpenID Connect Discovery, section 4), then what that points to.
//!
//! The URL is the platform team's word. Whatever comes back is a stranger's: it is bounded in size and time, no redirect is
//! followed, and nothing but https is spoken, with certificates that are checked.

use super::{
    json,
    jwks::{BYTES, KeySet},
};
use axum::body::{Body, Bytes, to_bytes};
use http::{Request, StatusCode, Uri, header::ACCEPT};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::timeout};

/// Why keys could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("neither the issuer's nor the system's certificate authorities can be used")]
    Authorities,
    #[error("the answer broke off, or is longer than 256 KiB")]
    Body,
    #[error("the answer is not what OpenID Connect Discovery and RFC 7517 have here")]
    Document,
    #[error("the discovery document is of another issuer")]
    Issuer,
    #[error("it took too long")]
    Late,
    #[error("the answer is not 200; redirects are not followed")]
    Status,
    #[error("no connection over TLS could be made")]
    Unreachable,
}

impl Failure {
    /// In a word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Authorities => "authorities",
            Self::Body => "body",
            Self::Document => "document",
            Self::Issuer => "issuer",
            Self::Late => "late",
            Self::Status => "status",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The keys of the issuer at `url`, whose own certificate is checked against `authority` (PEM), or the system's
/// authorities. All of it takes at most `limit`.
pub(super) async fn keys(url: &str, authority: Option<String>, limit: Duration) -> Result<KeySet, Failure> {
    timeout(limit, discover(url, authority)).await.unwrap_or(Err(Failure::Late))
}

async fn discover(url: &str, authority: Option<String>) -> Result<KeySet, Failure> {
    // Files are read for the system's.
    let config = spawn_blocking(move || tls(authority.as_deref())).await;
    let config = config.ok().flatten().ok_or(Failure::Authorities)?;
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    // Section 4: a slash at the end is removed first.
    let well_known = format!("{}/.well-known/openid-configuration", url.trim_end_matches('/'));
    let document = json::object(&get(&client, &well_known).await?).ok_or(Failure::Document)?;
    let text = |member| document.get(member).and_then(Value::as_str).ok_or(Failure::Document);
    if text("issuer")? != url {
        return Err(Failure::Issuer);
    }
    KeySet::parse(&get(&client, text("jwks_uri")?).await?).map_err(|_| Failure::Document)
}

async fn get(client: &Client<HttpsConnector<HttpConnector>, Body>, uri: &str) -> Result<Bytes, Failure> {
    let uri: Uri = uri.parse().map_err(|_| Failure::Document)?;
    if uri.scheme_str() != Some("https") || uri.authority().is_none_or(|host| host.as_str().contains('@')) {
        return Err(Failure::Document);
    }
    let request = Request::get(uri).header(ACCEPT, "application/json").body(Body::empty());
    let response =
        client.request(request.map_err(|_| Failure::Document)?).await.map_err(|_| Failure::Unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(Failure::Status);
    }
    to_bytes(Body::new(response.into_body()), BYTES).await.map_err(|_| Failure::Body)
}

fn tls(authority: Option<&str>) -> Option<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?;
    let trusting = match authority {
        None => builder.with_native_roots().ok()?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.ok()?).ok()?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Some(trusting.with_no_client_auth())
}
