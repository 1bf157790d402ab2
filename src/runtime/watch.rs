//! From the API server's watches to the newest snapshot. One task owns the [`Index`]; readers hold a
//! [`tokio::sync::watch::Receiver`] and take one snapshot per request.

use super::clock;
use crate::{
    api::{
        AGENT_LABEL,
        lean::Lean,
        v1alpha1::{
            AgentException, AgentIdentity, AgentSuspension, CredentialClaim, DelegationPolicy,
            ProtectedResource, TrustedIssuer,
        },
    },
    index::{Index, Observed, Snapshot, freshness::Wholeness, keeps_account},
    metrics::IndexMetrics,
};
use futures::{
    Stream, StreamExt,
    stream::{BoxStream, SelectAll, select_all, unfold},
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// The pause before a broken watch is opened again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// How objects are listed: few at a time, since each may be as large as the API takes and a page is held as a whole.
pub fn config() -> watcher::Config {
    watcher::Config::default().page_size(20)
}

/// Which kinds an index is fed with, beside identities, their accounts and suspensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// What pods are judged by: claims and exceptions.
    Admission,
    /// What tokens are exchanged by: issuers, resources, policies, and the agents' pods that live.
    Exchange,
}

/// What one of the watches delivered, put where it belongs: returns whether a new snapshot was made.
type Delivery = Box<dyn FnOnce(&mut Lists, &mut Index) -> bool + Send>;

/// What [`feed`] publishes.
#[derive(Debug)]
pub struct Fed {
    /// The newest snapshot.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// How the watches are doing.
    pub watches: watch::Sender<Wholeness>,
    /// Whether every watch has delivered its first full list. Stays true: a watch that breaks resumes, and what is known
    /// meanwhile is the last that was. How long that may be decided on is for the proof of freshness to say.
    pub synced: watch::Sender<bool>,
}

/// Feeds `index` for ever and publishes each snapshot it makes.
///
/// Returns only when the watches end, which they do not by themselves; the process should then end as well.
pub async fn feed(client: Client, mut index: Index, kinds: Kinds, fed: Fed, metrics: Arc<IndexMetrics>) {
    let mut deliveries = deliveries(&client, kinds, &metrics);
    let mut lists = Lists::of(kinds);
    while let Some(delivery) = deliveries.next().await {
        if delivery(&mut lists, &mut index) {
            let snapshot = index.snapshot();
            metrics.advanced(snapshot.version, clock::now());
            fed.snapshots.send_replace(snapshot);
            if lists.are_complete() {
                fed.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
            }
        }
        // After the snapshot: whoever sees the watches whole finds in it what they delivered.
        let now = lists.wholeness();
        fed.watches.send_if_modified(|watches| std::mem::replace(watches, now) != now);
    }
}

/// The watches of these kinds, as one stream.
fn deliveries(
    client: &Client,
    kinds: Kinds,
    metrics: &Arc<IndexMetrics>,
) -> SelectAll<BoxStream<'static, Delivery>> {
    let all = config;
    // Those that have ended by themselves are gone from such a watch, and it says so.
    let live = || config().labels(AGENT_LABEL).fields("status.phase!=Succeeded,status.phase!=Failed");
    let mut streams = vec![
        delivered(client, all(), "agentidentities", metrics, |lists| &mut lists.identities),
        delivered(client, all(), "agentsuspensions", metrics, |lists| &mut lists.suspensions),
        delivered(client, all(), "serviceaccounts", metrics, |lists| &mut lists.accounts),
    ];
    streams.extend(match kinds {
        Kinds::Admission => vec![
            delivered(client, all(), "credentialclaims", metrics, |lists| &mut lists.claims),
            delivered(client, all(), "agentexceptions", metrics, |lists| &mut lists.exceptions),
        ],
        Kinds::Exchange => vec![
            delivered(client, all(), "trustedissuers", metrics, |lists| &mut lists.issuers),
            delivered(client, all(), "protectedresources", metrics, |lists| &mut lists.resources),
            delivered(client, all(), "delegationpolicies", metrics, |lists| &mut lists.policies),
            delivered(client, live(), "pods", metrics, |lists| &mut lists.pods),
        ],
    });
    select_all(streams)
}

