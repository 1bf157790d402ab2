//! Static credentials at admission: who may use a Secret, which keys of it and how; and what nobody else may name.

use deputy::{
    index::{Index, Observed, ReservedAudiences, Snapshot, Subject},
    policy::{self, Settings, admit},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const END: &str = "2026-06-01T00:00:00Z";

fn subject(name: &str) -> Subject {
    Subject::Secret { namespace: "ns".into(), name: name.into() }
}

/// Two agents: `a` declares Secrets as files and as environment, `b` declares one of them as well.
fn index() -> Index {
    let secret = |name: &str, delivery: &str| {
        json!({"name": name, "type": "Secret", "reason": "no token exchange", "expirationTime": END,
               "secret": {"secretName": name, "keys": ["password", "user"], "delivery": delivery}})
    };
    let mut index = Index::new(ReservedAudiences::default());
    for (name, credentials) in [
        ("a", json!([secret("db", "File"), secret("env", "Env"), secret("free", "File")])),
        ("b", json!([secret("db", "File")])),
    ] {
        let uid = format!("uid-{name}");
        let identity = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
            "metadata": {"name": name, "namespace": "ns", "uid": uid, "generation": 1},
            "spec": {"owner": "o@example.com", "credentials": credentials,
                     "serviceAccount": {"imagePullSecrets": [{"name": "regcred"}]}}});
        index.apply_identity(Observed::Object(serde_json::from_value(identity).unwrap()));
        let owner = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": name, "uid": uid,
                           "controller": true});
        let account = json!({"metadata": {"name": format!("agent.{name}"), "namespace": "ns", "uid": "x",
                                          "ownerReferences": [owner]}});
        index.apply_account(&serde_json::from_value(account).unwrap());
    }
    index
}

fn claim(index: &mut Index, secret: &str, holder: &str, released: Option<&str>) {
    let subject = subject(secret);
    let mut object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "CredentialClaim",
        "metadata": {"name": subject.claim_name(), "uid": "c", "resourceVersion": "1"},
        "spec": {"subject": subject.to_wire(), "holder": {"namespace": "ns", "name": holder, "uid": format!("uid-{holder}")}}});
    if let Some(time) = released {
        object["spec"]["releasedTime"] = json!(time);
    }
    index.apply_claim(Observed::Object(serde_json::from_value(object).unwrap()));
}

/// `a` holds two of the Secrets it declares.
fn world() -> Arc<Snapshot> {
    let mut index = index();
    claim(&mut index, "db", "a", None);
    claim(&mut index, "env", "a", None);
    index.snapshot()
}

fn pod(agent: &str, volumes: &Value, containers: &Value) -> Value {
    json!({"metadata": {"name": "p", "labels": {"deputy.dev/agent": agent},
                        "annotations": {"deputy.dev/identity-uid": format!("uid-{agent}")}},
           "spec": {"serviceAccountName": format!("agent.{agent}"), "automountServiceAccountToken": false,
                    "volumes": volumes, "containers": containers}})
}

fn file(secret: &str, items: &Value) -> Value {
    json!([{"name": "v", "secret": {"secretName": secret, "items": items}}])
}

fn mounting() -> Value {
    json!([{"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/db"}]}])
}

fn reading(secret: &str, key: &str) -> Value {
    json!([{"name": "app", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}]}])
}

fn password() -> Value {
    json!([{"key": "password", "path": "p"}])
}

fn before() -> Timestamp {
    END.parse::<Timestamp>().unwrap() - SignedDuration::from_secs(1)
}

/// The findings, each as rule and message.
fn judged(pod: &Value, kind: policy::Subject, world: &Snapshot, now: Timestamp) -> (Vec<String>, bool) {
    let settings = Settings::builtin(ReservedAudiences::default()).unwrap();
    let admission = admit(pod, "ns", kind, world, now, &settings).unwrap();
    let findings = admission.findings.iter().map(|f| format!("{} {}: {}", f.rule.id, f.path, f.message));
    (findings.collect(), admission.awaited)
}

fn findings(pod: &Value) -> Vec<String> {
    judged(pod, policy::Subject::Pod, &world(), before()).0
}

#[test]
fn a_pod_uses_what_its_identity_declares_and_holds() {
    assert_eq!(findings(&pod("a", &file("db", &password()), &mounting())), [""; 0]);
    assert_eq!(findings(&pod("a", &json!([]), &reading("env", "user"))), [""; 0]);
    let projected =
        json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "db", "items": password()}}]}}]);
    assert_eq!(findings(&pod("a", &projected, &mounting())), [""; 0]);
}

