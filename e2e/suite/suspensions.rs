//! The switch: what an AgentSuspension stops, and when.

use crate::support::{IMAGE, Namespace, Said, apply, eventually, figure, get, run};
use serde_json::Value;
use std::time::{Duration, Instant};

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

/// A token that was issued before dies with the account it was issued for: at the API server, whose own cache keeps a token
/// for ten seconds.
#[test]
fn issued_tokens_die_with_the_account() {
    let ns = Namespace::new();
    ns.identity("a", ", kubernetesAPIAccess: Token").accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = ns.kubectl(&["exec", "p", "--", "cat", path]).accepted();
    let whoami =
        || run("kubectl", &["--token", token.trim(), "auth", "whoami", "--kubeconfig", &ns.anonymous()], "");
    assert!(whoami().accepted().contains("agent.a"));
    let uid = || get(&["-n", &ns.0, "serviceaccount", "agent.a"])["metadata"]["uid"].clone();
    let before = uid();

    suspend(&ns, "one", Some("a")).accepted();
    let since = Instant::now();
    eventually("the token is refused", || whoami().text.contains("nauthorized").then_some(()));
    let died = since.elapsed();
    figure(&format!("suspension: an issued token is refused {:.1} s after it", died.as_secs_f64()));
    assert!(died <= Duration::from_secs(10 + 3), "{died:?}");
    assert_ne!(uid(), before);

    // Once is enough: a second suspension beside it, and the end of one, leave the account.
    let replaced = uid();
    suspend(&ns, "two", None).accepted();
    ns.kubectl(&["delete", "agentsuspension", "two"]).accepted();
    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    ns.kubectl(&["wait", "--for=condition=Ready", "agentidentity/a", "--timeout=60s"]).accepted();
    assert_eq!(uid(), replaced);
}

/// New pods of a suspended agent wait, and run by themselves once it is switched on again: a Deployment is whole without
/// help, and nothing was refused in between.
#[test]
fn new_pods_wait_until_the_agent_is_switched_on_again() {
    let ns = Namespace::new();
    ns.agent("a");
    suspend(&ns, "one", Some("a")).accepted();
    let condition = |status: &str| {
        let wait = format!("--for=condition=Suspended={status}");
        ns.kubectl(&["wait", &wait, "agentidentity/a", "--timeout=60s"]).accepted();
    };
    condition("True");
    let shown = ns.kubectl(&["get", "agentidentity", "a"]).accepted();
    assert!(shown.contains("Suspended"), "{shown}");
    let events = ns.kubectl(&["get", "events", "--field-selector", "reason=Suspended"]).accepted();
    assert!(events.contains("INC-4711"), "{events}");

    let deployment = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d, namespace: {}}}, spec: {{replicas: 3, selector: \
         {{matchLabels: {{app: d}}}}, template: {{metadata: {{labels: {{app: d, deputy.dev/agent: a}}}}, spec: \
         {{terminationGracePeriodSeconds: 0, containers: [{{name: app, image: \"{IMAGE}\", imagePullPolicy: Never, \
         command: [sleep, \"3600\"]}}]}}}}}}}}",
        ns.0
    );
    apply(&deployment).accepted();
    let gated = |count: &str| {
        let path = "-o=jsonpath={.status.pods.gated}";
        (ns.kubectl(&["get", "agentidentity", "a", path]).accepted() == count).then_some(())
    };
    eventually("three pods wait", || gated("3"));
    let pods = get(&["-n", &ns.0, "pods"]);
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["spec"]["nodeName"], Value::Null, "it was scheduled");
    }
    // Only the controller lets them go.
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let lift = "[{\"op\":\"remove\",\"path\":\"/spec/schedulingGates\"}]";
    ns.kubectl(&["patch", "pod", pod, "--type=json", "-p", lift]).refused("[AI009]");
    ns.kubectl(&["annotate", "pod", pod, "deputy.dev/gated-"]).refused("[AI009]");
    let placed = ns.pod("placed", "a", ", nodeName: some-node");
    apply(&placed).refused("[AI009] spec.nodeName");

    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    let since = Instant::now();
    ns.kubectl(&["rollout", "status", "deployment/d", "--timeout=60s"]).accepted();
    figure(&format!(
        "suspension lifted: three pods that waited run {:.1} s after it",
        since.elapsed().as_secs_f64()
    ));
    condition("False");
    eventually("none waits", || gated("0"));
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
