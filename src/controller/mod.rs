//! The controller: identities in, accounts and statuses out; and the certificates the webhook serves with.
//!
//! It never answers a request, and no decision waits for it but the creation of an account. [`identities`] drives one
//! identity through validate → build → apply → status, of which all but apply are pure ([`account`], [`status`]); before
//! that it ends pods that may not go on ([`fate`] says which, [`ending`] does it). [`delegation`] tells those who write issuers,
//! resources and policies what became of them.

mod account;
mod bundle;
pub mod certificates;
mod claims;
mod context;
mod credentials;
pub mod delegation;
mod ending;
mod events;
pub mod exceptions;
mod fate;
mod gates;
mod identities;
mod pods;
mod refusal;
mod retries;
mod running;
mod secrets;
pub mod signing_keys;
mod status;
mod tally;
mod triggers;

use crate::{
    api::FIELD_MANAGER,
    identity::TrustDomain,
    index::Declarable,
    metrics::{ControllerMetrics, IndexMetrics},
};
use context::Context;
use futures::{Stream, StreamExt};
use identities::Guarded;
use kube::{
    Client,
    api::PostParams,
    runtime::{controller, reflector},
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Events of one identity within this time are one reconcile.
const PAUSE: Duration = Duration::from_millis(50);

/// Identities reconciled at once.
const CONCURRENCY: u16 = 16;

/// What the controller is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Trust domain of the principals in statuses.
    pub trust_domain: TrustDomain,
    /// What identities may declare.
    pub declarable: Declarable,
    /// Name of this pod, as events show it.
    pub instance: String,
    /// Where there is a broker, the CAs its agents are to trust, in PEM, once they are known.
    pub authorities: Option<watch::Receiver<Option<Arc<str>>>>,
    /// How long after a claim is released nothing is asked of it: longer than a webhook's view may be old and a request to
    /// the API server may take together.
    pub claim_quiet: Duration,
}

/// Reconciles identities for ever; `synced` turns true once every watch has delivered its first list.
///
/// Returns only when the watches end, which they do not by themselves; the process should then end as well.
pub async fn run(
    client: Client,
    config: Config,
    metrics: Arc<ControllerMetrics>,
    watches: Arc<IndexMetrics>,
    synced: watch::Sender<bool>,
) {
    let authorities = config.authorities.clone();
    let context = Arc::new(Context::new(client.clone(), config, metrics));
    // Pods first: a status written before they are counted would be written twice.
    let mut pods = triggers::pods(client.clone(), Arc::clone(&context), &watches).boxed();
    until_listed(&mut pods).await;
    let (store, writer) = reflector::store::<Guarded>();
    // Suspensions too: an agent whose suspension is not known yet would be switched on.
    let mut suspensions =
        triggers::suspensions(client.clone(), store.clone(), Arc::clone(&context), &watches).boxed();
    until_listed(&mut suspensions).await;
    // And claims, or every identity that holds one would look for a moment as if it did not.
    let mut claims = triggers::claims(client.clone(), store.clone(), Arc::clone(&context), &watches).boxed();
    until_listed(&mut claims).await;
    let mut namespaces = triggers::namespaces(&client, store.clone(), Arc::clone(&context), &watches).boxed();
    until_listed(&mut namespaces).await;
    let (tell, told) = futures::channel::mpsc::unbounded();
    let mut streams = vec![
        triggers::identities(client.clone(), (store.clone(), writer), Arc::clone(&context), &watches).boxed(),
        triggers::accounts(&client, store.clone(), &watches).boxed(),
        pods.map(|(changed, _)| changed).boxed(),
        suspensions.map(|(changed, _)| changed).boxed(),
        claims.map(|(changed, _)| changed).boxed(),
        namespaces.map(|(changed, _)| changed).boxed(),
        told.boxed(),
    ];
    if let Some(authorities) = authorities {
        streams.push(triggers::config_maps(&client, store.clone(), &watches).boxed());
        streams.push(triggers::authorities(authorities, store.clone()).boxed());
    }
    let queue = triggers::queue(streams, PAUSE);
    let config = controller::Config::default().concurrency(CONCURRENCY);
    let listed = store.clone();
    let keeper = claims::keep(store.clone(), Arc::clone(&context), tell);
    let reconciles = controller::applier(
        |guard, context| Box::pin(identities::reconcile(guard, context)),
        identities::error_policy,
        context,
        store,
        queue,
        config,
    );
    let announce = async {
        // An error means that the store's writer is gone, and then the stream below has ended too.
        if listed.wait_until_ready().await.is_ok() {
            synced.send_replace(true);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reconciles.for_each(|_| std::future::ready(())) => {}
        () = announce => {}
        () = keeper => {}
    }
}

/// The parameters of a write in the controller's name.
fn writing() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

async fn until_listed(
    pods: &mut Pin<Box<impl Stream<Item = (Vec<reflector::ObjectRef<Guarded>>, bool)> + ?Sized>>,
) {
    while let Some((_, complete)) = pods.next().await {
        if complete {
            return;
        }
    }
}
