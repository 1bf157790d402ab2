//! Certificates: a CA of our own, the bundle API servers trust, and what the webhook and the broker serve with.
//!
//! Level-triggered like everything here: each round reads the Secrets and the webhook configurations and writes what
//! differs, in the order CA → bundles → serving certificates, so that nothing is served before it is trusted. A change of
//! any of them starts a round at once; otherwise the next one is when [`plan`] says so.

mod issue;
mod plan;
mod store;

use super::secrets::Secrets;
use crate::{
    metrics::{CertificateMetrics, ControllerMetrics, IndexMetrics},
    runtime::{clock, watch::retried},
};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::watcher::{self, watcher},
};
use plan::{Step, later, step};
use std::{fmt, pin::pin, sync::Arc, time::Duration};
use store::{Held, Serving, Store};
use tokio::sync::watch;

/// Pause after a round that failed.
const RETRY: Duration = Duration::from_secs(2);
/// The longest time between two rounds: timers do not run while a machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);

/// Which objects are kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the Secrets and of the webhook's Service.
    pub namespace: String,
    /// What the names of the release's objects begin with.
    pub fullname: String,
    /// Whether there is a broker.
    pub broker: bool,
}

/// A serving certificate that is kept.
struct Served {
    /// What serves with it, as metrics name it.
    role: &'static str,
    /// The Secret it rests in.
    secret: String,
    /// The DNS names of the Service; clients in the cluster use the first.
    names: Vec<String>,
}

impl Config {
    fn ca_secret(&self) -> String {
        format!("{}-ca", self.fullname)
    }

    fn served(&self) -> impl Iterator<Item = Served> + use<'_> {
        let roles = [("serving", "webhook", true), ("broker", "broker", self.broker)];
        roles.into_iter().filter(|(.., kept)| *kept).map(|(role, component, _)| {
            let (service, namespace) = (format!("{}-{component}", self.fullname), &self.namespace);
            let names = vec![
                format!("{service}.{namespace}.svc"),
                format!("{service}.{namespace}.svc.cluster.local"),
                format!("{service}.{namespace}"),
            ];
            Served { role, secret: format!("{service}-tls"), names }
        })
    }

    fn mutating(&self) -> [String; 1] {
        [format!("{}-agent-pods", self.fullname)]
    }

    fn validating(&self) -> [String; 5] {
        ["agent-pods", "enforced-namespaces", "claimed-secrets", "debug-containers", "templates"]
            .map(|name| format!("{}-{name}", self.fullname))
    }
}

/// What others hear of the certificates.
#[derive(Debug)]
pub struct Told {
    /// The CAs to trust, in PEM: the one that signs, the one that will and the one that did, as far as there are any.
    pub authorities: watch::Sender<Option<Arc<str>>>,
    /// Turns true after the first round that left nothing to do.
    pub ensured: watch::Sender<bool>,
}

