//! The ValidatingAdmissionPolicies, each with a person who may and one who may not.

use crate::support::{IMAGE, Namespace, apply, get, kubectl};

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
        crate::support::run("kubectl", &["create", "--raw", &path, "-f", "-"], &relabelled)
            .refused("[AI006]");
    }
    let path = format!("/api/v1/namespaces/{}/pods/waiting/binding", ns.0);
    crate::support::run("kubectl", &["create", "--raw", &path, "-f", "-"], &binding("")).accepted();
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
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=agents"]).refused("deputy.dev/enforce");
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=all"]).accepted();
}
