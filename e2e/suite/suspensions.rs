//! The switch: what an AgentSuspension stops, and when.

use crate::support::{Namespace, Said, apply, eventually, figure, get};
use serde_json::Value;
use std::time::Instant;

/// A suspension of one agent, or of all.
fn suspend(ns: &Namespace, name: &str, agent: Option<&str>) -> Said {
    let agent = agent.map_or_else(String::new, |agent| format!(", agentName: {agent}"));
    apply(&format!(
        "{{apiVersion: deputy.dev/v1alpha1, kind: AgentSuspension, metadata: {{name: {name}, namespace: {}}}, spec: \
         {{reason: INC-4711{agent}}}}}",
        ns.0
    ))
}

/// Asks for a token of the agent's pod `p`, as the pod's node does.
fn token(ns: &Namespace, agent: &str) -> Said {
    let pod = get(&["-n", &ns.0, "pod", "p"]);
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let node = format!("system:node:{}", text("/spec/nodeName"));
    let uid = format!("--bound-object-uid={}", text("/metadata/uid"));
    ns.kubectl(&[
        "create",
        "token",
        &format!("agent.{agent}"),
        "--audience=x.example.com",
        "--bound-object-kind=Pod",
        "--bound-object-name=p",
        &uid,
        "--as",
        &node,
        "--as-group=system:nodes",
        "--as-group=system:authenticated",
    ])
}

const TOKENS: &str = ", tokens: [{name: t, audience: x.example.com, expirationSeconds: 600}]";

#[test]
fn a_suspended_agent_gets_no_token_until_the_suspension_is_gone() {
    let ns = Namespace::new();
    ns.identity("a", TOKENS).accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    token(&ns, "a").accepted();
    suspend(&ns, "another", Some("b")).accepted();
    token(&ns, "a").accepted();

    suspend(&ns, "one", Some("a")).accepted();
    let since = Instant::now();
    eventually("no token is issued", || token(&ns, "a").text.contains("[AI009]").then_some(()));
    figure(&format!("suspension: no new token {:.1} s after it", since.elapsed().as_secs_f64()));
    token(&ns, "a").refused("AgentSuspension \"one\"");
    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    eventually("tokens are issued again", || token(&ns, "a").ok.then_some(()));

    suspend(&ns, "all", None).accepted();
    eventually("no token of any agent is issued", || token(&ns, "a").text.contains("\"all\"").then_some(()));
}

#[test]
fn a_suspension_is_by_whom_it_says_and_stays_as_it_is() {
    let ns = Namespace::new();
    suspend(&ns, "s", Some("a")).accepted();
    let patch = "{\"spec\":{\"agentName\":\"b\"}}";
    ns.kubectl(&["patch", "agentsuspension", "s", "--type=merge", "-p", patch]).refused("cannot be changed");
    ns.kubectl(&["label", "agentsuspension", "s", "a=b"]).accepted();

    let on_call = ns.editor("on-call");
    let account = format!("--serviceaccount={}:on-call", ns.0);
    ns.kubectl(&["create", "rolebinding", "suspend", "--clusterrole=deputy-suspender", &account]).accepted();
    let by = |who: &str| {
        format!(
            "{{apiVersion: deputy.dev/v1alpha1, kind: AgentSuspension, metadata: {{name: t}}, spec: {{reason: r, \
             requestedBy: {who:?}}}}}"
        )
    };
    let create = ["-n", ns.0.as_str(), "create", "-f", "-"];
    on_call.kubectl(&create, &by("dana")).refused("spec.requestedBy");
    on_call.kubectl(&create, &by(&format!("system:serviceaccount:{}:on-call", ns.0))).accepted();
    on_call.kubectl(&["-n", &ns.0, "delete", "agentsuspension", "s"], "").accepted();
    // The switch is no right on the agents.
    on_call.kubectl(&["-n", &ns.0, "delete", "agentidentity", "a"], "").refused("forbidden");
}
