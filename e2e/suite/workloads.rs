//! The verb `use` on all eight built-in kinds whose templates become pods: who may name an agent there, and what anybody
//! who may edit goes on doing.

use crate::support::{Namespace, User, apply, run};
use serde_json::{Value, json};

/// A kind, its resource, its group and version, and where its pod template stands.
const KINDS: [(&str, &str, &str, &str); 8] = [
    ("CronJob", "cronjobs", "batch/v1", "/spec/jobTemplate/spec/template"),
    ("DaemonSet", "daemonsets", "apps/v1", "/spec/template"),
    ("Deployment", "deployments", "apps/v1", "/spec/template"),
    ("Job", "jobs", "batch/v1", "/spec/template"),
    ("PodTemplate", "podtemplates", "v1", "/template"),
    ("ReplicaSet", "replicasets", "apps/v1", "/spec/template"),
    ("ReplicationController", "replicationcontrollers", "v1", "/spec/template"),
    ("StatefulSet", "statefulsets", "apps/v1", "/spec/template"),
];

/// An object of `kind` that runs nothing, with further labels and fields of its pods.
fn workload(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let mut template = json!({"metadata": {"labels": {"app": "x"}},
                              "spec": {"containers": [{"name": "c", "image": "example.com/a:1"}]}});
    merge(&mut template["metadata"]["labels"], labels);
    merge(&mut template["spec"], spec);
    let selector = json!({"matchLabels": {"app": "x"}});
    let never = || {
        let mut template = template.clone();
        template["spec"]["restartPolicy"] = json!("Never");
        template
    };
    let of_spec = |spec: Value| json!({"spec": spec});
    let mut object = match kind {
        "CronJob" => {
            of_spec(json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": never()}}}))
        }
        "DaemonSet" => {
            template["spec"]["nodeSelector"] = json!({"no": "node"});
            of_spec(json!({"selector": selector, "template": template}))
        }
        "Job" => of_spec(json!({"suspend": true, "template": never()})),
        "PodTemplate" => json!({"template": template}),
        "ReplicationController" => of_spec(json!({"replicas": 0, "template": template})),
        _ => of_spec(json!({"replicas": 0, "selector": selector, "template": template})),
    };
    let version = KINDS.iter().find(|(known, ..)| *known == kind).unwrap().2;
    merge(&mut object, &json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}}));
    object
}

fn merge(object: &mut Value, fields: &Value) {
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
}

/// Two people who may edit; the first may also use every agent.
fn people(ns: &Namespace) -> (User, User) {
    let people = (ns.editor("may"), ns.editor("may-not"));
    ns.kubectl(&["create", "role", "templates", "--verb=*", "--resource=podtemplates"]).accepted();
    let accounts = [format!("--serviceaccount={}:may", ns.0), format!("--serviceaccount={}:may-not", ns.0)];
    let both = ["create", "rolebinding", "templates", "--role=templates", &accounts[0], &accounts[1]];
    ns.kubectl(&both).accepted();
    ns.kubectl(&["create", "rolebinding", "use", "--clusterrole=deputy-agent-user", &accounts[0]]).accepted();
    people
}

