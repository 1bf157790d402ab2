//! The keys that the broker signs with, made and dropped by time, and the one by which users are on record, made once: a Secret
//! each. Which key signs, each replica of the broker tells from the keys and its clock ([`crate::token`]).

use super::secrets::{Data, Secrets};
use crate::{
    audit::PSEUDONYM_KEY_ENTRY,
    metrics::{ControllerMetrics, IndexMetrics},
    runtime::{clock, watch::retried},
    token::{Algorithm, KeySet, Life, Next, SIGNING_KEYS_ENTRY, SigningKey, SigningKeyError},
};
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    error::Unspecified,
    rand::{self, SystemRandom},
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Pause after a round that failed.
const RETRY: Duration = Duration::from_secs(2);
/// The longest time between two rounds: timers do not run while a machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// Which keys are kept, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// Name of the Secret with the key of the record's pseudonyms.
    pub pseudonyms: String,
    /// What new keys sign with.
    pub algorithm: Algorithm,
    /// How long keys serve.
    pub life: Life,
}

/// Why a round failed. The next one starts after a pause.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read or write the Secret: {0}")]
    Secret(#[from] kube::Error),
    #[error(
        "the Secret holds keys that cannot be read: {0}; restore it, or delete it to have new keys made, with which tokens \
         that were issued are no longer accepted"
    )]
    Unreadable(SigningKeyError),
    #[error("cannot make a key: {0}")]
    Made(SigningKeyError),
    #[error("the crypto library makes no key")]
    Crypto,
    #[error("cannot write keys as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<Unspecified> for Error {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}

/// Keeps the keys for ever; `ensured` turns true after the first round that left nothing to do.
pub async fn run(
    client: Client,
    config: Config,
    metrics: Arc<ControllerMetrics>,
    watches: Arc<IndexMetrics>,
    ensured: watch::Sender<bool>,
) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &config.namespace);
    let this = watcher::Config::default().fields(&format!("metadata.name={}", config.secret));
    let mut changes = pin!(retried(watcher(api, this), "secrets", &watches));
    let secrets = Secrets::new(client, &config.namespace, metrics);
    loop {
        let kept = async {
            keep_pseudonyms(&secrets, &config.pseudonyms).await?;
            round(&secrets, &config).await
        };
        let wait = match kept.await {
            Ok(next) => {
                ensured.send_replace(true);
                Duration::try_from(clock::now().duration_until(next)).unwrap_or_default().min(LONGEST_WAIT)
            }
            Err(error) => {
                tracing::warn!(%error, secret = config.secret, "signing keys are not as they should be; trying again");
                RETRY
            }
        };
        let mut pause = pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                () = &mut pause => break,
                event = changes.next() => match event {
                    Some(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => break,
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }
}

/// One round; returns when the next one is due.
async fn round(secrets: &Secrets, config: &Config) -> Result<Timestamp, Error> {
    let (data, version) = secrets.read(&config.secret).await?;
    // Keys that cannot be read are not overwritten: that would end every token.
    let mut keys = match data.text(SIGNING_KEYS_ENTRY) {
        Some(text) => KeySet::from_json(text.as_bytes()).map_err(Error::Unreadable)?,
        None => KeySet::default(),
    };
    let (now, mut changed) = (clock::now(), false);
    let next = loop {
        keys = match keys.next(config.algorithm, config.life, now) {
            Next::KeepUntil(next) => break next,
            Next::DropOldest => keys.without_oldest(),
            Next::Create => {
                let key = SigningKey::new(config.algorithm, &generate(config.algorithm)?, now);
                keys.with(key.map_err(Error::Made)?)
            }
        };
        changed = true;
    };
    if changed {
        let data = Data::from_iter([(SIGNING_KEYS_ENTRY, keys.to_json()?)]);
        secrets.write(&config.secret, "Opaque", data, version).await?;
        tracing::info!(secret = config.secret, keys = ?keys.keys(), "signing keys changed");
    }
    Ok(next)
}

/// Makes the key of the record's pseudonyms if there is none. It is never made anew: without it nobody could say any more
/// which user an entry is about.
async fn keep_pseudonyms(secrets: &Secrets, name: &str) -> Result<(), Error> {
    let (_, version) = secrets.read(name).await?;
    if version.is_some() {
        return Ok(());
    }
    let mut key = [0; 32];
    rand::fill(&mut key)?;
    let data = Data::from_iter([(PSEUDONYM_KEY_ENTRY, BASE64_STANDARD.encode(key))]);
    Ok(secrets.write(name, "Opaque", data, None).await?)
}

/// A new key in PKCS #8.
fn generate(algorithm: Algorithm) -> Result<Vec<u8>, Unspecified> {
    match algorithm {
        Algorithm::Es256 => {
            let document =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())?;
            Ok(document.as_ref().to_vec())
        }
        Algorithm::Rs256 => {
            let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(KeySize::Rsa2048)?.as_der()?;
            Ok(der.as_ref().to_vec())
        }
    }
}
