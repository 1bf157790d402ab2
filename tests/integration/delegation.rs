//! What issuers, resources and policies are told became of them, against an API server in memory; time is tokio's, and
//! paused.

use crate::apiserver::{ApiServer, failure};
use deputy::{
    controller::delegation,
    index::Declarable,
    metrics::{ControllerMetrics, IndexMetrics, Metrics, Role},
};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tokio::time::sleep;

/// Runs the loop for as long as `script` goes on.
async fn play(server: &ApiServer, script: impl Future<Output = ()>) {
    let mut metrics = Metrics::new(Role::Controller);
    let (own, watches) = (ControllerMetrics::register(&mut metrics), IndexMetrics::register(&mut metrics));
    tokio::select! {
        () = delegation::run(server.client(), Declarable::default(), own, watches) => panic!("the loop ended"),
        () = script => {}
    }
}

async fn settle() {
    sleep(Duration::from_millis(500)).await;
}

/// A sample, moved to namespace `ns`.
fn sample(kind: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/samples/");
    let text = ["agentidentity.yaml", "delegation.yaml"]
        .map(|file| fs::read_to_string(format!("{folder}{file}")).unwrap());
    let documents: Vec<Value> =
        text.iter().flat_map(|text| serde_saphyr::from_multiple::<Value>(text).unwrap()).collect();
    let mut object = documents.into_iter().find(|object| object["kind"] == kind).unwrap();
    if object["metadata"].get("namespace").is_some() {
        object["metadata"]["namespace"] = "ns".into();
    }
    object["metadata"]["generation"] = 1.into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:01Z".into();
    if kind == "ProtectedResource" {
        object["spec"]["allowedAgents"][0]["namespaces"]["names"] = json!(["ns"]);
    }
    object
}

const KINDS: [(&str, &str); 4] = [
    ("AgentIdentity", "agentidentities"),
    ("TrustedIssuer", "trustedissuers"),
    ("ProtectedResource", "protectedresources"),
    ("DelegationPolicy", "delegationpolicies"),
];

fn put(server: &ApiServer, kind: &str, edit: impl FnOnce(&mut Value)) {
    let mut object = sample(kind);
    edit(&mut object);
    server.put(KINDS.iter().find(|(of, _)| *of == kind).unwrap().1, object);
}

/// A server that holds all four samples.
fn whole() -> ApiServer {
    let server = ApiServer::default();
    for (kind, _) in KINDS {
        put(&server, kind, |_| {});
    }
    server
}

/// Status and reason of a condition.
fn said(conditions: &Value, type_: &str) -> String {
    let all = conditions.as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default();
    format!("{} {}", found["status"].as_str().unwrap_or("-"), found["reason"].as_str().unwrap_or("-"))
}

fn of_resource(server: &ApiServer, name: &str) -> [String; 3] {
    let object = server.get_of_cluster("protectedresources", name).unwrap();
    ["Accepted", "Ready", "Stalled"].map(|type_| said(&object["status"]["conditions"], type_))
}

fn of_issuer(server: &ApiServer, name: &str) -> [String; 3] {
    let object = server.get_of_cluster("trustedissuers", name).unwrap();
    ["Accepted", "Ready", "Stalled"].map(|type_| said(&object["status"]["conditions"], type_))
}

/// Ready of the policy, and Accepted of the one resource it names.
fn of_policy(server: &ApiServer) -> (String, String) {
    let status = server.get("delegationpolicies", "researchers-read").unwrap()["status"].clone();
    (said(&status["conditions"], "Ready"), said(&status["resources"][0]["conditions"], "Accepted"))
}

/// What became of the policy's resource, in words.
fn message(server: &ApiServer) -> String {
    let policy = server.get("delegationpolicies", "researchers-read").unwrap();
    policy["status"]["resources"][0]["conditions"][0]["message"].as_str().unwrap().to_owned()
}

fn pair(ready: &str, accepted: &str) -> (String, String) {
    (ready.to_owned(), accepted.to_owned())
}

const GOOD: [&str; 3] = ["True Valid", "True InEffect", "False Progressing"];

