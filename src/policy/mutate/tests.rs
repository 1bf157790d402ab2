use super::*;
use crate::index::{Index, Observed, ReservedAudiences};

/// A world with agents `plain` (no tokens), `full` (tokens, API access, pull secret) and `new` (no account yet).
fn world() -> std::sync::Arc<Snapshot> {
    let mut index = Index::new(ReservedAudiences::default());
    for (name, spec) in [
        ("plain", json!({"owner": "o@example.com"})),
        (
            "full",
            json!({"owner": "o@example.com", "kubernetesAPIAccess": "Token",
                   "serviceAccount": {"imagePullSecrets": [{"name": "regcred"}]},
                   "tokens": [{"name": "papers", "audience": "https://papers.example.com",
                               "expirationSeconds": 600}]}),
        ),
        ("new", json!({"owner": "o@example.com"})),
    ] {
        let object = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": spec,
                            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity"});
        index.apply_identity(Observed::Object(serde_json::from_value(object).unwrap()));
        if name != "new" {
            let owner = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": name,
                               "uid": format!("uid-{name}"), "controller": true});
            let account = json!({"metadata": {"name": format!("agent.{name}"), "namespace": "ns", "uid": "a",
                                              "ownerReferences": [owner]}});
            index.apply_account(&serde_json::from_value(account).unwrap());
        }
    }
    let default = json!({"metadata": {"name": "default", "namespace": "ns", "uid": "d"},
                         "imagePullSecrets": [{"name": "default-pull"}]});
    index.apply_account(&serde_json::from_value(default).unwrap());
    index.snapshot()
}

fn pod(agent: Option<&str>, account: Option<&str>) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "i"}]}});
    if let Some(agent) = agent {
        pod["metadata"]["labels"] = json!({"deputy.dev/agent": agent});
    }
    if let Some(account) = account {
        pod["spec"]["serviceAccountName"] = json!(account);
        pod["spec"]["serviceAccount"] = json!(account);
    }
    pod
}

