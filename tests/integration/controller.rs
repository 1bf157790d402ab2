//! The controller against an API server that answers by a script; time is tokio's, and paused.

use crate::apiserver::{Answer, ApiServer, Asked, failure};
use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use deputy::{
    controller::{self, Config},
    index::Declarable,
    metrics::{ControllerMetrics, IndexMetrics, Metrics, Role},
    runtime::admin,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};
use tower::ServiceExt as _;

const CREATE: &str = "POST serviceaccounts";
const UPDATE: &str = "PUT serviceaccounts";
const STATUS: &str = "PATCH agentidentities/status";
const EVENT: &str = "POST events";
const EVICT: &str = "POST pods/eviction";
const DELETE: &str = "DELETE pods";

/// Runs a controller for as long as `script` goes on; returns its metrics.
async fn play(server: &ApiServer, script: impl Future<Output = ()>) -> String {
    play_with(server, None, script).await
}

/// As [`play`], with a broker where there are `authorities`.
pub(crate) async fn play_with(
    server: &ApiServer,
    authorities: Option<watch::Receiver<Option<Arc<str>>>>,
    script: impl Future<Output = ()>,
) -> String {
    let mut metrics = Metrics::new(Role::Controller);
    let config = Config {
        trust_domain: "cluster.local".parse().unwrap(),
        declarable: Declarable::default(),
        authorities,
        claim_quiet: Duration::from_secs(71),
        instance: "test".to_owned(),
    };
    let (own, watches) = (ControllerMetrics::register(&mut metrics), IndexMetrics::register(&mut metrics));
    let (synced, _keep) = watch::channel(false);
    tokio::select! {
        () = controller::run(server.client(), config, own, watches, synced) => panic!("the controller ended"),
        () = script => {}
    }
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = admin::router(metrics, vec![]).oneshot(request).await.unwrap();
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

/// Long enough for anything that is not a pause after a failure.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(500)).await;
}

/// Longer than the longest pause after a failure.
pub(crate) async fn long() {
    sleep(Duration::from_secs(300)).await;
}

pub(crate) fn identity() -> Value {
    json!({
        "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": {"owner": "o@example.com"},
        "metadata": {"name": "a", "namespace": "ns", "generation": 1},
    })
}

/// A server that holds one new identity.
pub(crate) fn new_identity() -> ApiServer {
    let server = ApiServer::default();
    server.put("agentidentities", identity());
    server
}

/// A server whose one identity has all it needs.
async fn settled() -> ApiServer {
    let server = new_identity();
    play(&server, settle()).await;
    assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    server.asked();
    server
}

/// What was asked but reads, in order.
pub(crate) fn writes(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.what.as_str()).filter(|what| !what.starts_with("GET")).collect()
}

fn events(asked: &[Asked]) -> Vec<&str> {
    let events = asked.iter().filter(|asked| asked.what == EVENT);
    events.map(|event| event.body["reason"].as_str().unwrap()).collect()
}

