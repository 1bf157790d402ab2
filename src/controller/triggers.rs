//! What makes an identity worth a look: itself, what is made for it, its pods. Several watches, one queue.

use super::{
    claims::declaring,
    context::Context,
    events::{self, Happening},
    identities::Guarded,
    pods::{Agent, Known, Pods},
};
use crate::{
    api::{
        AGENT_LABEL, ENFORCE_LABEL, GATED_ANNOTATION, IDENTITY_UID_ANNOTATION, MANAGED_BY_LABEL,
        lean::Lean,
        v1alpha1::{AgentSuspension, CredentialClaim},
    },
    identity::agent_of_account,
    metrics::IndexMetrics,
    runtime::{
        client::of_metadata,
        watch::{List, config, retried},
    },
};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        reflector::{ObjectRef, Store, reflector, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

type Triggers = Vec<ObjectRef<Guarded>>;

fn reference((namespace, name): &Agent) -> ObjectRef<Guarded> {
    ObjectRef::new(name).within(namespace)
}

fn everyone(known: &Store<Guarded>) -> Triggers {
    known.state().iter().map(|identity| ObjectRef::from_obj(identity.as_ref())).collect()
}

/// Identities that appeared or changed. One that went while its pods go on is told of, even if it went while the watch
/// was broken: a fresh list says nothing of what it does not hold.
pub(super) fn identities(
    client: Client,
    (known, writer): (Store<Guarded>, Writer<Guarded>),
    context: Arc<Context>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = Triggers> + use<> {
    let events = watcher(Api::<Guarded>::all(client), config());
    reflector_events(writer, retried(events, "agentidentities", metrics)).then(move |event| {
        let (context, known) = (Arc::clone(&context), known.clone());
        async move {
            context.claims.look();
            match event {
                Event::Apply(identity) | Event::InitApply(identity) => vec![ObjectRef::from_obj(&identity)],
                Event::Delete(identity) => {
                    let agent = (identity.namespace().unwrap_or_default(), identity.name_any());
                    gone(&agent, identity.meta().uid.as_ref(), &context).await;
                    vec![]
                }
                Event::Init => vec![],
                Event::InitDone => {
                    for agent in context.lost(&known) {
                        gone(&agent, None, &context).await;
                    }
                    vec![]
                }
            }
        }
    })
}

/// Keeps a store along with a stream of events that cannot fail any more.
fn reflector_events(
    writer: Writer<Guarded>,
    events: impl Stream<Item = Event<Guarded>>,
) -> impl Stream<Item = Event<Guarded>> {
    reflector(writer, events.map(Ok)).filter_map(|event: watcher::Result<_>| std::future::ready(event.ok()))
}

/// The account goes with its identity by owner reference; pods do not, and their tokens die with the account.
async fn gone(agent: &Agent, uid: Option<&String>, context: &Context) {
    context.forget(agent);
    let active = context.pods.lock().unwrap_or_else(PoisonError::into_inner).active(agent);
    if active > 0 {
        let regarding = events::reference(agent, uid);
        context.events.publish(&regarding, Happening::PodsOrphaned { active }).await;
    }
}

/// Agents' accounts that appeared, changed or went, whoever they belong to.
pub(super) fn accounts(
    client: &Client,
    known: Store<Guarded>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = Triggers> + use<> {
    named_for_agents::<ServiceAccount>(client, known, config(), "serviceaccounts", metrics)
}

/// Agents' ConfigMaps that appeared, changed or went. Of all those of the cluster only Deputy's own are watched.
pub(super) fn config_maps(
    client: &Client,
    known: Store<Guarded>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = Triggers> + use<> {
    let own = config().labels(&format!("{MANAGED_BY_LABEL}=deputy"));
    named_for_agents::<ConfigMap>(client, known, own, "configmaps", metrics)
}

/// Only the names of what is made for agents matter here, so only metadata is asked for; a fresh list after a break triggers
/// every identity, since a deletion may have been missed.
fn named_for_agents<K>(
    client: &Client,
    known: Store<Guarded>,
    config: watcher::Config,
    resource: &'static str,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = Triggers> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let api: Api<Lean<K>> = Api::all(of_metadata(client));
    retried(watcher(api, config), resource, metrics).map(move |event| match event {
        Event::Apply(made) | Event::Delete(made) => {
            let agent = made.meta().name.as_deref().and_then(agent_of_account);
            agent
                .map(|agent| (made.namespace().unwrap_or_default(), agent.to_owned()))
                .iter()
                .map(reference)
                .collect()
        }
        Event::Init | Event::InitApply(_) => vec![],
        Event::InitDone => everyone(&known),
    })
}

/// Everyone, each time the CAs that agents are to trust change.
pub(super) fn authorities(
    authorities: watch::Receiver<Option<Arc<str>>>,
    known: Store<Guarded>,
) -> impl Stream<Item = Triggers> {
    stream::unfold((authorities, known), |(mut authorities, known)| async move {
        authorities.changed().await.ok()?;
        Some((everyone(&known), (authorities, known)))
    })
}

/// Agents that were suspended or switched on again, and whether a full list of suspensions has been seen by then.
pub(super) fn suspensions(
    client: Client,
    known: Store<Guarded>,
    context: Arc<Context>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = (Triggers, bool)> + use<> {
    let api: Api<DeserializeGuard<AgentSuspension>> = Api::all(client);
    let events = retried(watcher(api, config()), "agentsuspensions", metrics);
    let mut list = List::default();
    events.map(move |event| {
        let complete = matches!(event, Event::InitDone);
        let is_part = matches!(event, Event::Init | Event::InitApply(_));
        let namespace = match &event {
            Event::Apply(suspension) | Event::Delete(suspension) => suspension.namespace(),
            Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        let mut index = context.suspensions.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = list.take(&mut index, Ok(event));
        // A list takes effect when it is whole.
        if is_part || !changed {
            return (vec![], false);
        }
        // Of the whole namespace, or after a list of the whole cluster: what nothing changed for costs one read.
        let mut triggers = everyone(&known);
        triggers.retain(|identity| namespace.is_none() || identity.namespace == namespace);
        (triggers, complete)
    })
}

/// Identities that may declare what a claim is on that appeared, changed or went, and whether a full list of claims has been
/// seen by then.
pub(super) fn claims(
    client: Client,
    known: Store<Guarded>,
    context: Arc<Context>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = (Triggers, bool)> + use<> {
    let api: Api<DeserializeGuard<CredentialClaim>> = Api::all(client);
    retried(watcher(api, config()), "credentialclaims", metrics).map(move |event| {
        let complete = matches!(event, Event::InitDone);
        let triggers = match context.claims.take(event) {
            None => declaring(&known, None),
            Some(subjects) => subjects.iter().flat_map(|subject| declaring(&known, Some(subject))).collect(),
        };
        (triggers, complete)
    })
}

/// Identities of namespaces that were labelled, or are no more, and whether a full list of them has been seen by then.
pub(super) fn namespaces(
    client: &Client,
    known: Store<Guarded>,
    context: Arc<Context>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = (Triggers, bool)> + use<> {
    let api: Api<Lean<Namespace>> = Api::all(of_metadata(client));
    let events = retried(watcher(api, config().labels(ENFORCE_LABEL)), "namespaces", metrics);
    events.map(move |event| {
        let complete = matches!(event, Event::InitDone);
        let concerned = context.claims.enforce(event);
        let mut triggers = declaring(&known, None);
        triggers.retain(|identity| concerned.is_none() || identity.namespace == concerned);
        (triggers, complete)
    })
}

/// Agents of whose active pods something changed that matters here, and whether a full list of pods has been seen by then.
pub(super) fn pods(
    client: Client,
    context: Arc<Context>,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = (Triggers, bool)> + use<> {
    let config = config().labels(AGENT_LABEL).fields("status.phase!=Succeeded,status.phase!=Failed");
    let api: Api<Lean<Pod>> = Api::all(of_metadata(&client));
    let events = retried(watcher(api, config), "pods", metrics);
    let mut listed = HashSet::new();
    events.map(move |event| {
        let mut pods = context.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = matches!(event, Event::InitDone);
        let changed = count(&mut pods, &mut listed, event);
        if !changed.is_empty() && context.claims.waits() {
            context.claims.look();
        }
        (changed.iter().map(reference).collect(), complete)
    })
}

fn count(pods: &mut Pods, listed: &mut HashSet<Agent>, event: Event<Lean<Pod>>) -> Vec<Agent> {
    let name = |pod: &Lean<Pod>| (pod.namespace().unwrap_or_default(), pod.name_any());
    match event {
        Event::Init => {
            listed.clear();
            vec![]
        }
        Event::InitDone => pods.retain(&std::mem::take(listed)),
        Event::Delete(pod) => {
            let (namespace, name) = name(&pod);
            pods.remove(&namespace, &name)
        }
        Event::InitApply(pod) => {
            listed.insert(name(&pod));
            count(pods, listed, Event::Apply(pod))
        }
        Event::Apply(pod) => {
            let (namespace, name) = name(&pod);
            let agent = pod.labels().get(AGENT_LABEL).filter(|_| pod.metadata.deletion_timestamp.is_none());
            let Some(agent) = agent else { return pods.remove(&namespace, &name) };
            let known = Known {
                uid: pod.uid().unwrap_or_default(),
                identity_uid: pod.annotations().get(IDENTITY_UID_ANNOTATION).cloned(),
                gated: pod.annotations().contains_key(GATED_ANNOTATION),
            };
            pods.put(&namespace, &name, agent, known)
        }
    }
}

/// One queue of all that is worth a look. What comes within `pause` of the first is one look: a Deployment of a hundred
/// pods is not a hundred writes. Counted from the first and not from the last, or a tenant whose pods come and go without
/// end would keep everybody from looking.
pub(super) fn queue(
    streams: Vec<stream::BoxStream<'static, Triggers>>,
    pause: Duration,
) -> impl Stream<Item = Result<ObjectRef<Guarded>, std::convert::Infallible>> {
    gathered(stream::select_all(streams).boxed(), pause).flat_map(stream::iter).map(Ok)
}

/// What `triggers` deliver, each once in `pause`.
fn gathered(
    triggers: stream::BoxStream<'static, Triggers>,
    pause: Duration,
) -> impl Stream<Item = HashSet<ObjectRef<Guarded>>> {
    stream::unfold(triggers, move |mut triggers| async move {
        let mut gathered = HashSet::new();
        while gathered.is_empty() {
            gathered.extend(triggers.next().await?);
        }
        let end = Instant::now() + pause;
        while let Ok(Some(more)) = timeout_at(end, triggers.next()).await {
            gathered.extend(more);
        }
        Some((gathered, triggers))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str) -> Lean<Pod> {
        let labels = json!({AGENT_LABEL: "a"});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "labels": labels}}))
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_triggers_without_end_keeps_nobody_from_looking() {
        let started = Instant::now();
        let endless = stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((vec![reference(&("ns".to_owned(), format!("a{}", n % 3)))], n + 1))
        });
        let looks: Vec<_> = gathered(endless.boxed(), Duration::from_millis(50)).take(4).collect().await;
        assert!(looks.iter().all(|look| look.len() == 3), "each once: {looks:?}");
        assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
    }

    #[test]
    fn a_list_is_remembered_for_as_long_as_it_is_on_its_way() {
        let agent = ("ns".to_owned(), "a".to_owned());
        let (mut pods, mut listed) = (Pods::default(), HashSet::new());
        for (events, active) in [
            (vec![Event::Init, Event::InitApply(pod("p")), Event::InitApply(pod("q")), Event::InitDone], 2),
            (vec![Event::Apply(pod("r"))], 3),
            (vec![Event::Init, Event::InitApply(pod("p")), Event::InitDone], 1),
            (vec![Event::Delete(pod("p"))], 0),
        ] {
            for event in events {
                count(&mut pods, &mut listed, event);
            }
            assert_eq!((pods.active(&agent), listed.len()), (active, 0));
        }
    }
}
