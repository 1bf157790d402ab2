//! Agents' pods on a real node: what they get, and what the webhook refuses on the way.

use crate::support::{Namespace, SYSTEM, apply, eventually, figure, get, kubectl};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

#[test]
fn identity_and_pod_in_one_apply_and_only_the_declared_token() {
    let ns = Namespace::new();
    let pod = ns.pod("p", "a", "");
    let both = format!(
        "apiVersion: deputy.dev/v1alpha1\nkind: AgentIdentity\nmetadata: {{name: a, namespace: {}}}\nspec: {{owner: \
         o@example.com, tokens: [{{name: t, audience: x.example.com, expirationSeconds: 600}}]}}\n---\n{pod}\n",
        ns.0
    );
    apply(&both).accepted();
    ns.runs("p");
    let files = ns.inside("p", &["ls", "-R", "/var/run/secrets"]);
    assert!(files.contains("tokens") && !files.contains("kubernetes.io"), "{files}");
    let pod = get(&["-n", &ns.0, "pod", "p"]);
    assert_eq!(pod["spec"]["serviceAccountName"], "agent.a");
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
    let uid = &get(&["-n", &ns.0, "agentidentity", "a"])["metadata"]["uid"];
    assert_eq!(&pod["metadata"]["annotations"]["deputy.dev/identity-uid"], uid);
}

#[test]
fn api_access_is_a_token_of_an_hour_at_the_usual_path() {
    let ns = Namespace::new();
    ns.identity("a", ", kubernetesAPIAccess: Token").accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    let files = ns.inside("p", &["ls", path]);
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["ca.crt", "namespace", "token"]);
    let pod = get(&["-n", &ns.0, "pod", "p"]);
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let access = volumes.iter().find(|volume| volume["name"] == "deputy-kube-api-access").unwrap();
    assert_eq!(access["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3600);
    assert!(volumes.iter().all(|volume| !volume["name"].as_str().unwrap().starts_with("kube-api-access-")));
}

/// The broker's issuer, if the release has one.
fn issuer() -> Option<String> {
    let webhook = get(&["-n", SYSTEM, "deployment", "deputy-webhook"]);
    let arguments = &webhook["spec"]["template"]["spec"]["containers"][0]["args"];
    arguments
        .as_array()?
        .iter()
        .find_map(|argument| argument.as_str()?.strip_prefix("--issuer=").map(str::to_owned))
}

#[test]
fn with_a_broker_a_pod_has_what_leads_to_it() {
    let Some(issuer) = issuer() else {
        figure("nothing: this release has no broker");
        return;
    };
    let ns = Namespace::new();
    ns.identity("a", ", tokens: [{name: t, audience: x.example.com}]").accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let told = "cat $DEPUTY_TOKEN_FILE && echo && echo $DEPUTY_ISSUER && cat $DEPUTY_CA_FILE";
    let said = ns.inside("p", &["sh", "-c", told]);
    let (token, said) = said.split_once('\n').unwrap();
    let (issuer_said, authorities) = said.split_once('\n').unwrap();
    assert_eq!(issuer_said, issuer);
    assert_eq!(get(&["-n", &ns.0, "configmap", "agent.a"])["data"]["ca.crt"], authorities);
    assert!(authorities.starts_with("-----BEGIN CERTIFICATE-----"), "{authorities}");
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["aud"], json!([issuer]));
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:agent.a", ns.0));
    assert!(!ns.inside("p", &["cat", "/var/run/secrets/deputy.dev/tokens/t"]).is_empty());

    // Nobody puts himself between the two, and what is deleted with its identity is gone.
    for command in [&["delete", "configmap", "agent.a"][..], &["create", "configmap", "agent.b"]] {
        ns.kubectl(command).refused("[AI008]");
    }
    let patch = "{\"data\":{\"ca.crt\":\"mine\"}}";
    ns.kubectl(&["patch", "configmap", "agent.a", "-p", patch]).refused("[AI008]");
    ns.kubectl(&["delete", "agentidentity", "a"]).accepted();
    eventually("the ConfigMap is gone", || {
        let said = ns.kubectl(&["get", "configmap", "agent.a"]);
        said.text.contains("NotFound").then_some(())
    });
}

#[test]
fn a_pod_of_an_agent_nobody_declared_is_refused_after_a_short_wait() {
    let ns = Namespace::new();
    apply(&ns.pod("p", "nobody", "")).refused("[AI001]");
    apply(&ns.pod("p", "\"\"", "")).refused("[AI001]");
}

#[test]
fn secrets_keys_and_the_node_are_refused() {
    let ns = Namespace::new();
    ns.agent("a");
    // Kubernetes itself refuses a pod whose account does not exist, before any webhook is asked.
    ns.kubectl(&["create", "serviceaccount", "web"]).accepted();
    for (spec, rule) in [
        (", volumes: [{name: s, secret: {secretName: s}}]", "[AI202]"),
        (", volumes: [{name: s, projected: {sources: [{secret: {name: s}}]}}]", "[AI202]"),
        (", volumes: [{name: h, hostPath: {path: /}}]", "[AI401]"),
        (", hostPID: true", "[AI401]"),
        (
            ", serviceAccountName: default, volumes: [{name: t, projected: {sources: [{serviceAccountToken: \
          {path: t, audience: other.example.com}}]}}]",
            "[AI104]",
        ),
        (", serviceAccountName: web", "[AI003]"),
    ] {
        apply(&ns.pod("p", "a", spec)).refused(rule);
    }
    let events = |name: &str| {
        let said = ns.kubectl(&["get", "events", "--field-selector", &format!("involvedObject.name={name}")]);
        said.accepted()
    };
    // A template is accepted and its pods are not: the refusal is on the ReplicaSet, where a person looks.
    let deployment = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d, namespace: {}}}, spec: {{selector: {{matchLabels: \
         {{app: d}}}}, template: {{metadata: {{labels: {{app: d, deputy.dev/agent: a}}}}, spec: {{hostPID: true, \
         containers: [{{name: c, image: c}}]}}}}}}}}",
        ns.0
    );
    apply(&deployment).accepted();
    let set = eventually("there is a ReplicaSet", || {
        let sets = get(&["-n", &ns.0, "replicasets"]);
        sets["items"][0]["metadata"]["name"].as_str().map(str::to_owned)
    });
    eventually("its refusal is an event", || events(&set).contains("[AI401]").then_some(()));
}

#[test]
fn a_namespace_of_agents_takes_no_other_pod() {
    let ns = Namespace::new();
    ns.agent("a");
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=all"]).accepted();
    let plain = ["run", "plain", "--image=x", "--dry-run=server"];
    eventually("the label is in force", || ns.kubectl(&plain).text.contains("[AI002]").then_some(()));
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
}

#[test]
fn debug_containers_do_not_reach_the_token() {
    let ns = Namespace::new();
    ns.identity("a", ", tokens: [{name: t, audience: x.example.com}]").accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let patch = |container: &str| {
        let patch = format!(
            "{{\"spec\":{{\"ephemeralContainers\":[{{\"name\":\"d\",\"image\":\"x\"{container}}}]}}}}"
        );
        ns.kubectl(&["patch", "pod", "p", "--subresource=ephemeralcontainers", "-p", &patch])
    };
    patch(",\"targetContainerName\":\"app\"").refused("[AI502]");
    patch(",\"volumeMounts\":[{\"name\":\"deputy-tokens\",\"mountPath\":\"/t\"}]").refused("[AI502]");
    patch(",\"envFrom\":[{\"secretRef\":{\"name\":\"s\"}}]").refused("[AI502]");
    patch("").accepted();
}
