//! Who wins a credential, while one of the webhook's replicas sees the cluster late. What is asserted is read from the API
//! server's own record: the order of its watch.

use super::{Cut, webhooks};
use crate::{
    client::{PATIENCE, connect, created, eventually, pod, read},
    support::{Namespace, figure, kubectl},
};
use deputy::api::v1alpha1::{AgentIdentity, CredentialClaim};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

/// Declarations of one Secret, and hand-overs.
const RACES: usize = 200;
/// Requests under way.
const AT_ONCE: usize = 16;
/// How long a Secret is without a pod before both sides try again: enough for the controller to see that there is none.
const WITHOUT: Duration = Duration::from_millis(2500);

/// One replica of the webhook that loses its line to the API server for seven seconds of every ten: what it decides then
/// rests on what it saw before, and the freshness bound of eight seconds does not stop it.
struct LateReplica {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LateReplica {
    fn new() -> Self {
        let (ends, late) = (Arc::new(AtomicBool::new(false)), vec![webhooks().remove(0)]);
        let ended = ends.clone();
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let cut = Cut::of(late.clone());
                thread::sleep(Duration::from_secs(7));
                drop(cut);
                thread::sleep(Duration::from_secs(3));
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for LateReplica {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        eventually_ready();
    }
}

fn eventually_ready() {
    let status =
        ["-n", crate::support::SYSTEM, "rollout", "status", "deployment/deputy-webhook", "--timeout=90s"];
    kubectl(&status).accepted();
}

/// The pods there were, in the order in which the API server stored them.
struct Record {
    stop: oneshot::Sender<()>,
    reading: tokio::task::JoinHandle<Seen>,
}

/// What the record says.
#[derive(Default)]
struct Seen {
    /// Live pods by Secret, as agent and name.
    live: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Pods there were.
    pods: usize,
    /// Moments at which pods of two agents could use one Secret.
    shared: Vec<String>,
}

impl Seen {
    fn stored(&mut self, event: &WatchEvent<Pod>) {
        let (pod, stays) = match event {
            WatchEvent::Added(pod) => {
                self.pods += 1;
                (pod, true)
            }
            WatchEvent::Modified(pod) => (pod, true),
            WatchEvent::Deleted(pod) => (pod, false),
            WatchEvent::Bookmark(_) => return,
            WatchEvent::Error(error) => panic!("the record has a gap: {error:?}"),
        };
        let spec = pod.spec.as_ref().unwrap();
        let agent = spec.service_account_name.clone().unwrap();
        for secret in spec.volumes.iter().flatten().filter_map(|v| v.secret.as_ref()?.secret_name.clone()) {
            let users = self.live.entry(secret.clone()).or_default();
            if stays {
                users.insert((agent.clone(), pod.name_any()));
            } else {
                users.remove(&(agent.clone(), pod.name_any()));
            }
            let agents: BTreeSet<_> = users.iter().map(|(agent, _)| agent).collect();
            if agents.len() > 1 {
                self.shared.push(format!("{secret}: {users:?} at {:?}", pod.resource_version()));
            }
        }
    }
}

impl Record {
    async fn begin(pods: Api<Pod>) -> Self {
        let from = pods.list_metadata(&ListParams::default()).await.unwrap();
        let mut version = from.metadata.resource_version.unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let reading = tokio::spawn(async move {
            let mut seen = Seen::default();
            loop {
                let params = WatchParams::default().timeout(60);
                let mut events = pods.watch(&params, &version).await.unwrap().boxed();
                loop {
                    let event = tokio::select! {
                        event = events.try_next() => event.unwrap(),
                        _ = &mut stopped => return seen,
                    };
                    let Some(event) = event else { break };
                    seen.stored(&event);
                    if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) =
                        &event
                    {
                        version = pod.resource_version().unwrap();
                    }
                }
            }
        });
        Self { stop, reading }
    }