fn delivered<K>(
    client: &Client,
    config: watcher::Config,
    resource: &'static str,
    metrics: &Arc<IndexMetrics>,
    list: fn(&mut Lists) -> &mut List<K>,
) -> BoxStream<'static, Delivery>
where
    K: Indexed + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = relisted(Api::<K>::all(client.clone()), config, resource, Arc::clone(metrics));
    let put = move |event| -> Delivery { Box::new(move |lists, index| list(lists).take(index, event)) };
    events.map(put).boxed()
}

/// The lists of all watches. Of what is not watched, nothing is awaited.
#[derive(Default)]
struct Lists {
    identities: List<DeserializeGuard<AgentIdentity>>,
    accounts: List<Lean<ServiceAccount>>,
    suspensions: List<DeserializeGuard<AgentSuspension>>,
    claims: List<DeserializeGuard<CredentialClaim>>,
    exceptions: List<DeserializeGuard<AgentException>>,
    issuers: List<DeserializeGuard<TrustedIssuer>>,
    resources: List<DeserializeGuard<ProtectedResource>>,
    policies: List<DeserializeGuard<DelegationPolicy>>,
    pods: List<Lean<Pod>>,
}

impl Lists {
    fn of(kinds: Kinds) -> Self {
        let mut lists = Self::default();
        match kinds {
            Kinds::Admission => {
                lists.issuers.leave_out();
                lists.resources.leave_out();
                lists.policies.leave_out();
                lists.pods.leave_out();
            }
            Kinds::Exchange => {
                lists.claims.leave_out();
                lists.exceptions.leave_out();
            }
        }
        lists
    }

    fn states(&self) -> [State; 9] {
        let Self {
            identities,
            accounts,
            suspensions,
            claims,
            exceptions,
            issuers,
            resources,
            policies,
            pods,
        } = self;
        [
            identities.state,
            accounts.state,
            suspensions.state,
            claims.state,
            exceptions.state,
            issuers.state,
            resources.state,
            policies.state,
            pods.state,
        ]
    }

    fn are_complete(&self) -> bool {
        self.states().iter().all(|state| state.complete)
    }

    fn wholeness(&self) -> Wholeness {
        let states = self.states();
        Wholeness {
            whole: states.iter().all(|state| state.whole),
            breaks: states.iter().map(|state| state.breaks).sum(),
        }
    }
}

/// The state of a watch.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Whether a list was ever complete.
    complete: bool,
    /// Whether the watch has delivered all since the last that was.
    whole: bool,
    breaks: u64,
}

/// A list on its way, and the state of its watch.
#[derive(Debug)]
pub struct List<T> {
    items: Vec<T>,
    state: State,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: vec![], state: State::default() }
    }
}

impl<T> List<T> {
    /// Nothing is watched, and nothing is missing.
    fn leave_out(&mut self) {
        self.state = State { complete: true, whole: true, breaks: 0 };
    }
}

impl<K: Indexed> List<K> {
    /// Puts what a watch delivered into `index`; returns whether a new snapshot was made.
    pub fn take(&mut self, index: &mut Index, event: Result<Event<K>, Broken>) -> bool {
        let Ok(event) = event else {
            // What was known is still the last that was.
            self.state.whole = false;
            self.state.breaks += 1;
            return false;
        };
        match event {
            Event::Apply(object) => object.apply(index),
            Event::Delete(object) => {
                K::delete(index, &object.namespace().unwrap_or_default(), &object.name_any());
            }
            Event::Init => self.items.clear(),
            Event::InitApply(object) if !object.is_kept() => {}
            Event::InitApply(object) => self.items.push(object),
            Event::InitDone => {
                (self.state.complete, self.state.whole) = (true, true);
                K::reset(index, std::mem::take(&mut self.items));
                return true;
            }
        }
        self.state.complete
    }
}

/// A kind the index is made from.
pub trait Indexed: Resource<DynamicType = ()> {
    /// Whether the index has a use for it. Whoever may create accounts may create many that are nobody's business here.
    fn is_kept(&self) -> bool {
        true
    }

