//! AgentIdentities: what the API server refuses, what the controller makes of the rest.

use crate::support::{Namespace, apply, eventually, get, kubectl};
use serde_json::Value;

fn condition(namespace: &Namespace, name: &str, type_: &str) -> Option<(String, String)> {
    let identity = get(&["-n", &namespace.0, "agentidentity", name]);
    let conditions = identity["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|c| c["type"] == type_)?;
    Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
}

fn becomes(namespace: &Namespace, name: &str, type_: &str, status: &str, reason: &str) {
    let expected = Some((status.to_owned(), reason.to_owned()));
    eventually(&format!("{name} is {type_}={status} {reason}"), || {
        (condition(namespace, name, type_) == expected).then_some(())
    });
}

#[test]
fn every_rule_of_the_schema_is_the_api_servers() {
    let ns = Namespace::new();
    ns.identity("a.b", "").refused("must be a DNS label of at most 63 characters without dots");
    ns.identity(&"a".repeat(64), "").refused("must be a DNS label of at most 63 characters without dots");
    let twice = ", tokens: [{name: a, audience: x}, {name: b, audience: x}]";
    ns.identity("a", twice).refused("each audience may be declared once");
    ns.identity("a", ", tokens: [{name: a, audience: x}, {name: a, audience: y}]").refused("Duplicate value");
    for seconds in ["599", "3601", "3607"] {
        let token = format!(", tokens: [{{name: a, audience: x, expirationSeconds: {seconds}}}]");
        ns.identity("a", &token).refused("expirationSeconds");
    }
    ns.identity("a", ", tokens: [{name: \"../x\", audience: x}]").refused("tokens[0].name");
    ns.identity("a", ", kubernetesAPIAccess: All").refused("kubernetesAPIAccess");
    ns.identity("a", ", tokens: [{name: a, audience: x, expirationSeconds: 600}]").accepted();
    let explained = kubectl(&["explain", "agentidentity.spec.tokens.audience"]).accepted();
    assert!(explained.contains("who may accept it"), "{explained}");
}

#[test]
fn an_identity_gets_its_account_and_takes_it_along() {
    let ns = Namespace::new();
    ns.agent("a");
    let account = get(&["-n", &ns.0, "serviceaccount", "agent.a"]);
    assert_eq!(account["automountServiceAccountToken"], Value::Bool(false));
    assert_eq!(account["metadata"]["ownerReferences"][0]["kind"], "AgentIdentity");
    let identity = get(&["-n", &ns.0, "agentidentity", "a"]);
    assert_eq!(identity["status"]["serviceAccount"]["uid"], account["metadata"]["uid"]);
    assert_eq!(identity["metadata"]["finalizers"], Value::Null);
    let events = ns.kubectl(&["get", "events", "--field-selector", "reason=AccountCreated", "-o", "name"]);
    assert_eq!(events.accepted().lines().count(), 1);

    ns.kubectl(&["delete", "agentidentity", "a"]).accepted();
    eventually("the account is gone", || {
        (!ns.kubectl(&["get", "serviceaccount", "agent.a"]).ok).then_some(())
    });
}

#[test]
fn deleting_an_identity_says_that_its_pods_go_on() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    eventually("the pod is counted", || {
        (get(&["-n", &ns.0, "agentidentity", "a"])["status"]["pods"]["active"] == 1).then_some(())
    });
    ns.kubectl(&["delete", "agentidentity", "a"]).accepted();
    eventually("an event tells of the pod", || {
        let events =
            ns.kubectl(&["get", "events", "--field-selector", "reason=AgentPodsOrphaned", "-o", "name"]);
        (events.accepted().lines().count() == 1).then_some(())
    });
}

#[test]
fn the_api_servers_own_audience_is_not_accepted() {
    let ns = Namespace::new();
    let audience = eventually("the API server's audience is known", || {
        let token = ns.kubectl(&["create", "token", "default"]);
        token.ok.then(|| token.text.trim().to_owned())
    });
    let payload = audience.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let own = claims["aud"][0].as_str().unwrap();
    ns.identity("a", &format!(", tokens: [{{name: a, audience: \"{own}\"}}]")).accepted();
    becomes(&ns, "a", "Accepted", "False", "AudienceReserved");
    becomes(&ns, "a", "Stalled", "True", "AudienceReserved");
    apply(&ns.pod("p", "a", "")).refused("[AI001]");
}

/// With the policy on accounts out of force for a moment: with it, nobody can bring this about.
#[test]
fn drift_is_healed_and_a_foreign_account_is_never_adopted() {
    let ns = Namespace::new();
    ns.agent("a");
    let binding = ["get", "validatingadmissionpolicybinding", "deputy-agent-accounts", "-o", "yaml"];
    let saved = kubectl(&binding).accepted();
    kubectl(&["delete", "validatingadmissionpolicybinding", "deputy-agent-accounts"]).accepted();
    let foreign =
        format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: agent.b, namespace: {}}}}}", ns.0);
    eventually("the policy is out of force", || apply(&foreign).ok.then_some(()));
    ns.kubectl(&["patch", "serviceaccount", "agent.a", "-p", "{\"automountServiceAccountToken\":true}"])
        .accepted();
    eventually("the drift is healed", || {
        let account = get(&["-n", &ns.0, "serviceaccount", "agent.a"]);
        (account["automountServiceAccountToken"] == false).then_some(())
    });
    let uid = get(&["-n", &ns.0, "serviceaccount", "agent.a"])["metadata"]["uid"].clone();
    ns.kubectl(&["delete", "serviceaccount", "agent.a"]).accepted();
    eventually("the account is made again", || {
        let account = ns.kubectl(&["get", "serviceaccount", "agent.a", "-o", "jsonpath={.metadata.uid}"]);
        (account.ok && account.text != uid.as_str().unwrap()).then_some(())
    });

    ns.identity("b", "").accepted();
    becomes(&ns, "b", "Ready", "False", "AccountTaken");
    becomes(&ns, "b", "Stalled", "True", "AccountTaken");
    let foreign = get(&["-n", &ns.0, "serviceaccount", "agent.b"]);
    assert_eq!(foreign["metadata"]["ownerReferences"], Value::Null);
    ns.kubectl(&["delete", "serviceaccount", "agent.b"]).accepted();
    becomes(&ns, "b", "Ready", "True", "AccountReady");

    let saved: String = saved
        .lines()
        .filter(|l| !l.contains("resourceVersion") && !l.contains("  uid:"))
        .map(|l| format!("{l}\n"))
        .collect();
    apply(&saved).accepted();
    eventually("the policy is in force again", || {
        let account = format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: agent.c, namespace: {}}}}}",
            ns.0
        );
        let said = apply(&account);
        if said.ok {
            ns.kubectl(&["delete", "serviceaccount", "agent.c"]);
        }
        said.text.contains("[AI008]").then_some(())
    });
}