#[test]
fn everything_else_is_refused_by_the_rule_that_says_why() {
    let nothing = json!([]);
    let all_keys = json!([{"name": "app", "envFrom": [{"secretRef": {"name": "env"}}]}]);
    let token = json!([{"key": "token", "path": "t"}]);
    let sub_path =
        json!([{"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/db", "subPath": "p"}]}]);
    let mount = json!([{"name": "v", "mountPath": "/db"}]);
    let twice = json!([{"name": "app", "volumeMounts": mount}, {"name": "side", "volumeMounts": mount}]);
    let mut both = reading("env", "user");
    both.as_array_mut().unwrap().push(reading("env", "password")[0].clone());
    let mut split = reading("env", "user");
    split.as_array_mut().unwrap().push(mounting()[0].clone());
    let cases = [
        ("a", file("other", &password()), mounting(), "AI202", "does not declare"),
        ("a", file("db", &nothing), mounting(), "AI202", "all its keys are taken"),
        ("a", file("db", &token), mounting(), "AI202", "does not declare its key \"token\""),
        ("a", file("env", &password()), mounting(), "AI202", "delivery: Env"),
        ("a", nothing.clone(), reading("db", "user"), "AI201", "delivery: File"),
        ("a", nothing.clone(), reading("env", "token"), "AI201", "does not declare its key \"token\""),
        ("a", nothing.clone(), all_keys, "AI201", "all its keys are taken"),
        ("a", file("db", &password()), sub_path, "AI107", "subPath"),
        ("a", file("db", &password()), twice, "AI107", "container \"app\" already has"),
        ("a", nothing, both, "AI107", "container \"app\" already has"),
        ("a", file("db", &password()), split, "AI107", "container \"app\" already has"),
        ("a", file("free", &password()), mounting(), "AI301", "does not hold Secret \"free\" yet"),
        ("b", file("db", &password()), mounting(), "AI301", "held by AgentIdentity \"a\""),
        ("b", file("env", &password()), mounting(), "AI301", "held by AgentIdentity \"a\""),
    ];
    for (at, (agent, volumes, containers, rule, message)) in cases.into_iter().enumerate() {
        let found = findings(&pod(agent, &volumes, &containers));
        assert_eq!(found.len(), 1, "case {at}: {found:?}");
        assert!(found[0].starts_with(rule) && found[0].contains(message), "case {at}: {found:?}");
    }
}

#[test]
fn a_credential_ends_to_the_second() {
    let pod = pod("a", &file("db", &password()), &mounting());
    assert_eq!(judged(&pod, policy::Subject::Pod, &world(), before()).0, [""; 0]);
    let (found, _) = judged(&pod, policy::Subject::Pod, &world(), END.parse().unwrap());
    assert!(
        found.len() == 1 && found[0].starts_with("AI202") && found[0].contains("expirationTime"),
        "{found:?}"
    );
}

/// Only a claim that may be on its way is waited for.
#[test]
fn a_claim_that_may_come_is_waited_for_and_a_lost_one_is_not() {
    let awaited = |agent: &str, secret: &str, world: &Snapshot| {
        let pod = pod(agent, &file(secret, &password()), &mounting());
        let (found, awaited) = judged(&pod, policy::Subject::Pod, world, before());
        assert!(found.iter().any(|f| f.starts_with("AI301")), "{found:?}");
        awaited
    };
    assert!(awaited("a", "free", &world()));
    assert!(!awaited("b", "db", &world()));
    let mut released = index();
    claim(&mut released, "db", "a", Some("2026-01-01T00:00:00Z"));
    assert!(awaited("a", "db", &released.snapshot()), "its former holder takes it up again");
    assert!(!awaited("b", "db", &released.snapshot()), "it is still the other's");
    // Something else is wrong as well, which no claim puts right.
    let mut pod = pod("a", &file("free", &password()), &mounting());
    pod["spec"]["hostPID"] = json!(true);
    assert!(!judged(&pod, policy::Subject::Pod, &world(), before()).1);
}

/// A claim that is not named by what it claims is nobody's.
#[test]
fn a_claim_under_a_false_name_grants_nothing() {
    let mut index = index();
    let object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "CredentialClaim",
        "metadata": {"name": subject("db").claim_name(), "uid": "c", "resourceVersion": "1"},
        "spec": {"subject": subject("free").to_wire(), "holder": {"namespace": "ns", "name": "a", "uid": "uid-a"}}});
    index.apply_claim(Observed::Object(serde_json::from_value(object).unwrap()));
    for name in ["db", "free"] {
        assert_eq!(index.snapshot().claim(&subject(name)), None);
    }
}

/// A pod that is no agent's, and need not be, may name any Secret but one that is claimed; by whichever of the paths.
#[test]
fn nobody_else_names_a_claimed_secret() {
    let by_path = |secret: &str| {
        [
            json!({"imagePullSecrets": [{"name": secret}]}),
            json!({"volumes": [{"name": "v", "secret": {"secretName": secret}}]}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": secret}}]}}]}),
            json!({"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "azureFile": {"secretName": secret, "shareName": "s"}}]}),
            json!({"volumes": [{"name": "v", "cephfs": {"secretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "cinder": {"secretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "flexVolume": {"secretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "iscsi": {"secretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "rbd": {"secretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "scaleIO": {"secretRef": {"name": secret}}}]}),
            json!({"volumes": [{"name": "v", "storageos": {"secretRef": {"name": secret}}}]}),
            json!({"containers": reading(secret, "k")}),
            json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": secret}}]}]}),
            json!({"initContainers": reading(secret, "k")}),
            json!({"initContainers": [{"name": "c", "envFrom": [{"secretRef": {"name": secret}}]}]}),
            json!({"ephemeralContainers": reading(secret, "k")}),
            json!({"ephemeralContainers": [{"name": "c", "envFrom": [{"secretRef": {"name": secret}}]}]}),
        ]
    };
    assert_eq!(by_path("db").len(), 18, "as many as a PodSpec has");
    for (claimed, free) in by_path("db").into_iter().zip(by_path("unclaimed")) {
        let found = |spec: &Value, kind| {
            judged(&json!({"metadata": {"name": "p"}, "spec": spec}), kind, &world(), before()).0
        };
        let refused = found(&claimed, policy::Subject::ForeignPod);
        assert!(refused.len() == 1 && refused[0].starts_with("AI301"), "{claimed}: {refused:?}");
        assert_eq!(found(&free, policy::Subject::ForeignPod), [""; 0]);
        // In a running pod only the debug containers are new.
        let debug = found(&claimed, policy::Subject::ForeignDebugContainers);
        assert_eq!(debug.len(), usize::from(claimed.get("ephemeralContainers").is_some()), "{debug:?}");
    }
}