    /// Ends it, and says what was seen; nobody shared anything.
    async fn ended(self) -> Seen {
        self.stop.send(()).unwrap();
        let seen = self.reading.await.unwrap();
        assert!(seen.shared.is_empty(), "shared {} times: {:#?}", seen.shared.len(), seen.shared.first());
        seen
    }
}

/// A namespace with its clients.
struct World {
    ns: Namespace,
    identities: Api<AgentIdentity>,
    claims: Api<CredentialClaim>,
    pods: Api<Pod>,
    permits: AtomicUsize,
}

impl World {
    async fn new(secrets: impl Iterator<Item = String>) -> Self {
        let client = Client::try_from(connect().await).unwrap();
        let ns = Namespace::new();
        kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=agents"]).accepted();
        let api: Api<Secret> = Api::namespaced(client.clone(), &ns.0);
        each(secrets, async |name| {
            created(&api, json!({"metadata": {"name": name}, "stringData": {"password": "a-word"}})).await;
        })
        .await;
        Self {
            identities: Api::namespaced(client.clone(), &ns.0),
            claims: Api::all(client.clone()),
            pods: Api::namespaced(client, &ns.0),
            permits: AtomicUsize::new(0),
            ns,
        }
    }

    async fn declares(&self, agent: &str, secret: &str) {
        let credential = json!({"name": "c", "type": "Secret", "reason": "r", "expirationTime": "2099-01-01T00:00:00Z",
            "secret": {"secretName": secret, "keys": ["password"], "delivery": "File"}});
        let identity = json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "metadata": {"name": agent},
            "spec": {"owner": "o@example.com", "credentials": [credential]},
        });
        created(&self.identities, identity).await;
    }

    /// Tries to start a pod of the agent's with the Secret; never scheduled, for it is the commit that counts. Returns
    /// its name.
    async fn uses(&self, agent: &str, secret: &str) -> Option<String> {
        let name = format!("{agent}-{}", self.permits.fetch_add(1, Ordering::Relaxed));
        let items = json!([{"key": "password", "path": "password"}]);
        let volumes = json!([{"name": "s", "secret": {"secretName": secret, "items": items}}]);
        let mut pod = pod(&name, agent, &json!({"schedulerName": "nobody", "volumes": volumes}));
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "s", "mountPath": "/s"}]);
        self.pods.create(&PostParams::default(), &read(pod)).await.is_ok().then_some(name)
    }

    /// The holders of claims on Secrets of this namespace, by Secret.
    async fn holders(&self) -> BTreeMap<String, String> {
        let claims = self.claims.list(&ListParams::default()).await.unwrap();
        let holder = |claim: CredentialClaim| {
            let secret = claim.spec.subject.secret.filter(|secret| secret.namespace == self.ns.0)?;
            claim.spec.released_time.is_none().then_some((secret.name, claim.spec.holder.name))
        };
        claims.into_iter().filter_map(holder).collect()
    }

    /// How many identities have this reason in their condition `CredentialsClaimed`.
    async fn standing(&self, reason: &str) -> usize {
        let identities = self.identities.list(&ListParams::default()).await.unwrap();
        let claimed = |identity: &AgentIdentity| {
            let conditions = identity.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|c| c.type_ == "CredentialsClaimed" && c.reason == reason)
        };
        identities.iter().filter(|identity| claimed(identity)).count()
    }
}

/// Does something for each, some at once.
async fn each<T>(all: impl Iterator<Item = T>, what: impl AsyncFn(T)) {
    let what = &what;
    stream::iter(all).for_each_concurrent(AT_ONCE, |one| what(one)).await;
}

/// Of two hundred that declare one Secret at once, one has it, and nobody else's pod ever does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_declare_a_secret_at_once_one_has_it() {
    let world = World::new(["one".to_owned()].into_iter()).await;
    let record = Record::begin(world.pods.clone()).await;
    let late = LateReplica::new();
    let since = Instant::now();
    each(0..RACES, async |n| {
        let agent = format!("a{n}");
        world.declares(&agent, "one").await;
        world.uses(&agent, "one").await;
    })
    .await;
    let declared = since.elapsed();
    each(0..RACES, async |n| drop(world.uses(&format!("a{n}"), "one").await)).await;
    eventually("every other one is told who has it", || async {
        (world.standing("HeldByAnother").await == RACES - 1).then_some(())
    })
    .await;
    let told = since.elapsed();
    drop(late);
    let holders = world.holders().await;
    assert_eq!(holders.len(), 1, "{holders:?}");
    let holder = &holders["one"];
    assert!(world.uses(holder, "one").await.is_some());
    let seen = record.ended().await;
    let users = &seen.live["one"];
    assert!(users.iter().all(|(account, _)| *account == format!("agent.{holder}")), "{users:?}");
    figure(&format!(
        "{RACES} declarations of one Secret in {:.1} s, one holder, all others told after {:.1} s; {} pods, none shared",
        declared.as_secs_f64(),
        told.as_secs_f64(),
        seen.pods
    ));
}