/// Why a round failed. The next one starts after a pause.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read {0}: {1}")]
    Read(String, #[source] kube::Error),
    #[error("cannot write {0}: {1}")]
    Write(String, #[source] kube::Error),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Keeps the certificates for ever.
pub async fn run(
    client: Client,
    config: Config,
    metrics: Arc<ControllerMetrics>,
    watches: Arc<IndexMetrics>,
    told: Told,
) {
    let mut changes = pin!(changes(&client, &config, &watches));
    let secrets = Secrets::new(client.clone(), &config.namespace, Arc::clone(&metrics));
    let store = Store { client: client.clone(), config, secrets, metrics: Arc::clone(&metrics) };
    loop {
        let wait = match round(&store, &metrics.certificates, &told.authorities).await {
            Ok(next) => {
                told.ensured.send_replace(true);
                let wait = clock::now().duration_until(next);
                Duration::try_from(wait).unwrap_or_default().min(LONGEST_WAIT)
            }
            Err(error) => {
                tracing::warn!(%error, "certificates are not as they should be; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            change = changes.next() => {
                let Some(kind) = change else { return };
                tracing::debug!(kind, "looking at certificates again");
            }
        }
    }
}

/// One round; returns when the next one is due.
async fn round(
    store: &Store,
    metrics: &CertificateMetrics,
    trusted: &watch::Sender<Option<Arc<str>>>,
) -> Result<Timestamp, Error> {
    let now = clock::now();
    let (authorities, next_step) = authorities(store, now).await?;
    let bundle = authorities.bundle();
    // Before anything that can fail: a webhook configuration is no reason for agents not to know a new CA.
    trusted.send_if_modified(|known| {
        let is_new = known.as_deref() != Some(bundle.as_str());
        if is_new {
            *known = Some(bundle.as_str().into());
        }
        is_new
    });
    store.put_bundle(&bundle).await?;
    let mut next = next_step;
    for served in store.config.served() {
        next = next.min(serving(store, &authorities, &served, now, metrics).await?);
    }
    if let Some(facts) = issue::read(&authorities.current.certificate) {
        metrics.in_use("ca", facts.validity.not_after);
    }
    Ok(next)
}

/// The CAs after every step that is due.
async fn authorities(store: &Store, now: Timestamp) -> Result<(Held, Timestamp), Error> {
    let (mut held, version) = store.authorities().await?;
    let mut changed = false;
    let (held, due) = loop {
        let times = held.as_ref().and_then(Held::times);
        let next = match (step(times, now), held.take()) {
            (Step::KeepUntil(due), Some(kept)) => break (kept, due),
            (Step::Prepare, Some(kept)) => Held { next: Some(issue::authority(now)?), ..kept },
            (Step::DropPrevious, Some(kept)) => Held { previous: None, ..kept },
            (Step::Promote, Some(kept)) => kept.promoted(),
            (_, None) | (Step::Create, _) => Held::new(issue::authority(now)?),
        };
        held = Some(next);
        changed = true;
    };
    if changed {
        tracing::info!("certificate authority changed");
        store.put_authorities(&held, version).await?;
    }
    Ok((held, due))
}

/// Reissues the serving certificate if it is due; returns when it will be.
async fn serving(
    store: &Store,
    authorities: &Held,
    served: &Served,
    now: Timestamp,
    metrics: &CertificateMetrics,
) -> Result<Timestamp, Error> {
    let Served { role, secret, names } = served;
    let (found, version) = store.serving(secret).await?;
    if let Some(validity) = found.as_ref().and_then(|serving| serving.good_for(names, authorities))
        && validity.renewal() > now
    {
        metrics.in_use(role, validity.not_after);
        return Ok(validity.renewal());
    }
    let pair = issue::serving(&authorities.current, names, now)?;
    let serving = Serving { pair, authority: authorities.current.certificate.clone() };
    store.put_serving(secret, &serving, version).await?;
    tracing::info!(secret, "serving certificate issued");
    let validity = plan::Validity::from(now, plan::LEAF_LIFE);
    metrics.in_use(role, validity.not_after);
    Ok(later(validity.renewal(), plan::BACKDATE))
}

/// An item for each change of an object that is kept.
fn changes(
    client: &Client,
    config: &Config,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = &'static str> + use<> {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &config.namespace);
    let mutating: Api<PartialObjectMeta<MutatingWebhookConfiguration>> = Api::all(client.clone());
    let validating: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> = Api::all(client.clone());
    let mut streams = vec![];
    for name in config.served().map(|served| served.secret).chain([config.ca_secret()]) {
        streams.push(named(secrets.clone(), &name, "secrets", metrics));
    }
    for name in config.mutating() {
        streams.push(named(mutating.clone(), &name, "mutatingwebhookconfigurations", metrics));
    }
    for name in config.validating() {
        streams.push(named(validating.clone(), &name, "validatingwebhookconfigurations", metrics));
    }
    stream::select_all(streams)
}

fn named<K>(
    api: Api<PartialObjectMeta<K>>,
    name: &str,
    resource: &'static str,
    metrics: &Arc<IndexMetrics>,
) -> stream::BoxStream<'static, &'static str>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    retried(watcher(api, config), resource, metrics)
        .filter_map(move |event| {
            let changed = matches!(
                event,
                watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone
            );
            std::future::ready(changed.then_some(resource))
        })
        .boxed()
}
