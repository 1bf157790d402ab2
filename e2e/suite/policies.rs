//! The ValidatingAdmissionPolicies, each with a person who may and one who may not.

use crate::support::{IMAGE, Namespace, apply, eventually, get, kubectl, run};
use serde_json::Value;

/// The controller's user.
const CONTROLLER: &str = "system:serviceaccount:deputy-system:deputy-controller";

fn deployment(ns: &Namespace, name: &str, kind_spec: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {}}}, spec: {{replicas: 1, \
         selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}, \
         deputy.dev/agent: a}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: app, image: \"{IMAGE}\", \
         imagePullPolicy: Never, command: [sleep, \"3600\"]}}]{kind_spec}}}}}}}}}",
        ns.0
    )
}

#[test]
fn who_may_use_an_agent_may_run_as_it_and_nobody_else() {
    let ns = Namespace::new();
    ns.agent("a");
    let (may, may_not) = (ns.editor("may"), ns.editor("may-not"));
    let grant = ["create", "rolebinding", "use", "--clusterrole=deputy-agent-user"];
    ns.kubectl(&[&grant[..], &["--serviceaccount", &format!("{}:may", ns.0)]].concat()).accepted();

    let pod = ns.pod("p", "a", "");
    may_not.kubectl(&["apply", "-f", "-"], &pod).refused("[AI005]");
    may.kubectl(&["apply", "-f", "-"], &pod).accepted();
    ns.runs("p");
    let image = ["-n", ns.0.as_str(), "set", "image", "pod/p", "app=deputy.local/other:1"];
    may_not.kubectl(&image, "").refused("[AI006]");
    may.kubectl(&image, "").accepted();

    let one = deployment(&ns, "one", "");
    may_not.kubectl(&["apply", "-f", "-"], &one).refused("[AI005]");
    may.kubectl(&["apply", "-f", "-"], &one).accepted();
    ns.kubectl(&["rollout", "status", "deployment/one", "--timeout=60s"]).accepted();
    // Scale and labels of the object are no change of the template.
    may_not.kubectl(&["-n", &ns.0, "scale", "deployment/one", "--replicas=2"], "").accepted();
    may_not.kubectl(&["-n", &ns.0, "label", "deployment/one", "team=x"], "").accepted();
    let environment = ["-n", ns.0.as_str(), "set", "env", "deployment/one", "A=b"];
    may_not.kubectl(&environment, "").refused("[AI005]");
    may.kubectl(&environment, "").accepted();
    ns.kubectl(&["rollout", "status", "deployment/one", "--timeout=60s"]).accepted();
    let by_account = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: \"0 0 1 1 *\", jobTemplate: \
        {spec: {template: {spec: {serviceAccountName: agent.a, restartPolicy: Never, containers: [{name: c, image: c}]}}}}}}";
    may_not.kubectl(&["-n", &ns.0, "apply", "-f", "-"], by_account).refused("[AI005]");
    may.kubectl(&["-n", &ns.0, "apply", "-f", "-"], by_account).accepted();
}

#[test]
fn accounts_of_agents_are_the_controllers() {
    let ns = Namespace::new();
    ns.agent("a");
    let account =
        format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: agent.x, namespace: {}}}}}", ns.0);
    apply(&account).refused("[AI008]");
    ns.kubectl(&["annotate", "serviceaccount", "agent.a", "a=b"]).refused("[AI008]");
    ns.kubectl(&["delete", "serviceaccount", "agent.a"]).refused("[AI008]");
    for patch in [
        "{\"automountServiceAccountToken\":true}",
        "{\"secrets\":[{\"name\":\"x\"}]}",
        "{\"metadata\":{\"ownerReferences\":null}}",
    ] {
        ns.kubectl(&["patch", "serviceaccount", "agent.a", "--type=merge", "-p", patch]).refused("[AI008]");
    }
    for user in ["generic-garbage-collector", "namespace-controller"] {
        let user = format!("system:serviceaccount:kube-system:{user}");
        ns.kubectl(&["delete", "serviceaccount", "agent.a", "--dry-run=server", "--as", &user]).accepted();
    }
    // Once its identity is gone and the account was kept, it is for whoever may delete accounts.
    ns.agent("kept");
    let orphan = ["delete", "agentidentity", "kept", "--cascade=orphan", "--timeout=60s"];
    ns.kubectl(&orphan).accepted();
    ns.kubectl(&["delete", "serviceaccount", "agent.kept"]).accepted();
    ns.kubectl(&["create", "serviceaccount", "web"]).accepted();
    ns.kubectl(&["delete", "serviceaccount", "web"]).accepted();
}