/// What Kubernetes' own plugin adds before our webhook is called.
fn with_injected(mut pod: Value) -> Value {
    pod["spec"]["volumes"] = json!([{"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        {"name": "kube-api-access-x7k2p", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]);
    pod
}

fn patched(pod: &Value) -> (Value, Vec<String>) {
    let settings = &Settings::default();
    let world = world();
    match mutate(pod, "ns", &world, settings).unwrap() {
        Mutation::Patch { operations, warnings, .. } => {
            let mut result = pod.clone();
            json_patch::patch(&mut result, &operations).unwrap();
            match mutate(&result, "ns", &world, settings).unwrap() {
                Mutation::Patch { operations, .. } => {
                    assert_eq!(operations.0, [], "a second run changes something")
                }
                other => panic!("a second run gives {other:?}"),
            }
            (result, warnings.iter().map(ToString::to_string).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn refused(pod: &Value) -> String {
    match mutate(pod, "ns", &world(), &Settings::default()).unwrap() {
        Mutation::Refuse(findings) => findings[0].to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_one_label_is_enough() {
    let (pod, warnings) = patched(&with_injected(pod(Some("plain"), Some("default"))));
    assert_eq!(
        pod,
        json!({
            "metadata": {"name": "p", "labels": {"deputy.dev/agent": "plain"},
                         "annotations": {"deputy.dev/identity-uid": "uid-plain"}},
            "spec": {"serviceAccountName": "agent.plain", "serviceAccount": "agent.plain",
                     "automountServiceAccountToken": false, "volumes": [],
                     "containers": [{"name": "app", "image": "i", "volumeMounts": []}]},
        })
    );
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn the_account_is_enough_too() {
    let (pod, _) = patched(&pod(None, Some("agent.plain")));
    assert_eq!(pod["metadata"]["labels"], json!({"deputy.dev/agent": "plain"}));
}

#[test]
fn declared_tokens_and_api_access_are_projected_into_one_container() {
    let (pod, _) = patched(&with_injected(pod(Some("full"), Some("default"))));
    let names: Vec<_> =
        pod["spec"]["volumes"].as_array().unwrap().iter().map(|v| v["name"].clone()).collect();
    assert_eq!(names, ["deputy-tokens", "deputy-kube-api-access"]);
    assert_eq!(
        pod["spec"]["volumes"][0]["projected"]["sources"],
        json!([{"serviceAccountToken": {"audience": "https://papers.example.com", "expirationSeconds": 600,
                                        "path": "tokens/papers"}}])
    );
    let api = &pod["spec"]["volumes"][1]["projected"]["sources"];
    assert_eq!(api[0], json!({"serviceAccountToken": {"expirationSeconds": 3600, "path": "token"}}));
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"],
        json!([
            {"name": "deputy-tokens", "mountPath": "/var/run/secrets/deputy.dev", "readOnly": true},
            {"name": "deputy-kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
             "readOnly": true},
        ])
    );
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "regcred"}]));
}

#[test]
fn the_consumer_is_named_or_the_only_one() {
    let mut two = pod(Some("full"), None);
    two["spec"]["containers"] = json!([{"name": "proxy"}, {"name": "app"}]);
    assert!(refused(&two).contains("several containers"));

    for (key, name) in [("deputy.dev/container", "app"), ("kubectl.kubernetes.io/default-container", "app")] {
        let mut named = two.clone();
        named["metadata"]["annotations"] = json!({key: name});
        let (pod, _) = patched(&named);
        assert!(pod["spec"]["containers"][0]["volumeMounts"].is_null(), "{key}");
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 2, "{key}");
    }
    let mut both = two.clone();
    both["metadata"]["annotations"] =
        json!({"deputy.dev/container": "proxy", "kubectl.kubernetes.io/default-container": "app"});
    assert!(!patched(&both).0["spec"]["containers"][0]["volumeMounts"].is_null());

    let mut wrong = two.clone();
    wrong["metadata"]["annotations"] = json!({"deputy.dev/container": "nobody"});
    assert!(
        refused(&wrong)
            .starts_with("[AI107] metadata.annotations[\"deputy.dev/container\"]: names container")
    );

    let mut no_tokens = two;
    no_tokens["metadata"]["labels"]["deputy.dev/agent"] = json!("plain");
    patched(&no_tokens);
}

#[test]
fn contradictions_are_refused_and_never_overwritten() {
    for (agent, account, rule) in [
        (Some(""), None, "[AI001]"),
        (Some(""), Some("agent.plain"), "[AI001]"),
        (Some("plain"), Some("agent.full"), "[AI003]"),
        (Some("plain"), Some("web"), "[AI003]"),
    ] {
        let text = refused(&pod(agent, account));
        assert!(text.starts_with(rule), "{agent:?} {account:?}: {text}");
    }
}

#[test]
fn a_pod_that_names_no_agent_is_left_alone() {
    for account in [None, Some("default"), Some("web")] {
        assert!(matches!(
            mutate(&pod(None, account), "ns", &world(), &Settings::default()).unwrap(),
            Mutation::NotAnAgent
        ));
    }
}

#[test]
fn what_may_be_on_its_way_is_waited_for() {
    for agent in ["nobody", "new"] {
        let Mutation::Wait(finding) =
            mutate(&pod(Some(agent), None), "ns", &world(), &Settings::default()).unwrap()
        else {
            panic!("{agent}");
        };
        assert_eq!(finding.rule.id, "AI001");
    }
    assert!(matches!(
        mutate(&pod(Some("plain"), None), "other", &world(), &Settings::default()).unwrap(),
        Mutation::Wait(_)
    ));
}

#[test]
fn pull_secrets_become_exactly_the_agents() {
    let mut brought = pod(Some("full"), None);
    brought["spec"]["imagePullSecrets"] =
        json!([{"name": "default-pull"}, {"name": "mine"}, {"name": "regcred"}]);
    let (pod, warnings) = patched(&brought);
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "regcred"}]));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("[AI203] spec.imagePullSecrets[1]: Secret \"mine\" is not the agent's"));
}

#[test]
fn only_the_injected_volume_is_taken_out() {
    let mut counterfeit = with_injected(pod(Some("plain"), None));
    counterfeit["spec"]["volumes"][0]["projected"]["sources"][0] = json!({"secret": {"name": "s"}});
    let (pod, _) = patched(&counterfeit);
    assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
}

#[test]
fn fields_this_version_does_not_know_stay() {
    let mut future = with_injected(pod(Some("full"), None));
    future["spec"]["newThing"] = json!({"deep": [1, {"x": null}]});
    future["spec"]["containers"][0]["newThing"] = json!(true);
    let (pod, _) = patched(&future);
    assert_eq!(pod["spec"]["newThing"], json!({"deep": [1, {"x": null}]}));
    assert_eq!(pod["spec"]["containers"][0]["newThing"], json!(true));
}

#[test]
fn a_pod_copied_from_a_running_one_is_brought_up_to_date() {
    let (mut copy, _) = patched(&pod(Some("full"), None));
    copy["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["audience"] = json!("old");
    copy["metadata"]["annotations"]["deputy.dev/identity-uid"] = json!("predecessor");
    let (pod, _) = patched(&copy);
    assert_eq!(pod, patched(&self::pod(Some("full"), None)).0);
}

#[test]
fn malformed_pods_are_errors() {
    for pod in [json!("pod"), json!({"spec": []}), json!({"spec": {"containers": {}}, "metadata": {}})] {
        assert!(mutate(&pod, "ns", &world(), &Settings::default()).is_err(), "{pod}");
    }
}
