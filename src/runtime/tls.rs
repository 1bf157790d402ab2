//! The serving certificate: watched in its Secret by name, swapped without a restart.
//!
//! The Secret is watched and not mounted: the kubelet refreshes a mounted one up to a minute late, and a rotated CA
//! must not wait for that.

use super::secret;
use crate::metrics::{CertificateMetrics, IndexMetrics};
use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{pin::pin, sync::Arc};
use tokio::sync::watch;
use x509_parser::parse_x509_certificate;

/// Holds the certificate in use.
#[derive(Debug, Default)]
pub struct Resolver(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Why a Secret's content cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A key of the Secret is missing or no PEM.
    #[error("{0} is missing or holds no PEM of that kind")]
    Pem(&'static str),
    /// Certificate and private key do not belong together, or are of no known kind.
    #[error("tls.crt and tls.key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
    /// The certificate cannot be read.
    #[error("tls.crt holds no X.509 certificate")]
    Certificate,
}

impl Resolver {
    /// Takes a certificate chain and its key, both PEM, into use; returns when it ends.
    ///
    /// # Errors
    /// When they cannot serve; what was in use stays.
    pub fn use_pair(&self, certificates: &[u8], key: &[u8]) -> Result<Timestamp, Unusable> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or(Unusable::Pem("tls.crt"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Unusable::Pem("tls.key"))?;
        let ends = not_after(&chain[0]).ok_or(Unusable::Certificate)?;
        let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
        self.0.store(Some(Arc::new(pair)));
        Ok(ends)
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

/// A TLS configuration that serves what `resolver` holds, over HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When the cryptographic provider lacks the protocol versions, which it does not.
pub fn server_config(resolver: Arc<Resolver>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Keeps `resolver` current with the Secret `name` for ever. `loaded` turns true with the first usable pair. A pair
/// that cannot serve is logged and counted, and the one before stays in use; so it does when the Secret goes.
pub async fn follow_secret(
    client: Client,
    namespace: &str,
    name: &str,
    resolver: Arc<Resolver>,
    loaded: watch::Sender<bool>,
    metrics: Arc<CertificateMetrics>,
    watches: Arc<IndexMetrics>,
) {
    let mut found = pin!(secret::follow(client, namespace, name, &watches));
    while let Some(data) = found.next().await {
        let part = |key: &str| data.get(key).map_or(&[][..], |bytes| &bytes.0);
        match resolver.use_pair(part("tls.crt"), part("tls.key")) {
            Ok(ends) => {
                tracing::info!(secret = name, %ends, "serving certificate taken into use");
                metrics.in_use("serving", ends);
                loaded.send_replace(true);
            }
            Err(error) => {
                tracing::error!(secret = name, %error, "serving certificate not taken into use");
                metrics.rejected("serving");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 2);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_bad_pair_leaves_the_good_one_in_use() {
        let resolver = Resolver::default();
        let ((certificate, key), (other, _)) = (pair(), pair());
        let ends = resolver.use_pair(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(ends.to_string(), "2040-01-02T00:00:00Z");
        let used = resolver.0.load_full().unwrap();

        let mixed = resolver.use_pair(other.as_bytes(), key.as_bytes());
        assert!(matches!(mixed, Err(Unusable::Pair(_))), "{mixed:?}");
        let swapped = resolver.use_pair(key.as_bytes(), certificate.as_bytes());
        assert!(matches!(swapped, Err(Unusable::Pem("tls.crt"))), "{swapped:?}");
        let no_key = resolver.use_pair(certificate.as_bytes(), b"");
        assert!(matches!(no_key, Err(Unusable::Pem("tls.key"))), "{no_key:?}");
        assert!(Arc::ptr_eq(&used, &resolver.0.load_full().unwrap()));
    }
}