    /// It appeared or changed.
    fn apply(self, index: &mut Index);
    /// It is gone.
    fn delete(index: &mut Index, namespace: &str, name: &str);
    /// The full list: what is not in it is gone.
    fn reset(index: &mut Index, all: Vec<Self>)
    where
        Self: Sized;
}

impl Indexed for DeserializeGuard<AgentIdentity> {
    fn apply(self, index: &mut Index) {
        index.apply_identity(self.into());
    }

    fn delete(index: &mut Index, namespace: &str, name: &str) {
        index.delete_identity(namespace, name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_identities(all.into_iter().map(Observed::from).collect());
    }
}

impl Indexed for DeserializeGuard<AgentSuspension> {
    fn apply(self, index: &mut Index) {
        index.apply_suspension(self.into());
    }

    fn delete(index: &mut Index, namespace: &str, name: &str) {
        index.delete_suspension(namespace, name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_suspensions(all.into_iter().map(Observed::from).collect());
    }
}

impl Indexed for DeserializeGuard<CredentialClaim> {
    fn apply(self, index: &mut Index) {
        index.apply_claim(self.into());
    }

    fn delete(index: &mut Index, _: &str, name: &str) {
        index.delete_claim(name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_claims(&all.into_iter().map(Observed::from).collect::<Vec<_>>());
    }
}

impl Indexed for DeserializeGuard<AgentException> {
    fn apply(self, index: &mut Index) {
        index.apply_exception(self.into());
    }

    fn delete(index: &mut Index, _namespace: &str, name: &str) {
        index.delete_exception(name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_exceptions(all.into_iter().map(Observed::from).collect());
    }
}

impl Indexed for DeserializeGuard<TrustedIssuer> {
    fn apply(self, index: &mut Index) {
        index.apply_issuer(&self.into());
    }

    fn delete(index: &mut Index, _namespace: &str, name: &str) {
        index.delete_issuer(name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_issuers(&all.into_iter().map(Observed::from).collect::<Vec<_>>());
    }
}

impl Indexed for DeserializeGuard<ProtectedResource> {
    fn apply(self, index: &mut Index) {
        index.apply_resource(&self.into());
    }

    fn delete(index: &mut Index, _namespace: &str, name: &str) {
        index.delete_resource(name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_resources(&all.into_iter().map(Observed::from).collect::<Vec<_>>());
    }
}

impl Indexed for DeserializeGuard<DelegationPolicy> {
    fn apply(self, index: &mut Index) {
        index.apply_policy(&self.into());
    }

    fn delete(index: &mut Index, namespace: &str, name: &str) {
        index.delete_policy(namespace, name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_policies(&all.into_iter().map(Observed::from).collect::<Vec<_>>());
    }
}

impl Indexed for Lean<Pod> {
    fn apply(self, index: &mut Index) {
        index.apply_pod(&self);
    }

    fn delete(index: &mut Index, namespace: &str, name: &str) {
        index.delete_pod(namespace, name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_pods(&all);
    }
}

impl Indexed for Lean<ServiceAccount> {
    fn is_kept(&self) -> bool {
        keeps_account(&self.name_any())
    }

    fn apply(self, index: &mut Index) {
        index.apply_account(&self);
    }

    fn delete(index: &mut Index, namespace: &str, name: &str) {
        index.delete_account(namespace, name);
    }