#[tokio::test(start_paused = true)]
async fn what_is_in_order_is_told_so_once() {
    let server = whole();
    play(&server, async {
        settle().await;
        let mut written: Vec<_> = server.asked().into_iter().map(|asked| asked.what).collect();
        written.sort();
        let expected = ["delegationpolicies", "protectedresources", "trustedissuers"]
            .map(|of| format!("PATCH {of}/status"));
        assert_eq!(written, expected);
        assert_eq!(of_resource(&server, "papers"), GOOD);
        assert_eq!(of_issuer(&server, "corp"), GOOD);
        assert_eq!(of_policy(&server), pair("True InEffect", "True Accepted"));
        let policy = server.get("delegationpolicies", "researchers-read").unwrap();
        assert_eq!(policy["status"]["matchedAgents"], 1);
        assert_eq!(policy["status"]["conditions"][1]["observedGeneration"], 1);
        sleep(Duration::from_secs(24 * 3600)).await;
    })
    .await;
    play(&server, settle()).await;
    assert_eq!(server.asked().len(), 0, "neither later nor by another controller");
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_told_what_keeps_it_from_lending() {
    let server = ApiServer::default();
    play(&server, async {
        put(&server, "DelegationPolicy", |_| {});
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoAgents", "False ResourceNotFound"));
        put(&server, "AgentIdentity", |_| {});
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoIssuers", "False ResourceNotFound"));
        put(&server, "TrustedIssuer", |_| {});
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoResources", "False ResourceNotFound"));
        put(&server, "ProtectedResource", |o| o["spec"]["owner"] = "".into());
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoResources", "False ResourceNotAccepted"));
        put(&server, "ProtectedResource", |o| o["spec"]["allowedAgents"] = json!([]));
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoResources", "False NotPermittedByResource"));
        assert!(message(&server).contains("ask its owner, papers-team@example.com"), "{}", message(&server));
        let others = json!(["OnOwnBehalf"]);
        put(&server, "ProtectedResource", |o| o["spec"]["allowedAgents"][0]["modes"] = others);
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoResources", "False NotPermittedByResource"));
        put(&server, "ProtectedResource", |o| o["spec"]["allowedAgents"][0]["scopes"] = json!(["search"]));
        put(&server, "AgentIdentity", |o| o["spec"]["grants"][0]["scopes"] = json!(["read"]));
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoResources", "False ScopeNotGranted"));
        assert_eq!(
            message(&server),
            "its spec.allowedAgents does not let these agents have scope \"read\"; \
             no agent of this policy has scope \"search\" in its spec.grants"
        );
        put(&server, "AgentIdentity", |_| {});
        settle().await;
        assert_eq!(of_policy(&server), pair("True InEffect", "True PartlyAccepted"));
        put(&server, "ProtectedResource", |o| o["spec"]["tools"] = json!([]));
        settle().await;
        assert!(message(&server).ends_with("it offers no tool \"search_papers\""), "{}", message(&server));
        put(&server, "ProtectedResource", |_| {});
        settle().await;
        assert_eq!(of_policy(&server), pair("True InEffect", "True Accepted"));
        server.delete_of_cluster("trustedissuers", "corp");
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoIssuers", "True Accepted"));
        server.delete("agentidentities", "researcher");
        settle().await;
        assert_eq!(of_policy(&server), pair("False NoAgents", "True Accepted"));
        put(&server, "DelegationPolicy", |o| o["spec"]["agents"] = json!({}));
        settle().await;
        assert_eq!(of_policy(&server), pair("False Invalid", "- -"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_later_of_two_that_claim_the_same_is_told_by_whom_it_is_taken() {
    let server = whole();
    play(&server, async {
        let earlier = |object: &mut Value, name: &str| {
            object["metadata"]["name"] = name.into();
            object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        };
        settle().await;
        put(&server, "ProtectedResource", |o| earlier(o, "zeta"));
        put(&server, "TrustedIssuer", |o| {
            earlier(o, "zeta");
            o["spec"]["issuer"]["url"] = "https://other".into();
        });
        settle().await;
        assert_eq!(of_resource(&server, "zeta"), GOOD);
        let taken = ["False", "False", "True"].map(|status| format!("{status} IdentifierTaken"));
        assert_eq!(of_resource(&server, "papers"), taken);
        assert_eq!(of_issuer(&server, "corp")[0], "False PrefixTaken");
        assert_eq!(of_policy(&server), pair("False NoIssuers", "False ResourceNotAccepted"));
        assert!(message(&server).contains("\"zeta\" is older"), "{}", message(&server));
        server.delete_of_cluster("protectedresources", "zeta");
        server.delete_of_cluster("trustedissuers", "zeta");
        settle().await;
        assert_eq!(
            (of_resource(&server, "papers"), of_issuer(&server, "corp")),
            (GOOD.map(String::from), GOOD.map(String::from))
        );
        assert_eq!(of_policy(&server), pair("True InEffect", "True Accepted"));
        let again = |o: &mut Value| o["metadata"]["name"] = "also".into();
        put(&server, "TrustedIssuer", |o| {
            again(o);
            o["metadata"]["creationTimestamp"] = "2026-01-01T00:00:09Z".into();
        });
        settle().await;
        assert_eq!(of_issuer(&server, "also")[0], "False URLTaken");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_so_and_not_told_for_ever() {
    let server = whole();
    play(&server, async {
        settle().await;
        server.asked();
        put(&server, "DelegationPolicy", |o| o["spec"]["mode"] = "OfWhomEver".into());
        sleep(Duration::from_secs(60)).await;
        let asked = server.asked();
        assert_eq!(
            asked.iter().map(|asked| asked.what.as_str()).collect::<Vec<_>>(),
            ["PATCH delegationpolicies/status"]
        );
        assert_eq!(of_policy(&server).0, "False Invalid");
        put(&server, "DelegationPolicy", |_| {});
        settle().await;
        assert_eq!(of_policy(&server), pair("True InEffect", "True Accepted"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_is_written_later_and_one_whose_object_is_gone_is_not() {
    let server = whole();
    let what = "PATCH protectedresources/status";
    server.script(what, [failure(500, "InternalError", "later"), failure(403, "Forbidden", "no")]);
    server.goes_at("PATCH delegationpolicies/status", "delegationpolicies", "researchers-read");
    play(&server, async {
        settle().await;
        assert_eq!(of_resource(&server, "papers"), ["- -"; 3]);
        assert_eq!(of_issuer(&server, "corp"), GOOD);
        sleep(Duration::from_secs(11)).await;
        assert_eq!(of_resource(&server, "papers"), GOOD);
        let asked = server.asked();
        let count = |of: &str| asked.iter().filter(|asked| asked.what == of).count();
        assert_eq!((count(what), count("PATCH delegationpolicies/status")), (3, 1));
    })
    .await;
}