#[test]
fn a_namespace_with_agents_can_be_emptied_and_deleted() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    ns.kubectl(&["delete", "serviceaccount", "--all"]).refused("[AI008]");
    ns.kubectl(&["delete", "agentidentity", "--all", "--timeout=60s"]).accepted();
    kubectl(&["delete", "namespace", &ns.0, "--timeout=60s"]).accepted();
}

#[test]
fn tokens_of_agents_are_for_kubelets_only() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.kubectl(&["create", "token", "agent.a"]).refused("[AI106]");
    ns.kubectl(&["create", "token", "agent.a", "--bound-object-kind=Pod", "--bound-object-name=p"])
        .refused("[AI106]");
    ns.kubectl(&["create", "token", "default"]).accepted();
    let secret = |account: &str| {
        let metadata =
            format!("name: {account}, annotations: {{kubernetes.io/service-account.name: {account}}}");
        let secret = format!(
            "{{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, metadata: {{namespace: {}, {metadata}}}}}",
            ns.0
        );
        apply(&secret)
    };
    secret("agent.a").refused("[AI105]");
    secret("default").accepted();
}

/// The controller's own credential writes what the controller is for. RBAC alone cannot be that exact.
#[test]
fn the_controllers_power_is_fenced() {
    let ns = Namespace::new();
    let r#as = |arguments: &[&str], object: &str| {
        run("kubectl", &[&["--as", CONTROLLER], arguments, &["--dry-run=server"]].concat(), object)
    };
    let account = |name: &str| {
        format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {}}}}}", ns.0)
    };
    r#as(&["create", "-f", "-"], &account("agent.x")).accepted();
    r#as(&["create", "-f", "-"], &account("builder")).refused("writes only accounts named agent.*");
    let pull_secret = "{\"imagePullSecrets\":[{\"name\":\"x\"}]}";
    r#as(&["-n", &ns.0, "patch", "serviceaccount", "default", "-p", pull_secret], "")
        .refused("writes only accounts named agent.*");
    r#as(&["-n", &ns.0, "delete", "serviceaccount", "default"], "")
        .refused("writes only accounts named agent.*");

    ns.kubectl(&["run", "plain", "--image", IMAGE, "--image-pull-policy=Never", "--", "sleep", "3600"])
        .accepted();
    let annotated = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: plain, namespace: {}, annotations: {{a: b}}}}}}",
        ns.0
    );
    r#as(&["apply", "--server-side", "--field-manager=x", "-f", "-"], &annotated)
        .refused("only to lift its own scheduling gate");

    r#as(&["-n", &ns.0, "delete", "pod", "plain"], "").refused("deletes only agents' pods");
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    r#as(&["-n", &ns.0, "delete", "pod", "p"], "").accepted();
    // Evicted is only where an agent is suspended, and the pod that was looked at.
    let uid = get(&["-n", &ns.0, "pod", "p"])["metadata"]["uid"].as_str().unwrap().to_owned();
    let evict = |preconditions: Value| {
        let eviction = serde_json::json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": ns.0},
            "deleteOptions": {"dryRun": ["All"], "preconditions": preconditions},
        });
        let path = format!("/api/v1/namespaces/{}/pods/p/eviction?dryRun=All", ns.0);
        run("kubectl", &["--as", CONTROLLER, "create", "--raw", &path, "-f", "-"], &eviction.to_string())
    };
    let this_pod = || evict(serde_json::json!({"uid": uid}));
    this_pod().refused("no params found");
    apply(&format!(
        "{{apiVersion: deputy.dev/v1alpha1, kind: AgentSuspension, metadata: {{name: s, namespace: {}}}, spec: {{reason: r, \
         agentName: b}}}}",
        ns.0
    ))
    .accepted();
    eventually("it may evict", || this_pod().ok.then_some(()));
    evict(Value::Null).refused("only the pod it looked at");

    let secret = |namespace: &str, name: &str, kind: &str| {
        let annotations = "annotations: {kubernetes.io/service-account.name: deputy-webhook}";
        let secret = format!(
            "{{apiVersion: v1, kind: Secret, type: {kind}, metadata: {{namespace: {namespace}, name: {name}, {annotations}}}}}"
        );
        r#as(&["create", "-f", "-"], &secret)
    };
    secret("deputy-system", "loot", "Opaque").refused("its own certificates and keys");
    secret(&ns.0, "deputy-ca", "Opaque").refused("cannot create resource \"secrets\"");
    secret("deputy-system", "deputy-ca", "Opaque").refused("already exists");
    // Under a name of its own it still may not have Kubernetes fill a Secret with somebody's token.
    secret("deputy-system", "deputy-ca", "kubernetes.io/service-account-token")
        .refused("its own certificates and keys");
    ns.kubectl(&["create", "token", "default", "--as", CONTROLLER]).refused("cannot create resource");
}