    fn reset(index: &mut Index, all: Vec<Self>) {
        index.reset_accounts(&all);
    }
}

/// A watch broke; a new list follows.
#[derive(Clone, Copy, Debug)]
pub struct Broken;

/// A watch that begins with a new list after every error, instead of going on from where it was: only a list shows that
/// nothing was missed meanwhile. Errors are logged and counted.
pub fn relisted<K>(
    api: Api<K>,
    config: watcher::Config,
    resource: &'static str,
    metrics: Arc<IndexMetrics>,
) -> impl Stream<Item = Result<Event<K>, Broken>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    enum State<K: Resource + Clone> {
        Open(BoxStream<'static, watcher::Result<Event<K>>>, Duration),
        Pausing(Duration),
    }
    let open = move || watcher(api.clone(), config.clone()).boxed();
    unfold(State::Pausing(Duration::ZERO), move |state| {
        let (open, metrics) = (open.clone(), Arc::clone(&metrics));
        async move {
            let (mut stream, mut pause) = match state {
                State::Open(stream, pause) => (stream, pause),
                State::Pausing(pause) => {
                    sleep(pause).await;
                    (open(), (2 * pause).clamp(FIRST_PAUSE, LONGEST_PAUSE))
                }
            };
            match stream.next().await? {
                Ok(event) => {
                    if matches!(event, Event::InitDone) {
                        pause = FIRST_PAUSE;
                    }
                    Some((Ok(event), State::Open(stream, pause)))
                }
                Err(error) => {
                    failed(resource, &error, &metrics);
                    Some((Err(Broken), State::Pausing(pause)))
                }
            }
        }
    })
}

fn failed(resource: &'static str, error: &watcher::Error, metrics: &IndexMetrics) {
    tracing::warn!(resource, %error, "watch failed and will be tried again");
    metrics.watch_failed(resource);
}

/// A watch's events without its errors: those are logged and counted, and the watch goes on after a pause that grows.
pub fn retried<T, S: Stream<Item = watcher::Result<T>>>(
    stream: S,
    resource: &'static str,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = T> + use<T, S> {
    let metrics = Arc::clone(metrics);
    stream.default_backoff().filter_map(move |item| {
        let event = item.inspect_err(|error| failed(resource, error, &metrics)).ok();
        std::future::ready(event)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ReservedAudiences, Standing};
    use serde_json::{Value, json};

    fn identity(name: &str, owner: &Value) -> DeserializeGuard<AgentIdentity> {
        serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": {"owner": owner},
            "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": 1},
        }))
        .unwrap()
    }

    fn named(name: &str) -> DeserializeGuard<AgentIdentity> {
        identity(name, &json!("o@example.com"))
    }

    fn known(index: &Index, name: &str) -> bool {
        index.snapshot().standing("ns", name) != Standing::Unknown
    }

    #[test]
    fn a_list_takes_effect_when_it_is_whole() {
        let mut index = Index::new(ReservedAudiences::default());
        let mut list = List::default();
        assert!(!list.take(&mut index, Ok(Event::Init)));
        assert!(!list.take(&mut index, Ok(Event::InitApply(named("a")))));
        assert!(!known(&index, "a"));
        // The list broke off and starts again: what it held so far may be gone.
        assert!(!list.take(&mut index, Ok(Event::Init)));
        assert!(!list.take(&mut index, Ok(Event::InitApply(named("b")))));
        assert!(list.take(&mut index, Ok(Event::InitDone)));
        assert!(list.state.complete && !known(&index, "a") && known(&index, "b"));

        assert!(list.take(&mut index, Ok(Event::Apply(named("c")))));
        assert!(list.take(&mut index, Ok(Event::Delete(named("b")))));
        assert!(known(&index, "c") && !known(&index, "b"));
        // During a later list the world stays as it was, and the watch still counts as synced.
        assert!(list.take(&mut index, Ok(Event::Init)) && known(&index, "c"));
        assert!(list.take(&mut index, Ok(Event::InitDone)) && !known(&index, "c"));
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_known_as_that() {
        let mut index = Index::new(ReservedAudiences::default());
        let unreadable = identity("a", &json!(["not", "a", "string"]));
        assert!(unreadable.0.is_err());
        List::default().take(&mut index, Ok(Event::Apply(unreadable)));
        assert!(matches!(index.snapshot().standing("ns", "a"), Standing::Invalid(_)));
    }

    #[test]
    fn accounts_come_and_go() {
        let mut index = Index::new(ReservedAudiences::default());
        let account: Lean<ServiceAccount> =
            serde_json::from_value(json!({"metadata": {"name": "default", "namespace": "ns", "uid": "x"}}))
                .unwrap();
        let mut list = List::default();
        list.take(&mut index, Ok(Event::Init));
        list.take(&mut index, Ok(Event::InitApply(account.clone())));
        assert!(list.take(&mut index, Ok(Event::InitDone)));
        assert!(index.snapshot().account("ns", "default").is_some());
        list.take(&mut index, Ok(Event::Delete(account)));
        assert_eq!(index.snapshot().account("ns", "default"), None);
    }
}