#[test]
fn templates_that_name_an_agent_are_for_those_who_may_use_it() {
    let ns = Namespace::new();
    ns.agent("a");
    let (may, may_not) = people(&ns);
    let label = json!({"deputy.dev/agent": "a"});
    let none = json!({});
    for (kind, resource, _, template) in KINDS {
        let create = |who: &User, object: &Value| {
            who.kubectl(&["-n", &ns.0, "create", "-f", "-"], &object.to_string())
        };
        let patch = |who: &User, name: &str, operation: &str, path: &str, value: &str| {
            let operations = json!([{"op": operation, "path": format!("{template}{path}"), "value": value}]);
            let operations = operations.to_string();
            who.kubectl(&["-n", &ns.0, "patch", resource, name, "--type=json", "-p", &operations], "")
        };
        let at = |path: &str| format!("[AI005] {}{path}", template[1..].replace('/', "."));
        let (by_label, by_account) =
            (at(".metadata.labels[\"deputy.dev/agent\"]"), at(".spec.serviceAccountName"));

        create(&may_not, &workload(kind, "plain", &none, &none)).accepted();
        create(&may_not, &workload(kind, "agent", &label, &none)).refused(&by_label);
        for account in ["serviceAccountName", "serviceAccount"] {
            let named = workload(kind, "agent", &none, &json!({account: "agent.a"}));
            create(&may_not, &named).refused(&by_account);
        }
        let said = create(&may, &workload(kind, "agent", &label, &none)).accepted();
        assert!(!said.contains("Warning:"), "{said}");
        let with_secret =
            json!({"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "s"}}]}]});
        let warned = create(&may, &workload(kind, "warned", &label, &with_secret)).accepted();
        let warning =
            format!("Warning: [AI201] {}.spec.containers[0].envFrom[0]", template[1..].replace('/', "."));
        assert!(warned.contains(&warning), "{warned}");

        let agents_label = "/metadata/labels/deputy.dev~1agent";
        may_not.kubectl(&["-n", &ns.0, "label", resource, "agent", "x=y"], "").accepted();
        // A Job's template is Kubernetes' own to protect once it is made.
        if kind != "Job" {
            let image = "/spec/containers/0/image";
            patch(&may_not, "agent", "replace", image, "example.com/evil:1").refused(&by_label);
            patch(&may, "agent", "replace", image, "example.com/a:2").accepted();
            patch(&may_not, "agent", "add", "/metadata/labels/y", "z").accepted();
            patch(&may_not, "plain", "add", agents_label, "a").refused(&by_label);
            patch(&may_not, "plain", "add", "/spec/serviceAccountName", "agent.a").refused(&by_account);
            patch(&may_not, "plain", "replace", image, "example.com/b:1").accepted();
        }
        if ["Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"].contains(&kind) {
            let name = format!("{resource}/agent");
            may_not.kubectl(&["-n", &ns.0, "scale", &name, "--replicas=0"], "").accepted();
        }
    }
    may_not
        .kubectl(
            &["-n", &ns.0, "patch", "cronjob", "agent", "-p", "{\"spec\":{\"schedule\":\"1 0 1 1 *\"}}"],
            "",
        )
        .accepted();
    may_not.kubectl(&["-n", &ns.0, "create", "job", "from", "--from=cronjob/agent"], "").refused("[AI005]");
    may_not.kubectl(&["-n", &ns.0, "rollout", "restart", "deployment/agent"], "").accepted();
}

/// Who may use one agent may not name another beside it.
#[test]
fn label_and_account_are_asked_about_separately() {
    let ns = Namespace::new();
    ns.agent("a");
    ns.agent("b");
    let one = ns.editor("one");
    // `kubectl create role` knows the built-in verbs only.
    let rule = json!({"apiGroups": ["deputy.dev"], "resources": ["agentidentities"], "resourceNames": ["a"], "verbs": ["use"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                      "metadata": {"name": "a", "namespace": ns.0}, "rules": [rule]});
    apply(&role.to_string()).accepted();
    let account = format!("--serviceaccount={}:one", ns.0);
    ns.kubectl(&["create", "rolebinding", "a", "--role=a", &account]).accepted();
    let create = |spec: &Value| {
        let object = workload("Deployment", "d", &json!({"deputy.dev/agent": "a"}), spec);
        one.kubectl(&["-n", &ns.0, "create", "-f", "-"], &object.to_string())
    };
    create(&json!({"serviceAccountName": "agent.b"}))
        .refused("[AI005] spec.template.spec.serviceAccountName");
    create(&json!({})).accepted();
}

/// The controllers that make pods of templates, with no more than their own rights, need no `use`; whoever else runs in
/// kube-system does.
#[test]
fn the_systems_controllers_are_named_one_by_one() {
    let ns = Namespace::new();
    ns.agent("a");
    let label = json!({"deputy.dev/agent": "a"});
    let of = |kind: &str| {
        let mut object = workload(kind, "made", &label, &json!({}));
        object["metadata"]["namespace"] = json!(ns.0);
        object.to_string()
    };
    let pod = ns.pod("made", "a", "");
    let create = |user: &str, object: &str| {
        run("kubectl", &["--as", user, "create", "--dry-run=server", "-f", "-"], object)
    };
    let controller = |name: &str| format!("system:serviceaccount:kube-system:{name}-controller");
    for name in ["daemon-set", "job", "replicaset", "replication", "statefulset"] {
        create(&controller(name), &pod).accepted();
    }
    create(&controller("cronjob"), &of("Job")).accepted();
    create(&controller("deployment"), &of("ReplicaSet")).accepted();

    // A cluster without a credential for each controller gives the one they share the rights of all.
    let shared = "system:kube-controller-manager";
    let other = "system:serviceaccount:kube-system:default";
    for (name, user) in [("shared", shared), ("other", other)] {
        let user = format!("--user={user}");
        ns.kubectl(&["create", "rolebinding", name, "--clusterrole=edit", &user]).accepted();
    }
    create(shared, &pod).accepted();
    create(other, &pod).refused("[AI005]");
}