/// A node may fetch the token of an agent's pod, and nobody by being in the nodes' group alone.
#[test]
fn a_node_gets_the_tokens_of_its_own_agents_pods() {
    let ns = Namespace::new();
    ns.identity("a", ", tokens: [{name: t, audience: x.example.com, expirationSeconds: 600}]").accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let pod = get(&["-n", &ns.0, "pod", "p"]);
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (uid, node) = (text("/metadata/uid"), format!("system:node:{}", text("/spec/nodeName")));
    let token = |who: &[&str], bound: bool| {
        let uid = format!("--bound-object-uid={uid}");
        let to_pod = ["--bound-object-kind=Pod", "--bound-object-name=p", &uid];
        let to: &[&str] = if bound { &to_pod } else { &[] };
        ns.kubectl(&[who, &["create", "token", "agent.a", "--audience=x.example.com"], to].concat())
    };
    let node = ["--as", &node, "--as-group", "system:nodes", "--as-group", "system:authenticated"];
    token(&node, true).accepted();
    token(&node, false).refused("orbidden");
    let mallory = ["--as", "mallory", "--as-group", "system:nodes", "--as-group", "system:masters"];
    token(&mallory, true).refused("[AI106]");
}

#[test]
fn what_a_pod_is_never_changes_by_any_of_four_doors() {
    let ns = Namespace::new();
    ns.agent("a");
    ns.agent("b");
    apply(&ns.pod("p", "a", "")).accepted();
    let plain = ["run", "plain", "--image", IMAGE, "--image-pull-policy=Never", "--", "sleep", "3600"];
    ns.kubectl(&plain).accepted();
    ns.runs("p");
    ns.runs("plain");
    for (pod, change) in
        [("p", "deputy.dev/agent=b"), ("p", "deputy.dev/agent-"), ("plain", "deputy.dev/agent=a")]
    {
        ns.kubectl(&["label", "pod", pod, change, "--overwrite"]).refused("[AI006]");
    }
    ns.kubectl(&["annotate", "pod", "p", "deputy.dev/identity-uid=x", "--overwrite"]).refused("[AI006]");
    let patch = "{\"metadata\":{\"labels\":{\"deputy.dev/agent\":\"b\"}}}";
    ns.kubectl(&["patch", "pod", "p", "--subresource=status", "-p", patch]).refused("[AI006]");
    ns.kubectl(&["label", "pod", "p", "team=x"]).accepted();

    // A pod nobody schedules, so that the binding is ours to make.
    let waiting = ns.pod("waiting", "a", ", schedulerName: nobody");
    apply(&waiting).accepted();
    let node = get(&["nodes"])["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let binding = |metadata: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Binding\",\"metadata\":{{\"name\":\"waiting\"{metadata}}},\
             \"target\":{{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"name\":\"{node}\"}}}}"
        )
    };
    let relabelled = binding(",\"labels\":{\"deputy.dev/agent\":\"b\"}");
    for door in ["pods/waiting/binding", "bindings"] {
        let path = format!("/api/v1/namespaces/{}/{door}", ns.0);
        run("kubectl", &["create", "--raw", &path, "-f", "-"], &relabelled).refused("[AI006]");
    }
    let path = format!("/api/v1/namespaces/{}/pods/waiting/binding", ns.0);
    run("kubectl", &["create", "--raw", &path, "-f", "-"], &binding("")).accepted();
    ns.runs("waiting");
}

#[test]
fn identities_and_enforcement_stay_out_of_the_systems_namespaces() {
    let identity = |namespace: &str| {
        apply(&format!(
            "{{apiVersion: deputy.dev/v1alpha1, kind: AgentIdentity, metadata: {{name: x, namespace: {namespace}}}, \
             spec: {{owner: o@example.com}}}}"
        ))
    };
    for namespace in ["kube-system", "deputy-system"] {
        identity(namespace).refused(namespace);
        kubectl(&["label", "namespace", namespace, "deputy.dev/enforce=all"]).refused("deputy.dev/enforce");
    }
    let ns = Namespace::new();
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=some"]).refused("deputy.dev/enforce");
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=all"]).accepted();
}