pub(crate) fn condition(server: &ApiServer, type_: &str) -> Value {
    let identity = server.get("agentidentities", "a").unwrap();
    let conditions = identity["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == type_).unwrap_or_default()
}

/// Status and reason of Ready.
pub(crate) fn ready(server: &ApiServer) -> (String, String) {
    let ready = condition(server, "Ready");
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

pub(crate) fn count(metrics: &str, sample: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

pub(crate) fn errors(metrics: &str) -> u64 {
    count(metrics, "deputy_reconciles_total{result=\"error\"}")
}

fn suspension_uid(server: &ApiServer) -> Value {
    server.get("agentsuspensions", "s").unwrap()["metadata"]["uid"].clone()
}

/// How many identities the metrics count.
fn known(metrics: &str) -> u64 {
    ["False", "True"]
        .map(|status| {
            count(metrics, &format!("deputy_identities{{condition=\"Ready\",status=\"{status}\"}}"))
        })
        .iter()
        .sum()
}

fn quota(used: usize) -> Answer {
    failure(
        403,
        "Forbidden",
        &format!("serviceaccounts \"agent.a\" is forbidden: exceeded quota: q, used: {used}"),
    )
}

fn terminating() -> Answer {
    let (code, mut status) = failure(403, "Forbidden", "namespace ns is being terminated");
    status["details"] =
        json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
    (code, status)
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_is_one_account_one_event_one_status() {
    let server = new_identity();
    let metrics = play(&server, long()).await;
    let asked = server.asked();
    assert_eq!(writes(&asked), [CREATE, EVENT, STATUS]);
    assert_eq!(events(&asked), ["AccountCreated"]);
    assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    let uid = server.get("serviceaccounts", "agent.a").unwrap()["metadata"]["uid"].clone();
    assert_eq!(server.get("agentidentities", "a").unwrap()["status"]["serviceAccount"]["uid"], uid);
    assert_eq!((errors(&metrics), known(&metrics)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_changed_is_nothing_asked() {
    let server = settled().await;
    play(&server, async {
        settle().await;
        assert_eq!(writes(&server.asked()), [""; 0], "a new controller finds all as it should be");
        sleep(Duration::from_secs(24 * 3600)).await;
        assert_eq!(server.asked().len(), 0, "and then nothing is polled");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn drift_is_one_update_and_one_event() {
    let server = settled().await;
    let declared = server.get("serviceaccounts", "agent.a").unwrap();
    play(&server, async {
        settle().await;
        let mut drifted = declared.clone();
        drifted["automountServiceAccountToken"] = true.into();
        server.put("serviceaccounts", drifted);
        long().await;
    })
    .await;
    let asked = server.asked();
    assert_eq!(writes(&asked), [UPDATE, EVENT]);
    assert_eq!(events(&asked), ["DriftHealed"]);
    assert_eq!(server.get("serviceaccounts", "agent.a").unwrap()["automountServiceAccountToken"], false);
}

#[tokio::test(start_paused = true)]
async fn an_account_of_others_is_never_written() {
    let server = new_identity();
    server.put("serviceaccounts", json!({"metadata": {"name": "agent.a", "namespace": "ns"}}));
    play(&server, async {
        long().await;
        let asked = server.asked();
        assert_eq!(writes(&asked), [STATUS, EVENT]);
        assert_eq!(events(&asked), ["AccountTaken"]);
        assert_eq!(ready(&server), ("False".into(), "AccountTaken".into()));
        server.delete("serviceaccounts", "agent.a");
        settle().await;
        assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_account_is_told_of_and_tried_ever_more_rarely() {
    let server = new_identity();
    server.script_always(CREATE, quota(3));
    let metrics = play(&server, async {
        settle().await;
        let asked = server.asked();
        assert_eq!(writes(&asked), [CREATE, STATUS, EVENT], "its own status write is no reason to ask again");
        assert_eq!(events(&asked), ["AccountRefused"]);
        assert_eq!(ready(&server), ("False".into(), "AccountRefused".into()));
        let stalled = condition(&server, "Stalled");
        assert_eq!((&stalled["status"], &stalled["reason"]), (&"True".into(), &"AccountRefused".into()));
        assert!(stalled["message"].as_str().unwrap().ends_with("exceeded quota: q, used: 3"), "{stalled}");

        sleep(Duration::from_secs(600)).await;
        let asked = server.asked();
        assert!(writes(&asked).iter().all(|what| *what == CREATE), "{:?}", writes(&asked));
        let at: Vec<_> = asked.iter().filter(|asked| asked.what == CREATE).map(|asked| asked.at).collect();
        assert!((10..30).contains(&at.len()), "{at:?}");
        assert!(at[1] - at[0] < Duration::from_secs(8) && at[9] - at[8] >= Duration::from_secs(30), "{at:?}");

        server.script(CREATE, []);
        sleep(Duration::from_secs(90)).await;
        assert_eq!(writes(&server.asked()), [CREATE, EVENT, STATUS]);
        assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
        assert_eq!(condition(&server, "Stalled")["status"], "False");
    })
    .await;
    assert_eq!(errors(&metrics), 0);
    assert!(count(&metrics, "deputy_reconciles_total{result=\"refused\"}") >= 10);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_always_differs_does_not_chase_itself() {
    let server = new_identity();
    server.script(CREATE, (0..1000).map(quota));
    play(&server, sleep(Duration::from_secs(600))).await;
    let asked = server.asked();
    let creates = writes(&asked).iter().filter(|what| **what == CREATE).count();
    assert!((10..30).contains(&creates), "{creates}");
    assert_eq!(events(&asked), ["AccountRefused"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_identity_is_tried_at_once_after_a_refusal() {
    let server = new_identity();
    server.script_always(CREATE, quota(3));
    play(&server, async {
        sleep(Duration::from_secs(600)).await;
        server.script(CREATE, []);
        let mut changed = server.get("agentidentities", "a").unwrap();
        changed["metadata"]["generation"] = 2.into();
        server.put("agentidentities", changed);
        settle().await;
        assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_repair_keeps_the_account_in_the_status() {
    let server = settled().await;
    let mut drifted = server.get("serviceaccounts", "agent.a").unwrap();
    drifted["automountServiceAccountToken"] = true.into();
    server.put("serviceaccounts", drifted);
    server.script_always(UPDATE, failure(422, "Invalid", "no"));
    play(&server, async {
        settle().await;
        assert_eq!(writes(&server.asked()), [UPDATE, STATUS, EVENT]);
        assert_eq!(ready(&server), ("False".into(), "AccountRefused".into()));
        let status = server.get("agentidentities", "a").unwrap()["status"].clone();
        assert_eq!(status["serviceAccount"]["name"], "agent.a");
        server.script(UPDATE, []);
        long().await;
        assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_on_the_status_is_tried_again() {
    let server = new_identity();
    // More than one, so that it is not the account's own event that helps.
    server.script(STATUS, (0..3).map(|_| failure(409, "Conflict", "the object has been modified")));
    let metrics = play(&server, long()).await;
    let asked = server.asked();
    assert_eq!(writes(&asked), [CREATE, EVENT, STATUS, STATUS, STATUS, STATUS]);
    assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    assert_eq!(errors(&metrics), 3);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_and_not_told_in_the_status() {
    let server = new_identity();
    server.script(CREATE, (0..5).map(|_| failure(500, "InternalError", "failed calling webhook")));
    let metrics = play(&server, long()).await;
    let asked = server.asked();
    assert_eq!(writes(&asked), [CREATE, CREATE, CREATE, CREATE, CREATE, CREATE, EVENT, STATUS]);
    let at: Vec<_> = asked.iter().filter(|asked| asked.what == CREATE).map(|asked| asked.at).collect();
    assert!(at[1] - at[0] < Duration::from_secs(3) && at[5] - at[4] > Duration::from_secs(12), "{at:?}");
    assert_eq!(errors(&metrics), 5);
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_status_as_it_was() {
    let server = settled().await;
    let before = server.get("agentidentities", "a").unwrap()["status"].clone();
    server.script_always("GET serviceaccounts", failure(500, "InternalError", "etcd is away"));
    play(&server, long()).await;
    assert_eq!(writes(&server.asked()), [""; 0]);
    assert_eq!(server.get("agentidentities", "a").unwrap()["status"], before);
}

#[tokio::test(start_paused = true)]
async fn an_identity_deleted_meanwhile_is_no_error() {
    let server = new_identity();
    server.goes_at(CREATE, "agentidentities", "a");
    let metrics = play(&server, long()).await;
    assert_eq!(writes(&server.asked()), [CREATE, EVENT, STATUS]);
    assert_eq!(errors(&metrics), 0);
    assert_eq!(known(&metrics), 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_whose_deletion_was_missed_is_forgotten_and_its_pods_are_told_of() {
    let server = settled().await;
    let labels = json!({"deputy.dev/agent": "a"});
    server.put("pods", json!({"metadata": {"name": "p", "namespace": "ns", "labels": labels}}));
    let metrics = play(&server, async {
        settle().await;
        server.asked();
        server.delete_unseen("agentidentities", "a");
        long().await;
    })
    .await;
    let asked = server.asked();
    assert_eq!((writes(&asked), events(&asked)), (vec![EVENT], vec!["AgentPodsOrphaned"]));
    assert_eq!(known(&metrics), 0);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_suspended_agent_wait_until_the_suspension_is_gone() {
    const LIFT: &str = "PATCH pods";
    let server = settled().await;
    let labels = json!({"deputy.dev/agent": "a"});
    let metadata = json!({"name": "p", "namespace": "ns", "labels": labels, "annotations": {"deputy.dev/gated": "true"}});
    let gated = json!({"metadata": metadata});
    server.script_always(LIFT, (200, gated.clone()));
    server.put("agentsuspensions", suspension("Delete"));
    server.put("pods", gated);
    let before = server.get("serviceaccounts", "agent.a").unwrap()["metadata"]["uid"].clone();
    play(&server, async {
        long().await;
        let asked = server.asked();
        // The account is replaced, once, and the tokens issued for it are dead.
        assert_eq!(writes(&asked), [STATUS, EVENT, "DELETE serviceaccounts", CREATE, STATUS]);
        let since = |what: &str| asked.iter().find(|asked| asked.what == what).unwrap().at;
        let told = since(STATUS);
        assert!(since("DELETE serviceaccounts") - told > Duration::from_millis(800), "after policies know of it");
        assert_eq!(events(&asked), ["Suspended"]);
        let account = server.get("serviceaccounts", "agent.a").unwrap();
        assert_ne!(account["metadata"]["uid"], before);
        assert_eq!(account["metadata"]["annotations"]["deputy.dev/suspension-uid"], suspension_uid(&server));
        assert_eq!(ready(&server), ("False".into(), "Suspended".into()));
        let suspended = condition(&server, "Suspended");
        assert_eq!(suspended["message"], "suspended by \"dana\" with AgentSuspension \"s\": INC-1");
        let pods = &server.get("agentidentities", "a").unwrap()["status"]["pods"];
        assert_eq!(pods, &json!({"active": 0, "gated": 1}));

        server.delete("agentsuspensions", "s");
        settle().await;
        let asked = server.asked();
        // Again after its own status, since this server does not show what the patch did: a second one changes nothing.
        assert_eq!(writes(&asked), [LIFT, STATUS, LIFT]);
        assert_eq!(asked.iter().find(|asked| asked.what == LIFT).unwrap().body["spec"]["schedulingGates"][0]["$patch"], "delete");
        assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    })
    .await;
}

/// A suspension of every agent, since second 100.
pub(crate) fn suspension(pods: &str) -> Value {
    json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension",
        "metadata": {"name": "s", "namespace": "ns", "creationTimestamp": "1970-01-01T00:01:40Z"},
        "spec": {"reason": "INC-1", "requestedBy": "dana", "pods": pods}})
}

/// A pod that was given its node at this second, of an identity with this uid.
fn pod(name: &str, bound: i64, identity_uid: &Value) -> Value {
    let at = format!("1970-01-01T00:{:02}:{:02}Z", bound / 60, bound % 60);
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": at});
    json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {"deputy.dev/agent": "a"},
            "annotations": {"deputy.dev/identity-uid": identity_uid}},
        "spec": {"serviceAccountName": "agent.a", "terminationGracePeriodSeconds": 3},
        "status": {"phase": "Running", "conditions": [scheduled]},
    })
}

fn identity_uid(server: &ApiServer) -> Value {
    server.get("agentidentities", "a").unwrap()["metadata"]["uid"].clone()
}

/// Names of the pods that are left.
fn left(server: &ApiServer, names: &[String]) -> Vec<String> {
    names.iter().filter(|name| server.get("pods", name).is_some()).cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_suspended_agent_are_evicted_before_anything_else() {
    let server = settled().await;
    let uid = identity_uid(&server);
    // More than a page holds.
    let names: Vec<_> = (0..12).map(|n| format!("p{n}")).collect();
    for name in &names {
        server.put("pods", pod(name, 1, &uid));
    }
    let (mut done, mut other) = (pod("done", 1, &uid), pod("other", 1, &uid));
    done["status"]["phase"] = "Succeeded".into();
    // The watch of this server knows no phases.
    done["metadata"]["labels"] = json!({});
    other["spec"]["serviceAccountName"] = "agent.b".into();
    other["metadata"]["labels"]["deputy.dev/agent"] = "b".into();
    server.put("pods", done);
    server.put("pods", other);
    let metrics = play(&server, async {
        settle().await;
        assert_eq!(writes(&server.asked()), [STATUS], "their number");
        server.put("agentsuspensions", suspension("Delete"));
        settle().await;
    })
    .await;
    let asked = server.asked();
    let mut expected = vec![EVICT; 12];
    expected.extend([EVENT, STATUS, EVENT]);
    assert_eq!(writes(&asked)[..15], expected);
    assert_eq!(asked.iter().filter(|asked| asked.what == "GET pods list").count(), 3);
    assert_eq!(events(&asked), ["PodsEnded", "Suspended"]);
    assert_eq!(asked[1].body["deleteOptions"]["gracePeriodSeconds"], 3, "{:?}", asked[1]);
    assert_eq!(left(&server, &names), [""; 0]);
    assert!(server.get("pods", "done").is_some() && server.get("pods", "other").is_some());
    assert_eq!(count(&metrics, r#"deputy_pods_ended_total{cause="suspension",way="evicted"}"#), 12);
}

/// A disruption budget answers 429; an API server that hangs, nothing; a policy that has not heard of the suspension, 403.
#[tokio::test(start_paused = true)]
async fn a_pod_whose_eviction_does_not_go_through_is_deleted() {
    let budget =
        failure(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.");
    let forbidden = failure(403, "Forbidden", "no params found");
    let two_budgets = failure(500, "InternalError", "This pod has more than one PodDisruptionBudget");
    for (answer, evictions) in
        [(budget, 1..2), (two_budgets, 1..2), (forbidden, 5..20), (terminating(), 1..2)]
    {
        let server = settled().await;
        server.script_always(EVICT, answer);
        server.put("pods", pod("p", 1, &identity_uid(&server)));
        server.put("agentsuspensions", suspension("Delete"));
        let metrics = play(&server, async {
            sleep(Duration::from_secs(3)).await;
        })
        .await;
        let asked = server.asked();
        let tries = writes(&asked).iter().filter(|what| **what == EVICT).count();
        assert!(evictions.contains(&tries), "{tries}");
        assert_eq!(writes(&asked)[tries], DELETE);
        assert_eq!(server.get("pods", "p"), None);
        assert_eq!(count(&metrics, r#"deputy_pods_ended_total{cause="suspension",way="deleted"}"#), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_eviction_that_is_forbidden_for_a_moment_is_tried_again() {
    let server = settled().await;
    server.script(EVICT, [failure(403, "Forbidden", "no params found")]);
    server.put("pods", pod("p", 1, &identity_uid(&server)));
    server.put("agentsuspensions", suspension("Delete"));
    play(&server, settle()).await;
    assert_eq!(writes(&server.asked())[..2], [EVICT, EVICT]);
    assert_eq!(server.get("pods", "p"), None);
}

#[tokio::test(start_paused = true)]
async fn pods_are_ended_whatever_else_fails_and_until_they_are() {
    let server = settled().await;
    server.script_always("GET serviceaccounts", failure(500, "InternalError", "etcd is away"));
    server.script_always(EVICT, failure(500, "InternalError", "no"));
    server.script(DELETE, [failure(500, "InternalError", "no")]);
    let uid = identity_uid(&server);
    server.put("pods", pod("p", 1, &uid));
    server.put("pods", pod("q", 1, &uid));
    server.put("agentsuspensions", suspension("Delete"));
    play(&server, long()).await;
    assert_eq!(writes(&server.asked())[..4], [EVICT, EVICT, DELETE, DELETE], "one does not save the other");
    assert_eq!(left(&server, &["p".into(), "q".into()]), [""; 0]);
}

/// What slips in goes in both modes, for as long as the suspension lasts, and also if the controller was not there.
#[tokio::test(start_paused = true)]
async fn retain_keeps_what_ran_and_ends_what_slipped_in() {
    let server = settled().await;
    let uid = identity_uid(&server);
    server.put("pods", pod("ran", 1, &uid));
    server.put("agentsuspensions", suspension("Retain"));
    play(&server, async {
        long().await;
        let asked = server.asked();
        assert_eq!(writes(&asked), [STATUS, EVENT, "DELETE serviceaccounts", CREATE, STATUS]);
        assert_eq!(asked.iter().filter(|asked| asked.what == "GET pods list").count(), 1, "looked at once");
        server.put("pods", pod("slipped", 130, &uid));
        let mut unbound = pod("unbound", 1, &uid);
        unbound["status"]["conditions"] = json!([]);
        server.put("pods", unbound);
        settle().await;
        assert_eq!(events(&server.asked()), ["PodsEnded"]);
        let all = ["ran", "slipped", "unbound"].map(str::to_owned);
        assert_eq!(left(&server, &all), ["ran"]);
    })
    .await;
    server.put("pods", pod("slipped", 130, &uid));
    play(&server, settle()).await;
    assert_eq!(left(&server, &["ran".to_owned(), "slipped".to_owned()]), ["ran"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_an_identity_that_is_gone_does_not_become_its_successors() {
    let server = settled().await;
    let uid = identity_uid(&server);
    server.put("pods", pod("old", 1, &json!("gone")));
    server.put("pods", pod("own", 1, &uid));
    let metrics = play(&server, settle()).await;
    let asked = server.asked();
    assert_eq!((writes(&asked)[0], events(&asked)), (DELETE, vec!["PodsEnded"]));
    assert_eq!(left(&server, &["old".to_owned(), "own".to_owned()]), ["own"]);
    assert_eq!(count(&metrics, r#"deputy_pods_ended_total{cause="succession",way="deleted"}"#), 1);

    // The successor's pod may be seen before the successor: then it is the identity we know that is gone.
    let server = settled().await;
    let mut successor = server.get("agentidentities", "a").unwrap();
    successor["metadata"]["uid"] = "successor".into();
    server.script_always("GET agentidentities", (200, successor));
    server.put("pods", pod("new", 1, &json!("successor")));
    play(&server, long()).await;
    assert_eq!(left(&server, &["new".to_owned()]), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_being_terminated_is_left_in_peace() {
    let server = settled().await;
    let before = server.get("agentidentities", "a").unwrap();
    server.script_always(CREATE, terminating());
    let metrics = play(&server, async {
        settle().await;
        server.delete("serviceaccounts", "agent.a");
        long().await;
        assert_eq!(writes(&server.asked()), [CREATE]);
        assert_eq!(server.get("agentidentities", "a").unwrap(), before);
        server.delete("agentidentities", "a");
        long().await;
    })
    .await;
    assert_eq!(server.asked().len(), 0);
    assert_eq!(errors(&metrics), 0);
    assert_eq!(count(&metrics, "deputy_reconciles_total{result=\"refused\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_identity_on_its_way_out_gets_no_account() {
    let server = ApiServer::default();
    let mut going = identity();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    server.put("agentidentities", going);
    play(&server, long()).await;
    assert_eq!(server.asked().len(), 0);
}

/// Until identities are listed nobody seems to declare anything: a controller that starts must not take that for an answer.
#[tokio::test(start_paused = true)]
async fn a_claim_is_not_released_before_identities_are_listed() {
    let server = ApiServer::default();
    server.put("namespaces", json!({"metadata": {"name": "ns", "labels": {"deputy.dev/enforce": "agents"}}}));
    let mut declaring = identity();
    declaring["spec"]["credentials"] = json!([{"name": "db", "type": "Secret", "reason": "r",
        "secret": {"secretName": "db", "keys": ["k"]}, "expirationTime": "2999-01-01T00:00:00Z"}]);
    server.put("agentidentities", declaring);
    play(&server, long()).await;
    assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    assert!(writes(&server.asked()).contains(&"POST credentialclaims"));

    server.script("LIST agentidentities", [failure(503, "ServiceUnavailable", "starting")]);
    play(&server, long()).await;
    assert_eq!(writes(&server.asked()), Vec::<&str>::new());
}