/// Two hundred Secrets change hands while both sides go on making pods and the old ones end one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hand_overs_at_once_share_nothing() {
    let secret = |n: usize| format!("s{n}");
    let (old, new) = (|n: usize| format!("old{n}"), |n: usize| format!("new{n}"));
    let world = World::new((0..RACES).map(secret)).await;
    let record = Record::begin(world.pods.clone()).await;
    each(0..RACES, async |n| world.declares(&old(n), &secret(n)).await).await;
    eventually("each holds its own", || async { (world.holders().await.len() == RACES).then_some(()) }).await;
    each(0..RACES, async |n| {
        eventually("the pod starts", || async { world.uses(&old(n), &secret(n)).await }).await;
        world.declares(&new(n), &secret(n)).await;
    })
    .await;

    let late = LateReplica::new();
    let (since, admitted_late) = (Instant::now(), AtomicUsize::new(0));
    let one = async |n: usize| {
        let began = since + Duration::from_millis(100 * n as u64);
        tokio::time::sleep_until(began).await;
        let given_up = json!({"spec": {"credentials": []}});
        world.identities.patch(&old(n), &PatchParams::default(), &Patch::Merge(&given_up)).await.unwrap();
        // The sooner no pod is left, the more it is the quiet period alone that keeps the next one waiting.
        let lives = Duration::from_secs((n as u64 * 7) % 30).saturating_sub(Duration::from_secs(10));
        let mut handed_over = None;
        loop {
            if began.elapsed() > lives {
                end_pods(&world.pods, &format!("agent.{}", old(n))).await;
            }
            sleep(WITHOUT).await;
            if handed_over.is_none() && world.uses(&new(n), &secret(n)).await.is_some() {
                handed_over = Some(began.elapsed());
            }
            if world.uses(&old(n), &secret(n)).await.is_some() {
                admitted_late.fetch_add(1, Ordering::Relaxed);
            } else if let Some(handed_over) = handed_over {
                return handed_over;
            }
            assert!(began.elapsed() < 2 * PATIENCE, "{} never had its turn", new(n));
        }
    };
    let mut took: Vec<_> = stream::iter(0..RACES).map(one).buffer_unordered(RACES).collect().await;
    drop(late);
    took.sort();
    let holders = world.holders().await;
    assert!((0..RACES).all(|n| holders.get(&secret(n)) == Some(&new(n))), "{holders:?}");
    let seen = record.ended().await;
    figure(&format!(
        "{RACES} hand-overs: p50 {:.1} s, max {:.1} s; {} pods, of them {} let through for who had given up, none shared",
        took[RACES / 2].as_secs_f64(),
        took[RACES - 1].as_secs_f64(),
        seen.pods,
        admitted_late.into_inner()
    ));
}

async fn end_pods(pods: &Api<Pod>, account: &str) {
    let of = ListParams::default().fields(&format!("spec.serviceAccountName={account}"));
    pods.delete_collection(&DeleteParams::default(), &of).await.unwrap();
}

/// The record is worth something only if it would show it.
#[test]
fn the_record_shows_who_shares() {
    let event = |type_: &str, agent: &str| -> WatchEvent<Pod> {
        let volumes: Value = json!([{"name": "s", "secret": {"secretName": "one"}}]);
        let spec = json!({"serviceAccountName": agent, "containers": [], "volumes": volumes});
        read(json!({"type": type_, "object": {"kind": "Pod", "apiVersion": "v1", "spec": spec,
            "metadata": {"name": agent, "resourceVersion": "1"}}}))
    };
    let mut seen = Seen::default();
    for (type_, agent) in
        [("ADDED", "agent.a"), ("DELETED", "agent.a"), ("ADDED", "agent.b"), ("MODIFIED", "agent.b")]
    {
        seen.stored(&event(type_, agent));
    }
    assert!(seen.shared.is_empty(), "{:?}", seen.shared);
    seen.stored(&event("ADDED", "agent.a"));
    assert_eq!((seen.shared.len(), seen.pods), (1, 3));
}
