//! The expressions that decide which requests reach the webhook, each run by the real API server on requests that they
//! were not written for: an expression that errs there refuses the whole cluster's pods and bindings.

use crate::support::{IMAGE, Namespace, Said, apply, eventually, get, kubectl, run};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Name of the policy that evaluates, and of its binding.
const PROBE: &str = "e2e-probe";

/// Warns of every expression that is false or errs, and refuses nothing.
struct Probe;

impl Probe {
    /// A probe of `expressions` in one namespace, once the API server has taken it up.
    fn new(ns: &Namespace, expressions: &[(String, String)]) -> Self {
        let mut validations = vec![json!({"expression": "false", "message": "taken up"})];
        validations.extend(expressions.iter().map(
            |(name, expression)| json!({"expression": expression, "message": format!("false: {name};")}),
        ));
        let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": PROBE}, "spec": {"failurePolicy": "Fail", "validations": validations,
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": ["pods", "pods/binding", "bindings", "pods/status", "pods/ephemeralcontainers"]}]}}});
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": PROBE}, "spec": {"policyName": PROBE,
            "validationActions": ["Warn"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.0}}}}});
        let probe = Self;
        apply(&json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}).to_string())
            .accepted();
        eventually("the probe is taken up", || {
            dry_run(&pod(ns, json!({}), json!({}))).text.contains("taken up").then_some(())
        });
        probe
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            kubectl(&["delete", kind, PROBE, "--ignore-not-found"]);
        }
    }
}

fn pod(ns: &Namespace, metadata: Value, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    pod["metadata"]["name"] = json!("dry");
    pod["metadata"]["namespace"] = json!(ns.0);
    pod["spec"]["containers"] = json!([{"name": "app", "image": IMAGE}]);
    pod
}

fn dry_run(object: &Value) -> Said {
    run("kubectl", &["create", "--dry-run=server", "-f", "-"], &object.to_string())
}

/// Every expression of the release's webhooks and policies that reads a pod, by the name of what it belongs to.
fn expressions() -> Vec<(String, String)> {
    let mut expressions = vec![];
    let mut take = |name: &Value, conditions: &Value| {
        for condition in conditions.as_array().unwrap() {
            expressions.push((
                name.as_str().unwrap().to_owned(),
                condition["expression"].as_str().unwrap().to_owned(),
            ));
        }
    };
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        let ours = get(&[kind, "-l", "app.kubernetes.io/name=deputy"]);
        let webhooks =
            ours["items"].as_array().unwrap().iter().flat_map(|c| c["webhooks"].as_array().unwrap());
        // What only warns has no part in it: its errors refuse nothing, and it reads no pod.
        for webhook in webhooks.filter(|webhook| webhook["failurePolicy"] == "Fail") {
            take(&webhook["name"], &webhook["matchConditions"]);
        }
    }
    let labels = get(&["validatingadmissionpolicy", "deputy-agent-pod-labels"]);
    take(&labels["metadata"]["name"], &labels["spec"]["matchConditions"]);
    expressions
}

/// Requests of each kind about a plain pod and an agent's: what was said, whether it counts as one of an agent's pod, and
/// whether the policy over its labels looks at it: at every binding, and at pods that carry a key of ours.
fn requests(ns: &Namespace) -> [(&'static str, Said, bool, bool); 13] {
    let node = get(&["nodes"])["items"][0]["metadata"]["name"].clone();
    let bind = |pod: &str, path: &str| {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let path = format!("/api/v1/namespaces/{}/{path}?dryRun=All", ns.0);
        run("kubectl", &["create", "--raw", &path, "-f", "-"], &binding.to_string())
    };
    let on = |arguments: &[&str]| ns.kubectl(&[arguments, &["--dry-run=server"]].concat());
    let debug = "{\"spec\":{\"ephemeralContainers\":[{\"name\":\"d\",\"image\":\"d\"}]}}";
    [
        ("create", dry_run(&pod(ns, json!({}), json!({}))), false, false),
        (
            "create, foreign keys",
            dry_run(&pod(ns, json!({"labels": {"a": "b"}, "annotations": {"c": "d"}}), json!({}))),
            false,
            false,
        ),
        (
            "create, label",
            dry_run(&pod(ns, json!({"labels": {"deputy.dev/agent": "a"}}), json!({}))),
            true,
            true,
        ),
        (
            "create, account",
            dry_run(&pod(ns, json!({}), json!({"serviceAccountName": "agent.a"}))),
            true,
            true,
        ),
        ("create, alias", dry_run(&pod(ns, json!({}), json!({"serviceAccount": "agent.a"}))), true, true),
        ("bind a plain pod", bind("plain", "pods/plain/binding"), false, true),
        ("bind an agent's pod", bind("agent", "pods/agent/binding"), false, true),
        ("bind by the older door", bind("plain", "bindings"), false, true),
        ("delete a plain pod", on(&["delete", "pod", "plain"]), false, false),
        ("delete an agent's pod", on(&["delete", "pod", "agent"]), true, true),
        ("update a plain pod", on(&["annotate", "pod", "plain", "a=b"]), false, false),
        (
            "debug a plain pod",
            on(&["patch", "pod", "plain", "--subresource=ephemeralcontainers", "-p", debug]),
            false,
            false,
        ),
        (
            "debug an agent's pod",
            on(&["patch", "pod", "agent", "--subresource=ephemeralcontainers", "-p", debug]),
            true,
            true,
        ),
    ]
}

#[test]
fn every_expression_is_true_or_false_of_every_request() {
    const AGENTS: [&str; 3] = [
        "agent-pods.mutate.deputy.dev",
        "agent-pods.validate.deputy.dev",
        "debug-containers.validate.deputy.dev",
    ];
    const OTHERS: [&str; 2] =
        ["claimed-secrets.validate.deputy.dev", "enforced-namespaces.validate.deputy.dev"];
    const LABELS: &str = "deputy-agent-pod-labels";
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("agent", "a", ", schedulerName: nobody")).accepted();
    let plain = "{\"spec\":{\"schedulerName\":\"nobody\"}}";
    ns.kubectl(&["run", "plain", "--image", IMAGE, "--overrides", plain]).accepted();
    let expressions = expressions();
    let names: BTreeSet<_> = expressions.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from_iter([&AGENTS[..], &OTHERS, &[LABELS]].concat()));
    let _probe = Probe::new(&ns, &expressions);

    for (what, said, of_agent, is_looked_at) in &requests(&ns) {
        let said = said.text.as_str();
        assert!(said.contains("taken up"), "{what} did not reach the probe: {said}");
        assert!(!said.contains("resulted in error"), "{what}: {said}");
        let is_false = |name: &str| said.contains(&format!("false: {name};"));
        for name in AGENTS {
            assert_eq!(is_false(name), !of_agent, "{what}, {name}: {said}");
        }
        for name in OTHERS {
            assert_eq!(is_false(name), *of_agent, "{what}, {name}: {said}");
        }
        assert_eq!(is_false(LABELS), !is_looked_at, "{what}, {LABELS}: {said}");
    }
}
