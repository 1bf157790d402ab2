//! What an exception lets pass, and that it lets nothing else pass: another place, agent, namespace, rule or time.

use deputy::{
    api::{crd, v1alpha1::ExceptedRule},
    index::{Census, Index, Observed, ReservedAudiences, Snapshot},
    policy::{Action, Admission, Exceptable, Mutation, Settings, Subject, admit, mutate, rules},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

static SETTINGS: LazyLock<Settings> =
    LazyLock::new(|| Settings::builtin(["https://api".to_owned()].into_iter().collect()).unwrap());

const ENDS: &str = "2027-01-15T00:00:00Z";

fn end() -> Timestamp {
    ENDS.parse().unwrap()
}

/// A moment at which an exception holds.
fn before() -> Timestamp {
    end() - SignedDuration::from_secs(1)
}

/// An exception for the agent `a`, as it is written but for `edit`.
fn exception(rule: &str, effect: &str, target: Value) -> Value {
    json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentException", "metadata": {"name": "e"},
           "spec": {"agentRef": {"namespace": "ns", "name": "a"}, "rules": [rule], "effect": effect, "target": target,
                    "reason": "RP-123", "expirationTime": ENDS}})
}

fn edited(mut exception: Value, edit: impl FnOnce(&mut Value)) -> Value {
    edit(&mut exception);
    exception
}

/// A world with agents `a` and `b`, and these exceptions.
fn world(exceptions: &[Value]) -> Arc<Snapshot> {
    let mut index = Index::new(ReservedAudiences::default());
    for name in ["a", "b"] {
        let identity = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1},
            "spec": {"owner": "o@example.com", "tokens": [{"name": "t", "audience": "https://papers.example.com"}]}});
        index.apply_identity(Observed::Object(serde_json::from_value(identity).unwrap()));
        let account = json!({"metadata": {"name": format!("agent.{name}"), "namespace": "ns", "uid": "x",
            "ownerReferences": [{"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": name,
                                 "uid": format!("uid-{name}"), "controller": true}]}});
        index.apply_account(&serde_json::from_value(account).unwrap());
    }
    for exception in exceptions {
        index.apply_exception(Observed::Object(serde_json::from_value(exception.clone()).unwrap()));
    }
    index.snapshot()
}

/// A clean pod of agent `a` with a second container and two volumes.
fn clean() -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"deputy.dev/agent": "a"},
                                      "annotations": {"deputy.dev/container": "app"}},
        "spec": {"containers": [{"name": "app", "image": "i"}, {"name": "side", "image": "i"}],
                 "volumes": [{"name": "data", "emptyDir": {}}, {"name": "more", "emptyDir": {}}]}});
    match mutate(&pod, "ns", &world(&[]), &SETTINGS).unwrap() {
        Mutation::Patch { operations, .. } => json_patch::patch(&mut pod, &operations).unwrap(),
        other => panic!("{other:?}"),
    }
    pod
}

fn with(path: &str, value: Value) -> Value {
    let mut pod = clean();
    *pod.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
    pod
}

fn of_side(field: &str, value: Value) -> Value {
    let mut pod = clean();
    pod["spec"]["containers"][1][field] = value;
    pod
}

fn volume(source: &str, value: Value) -> Value {
    with("/spec/volumes/0", json!({"name": "data", source: value}))
}

fn debug() -> Value {
    let mut pod = clean();
    pod["spec"]["ephemeralContainers"] =
        json!([{"name": "side-debug", "image": "i", "targetContainerName": "app"}]);
    pod
}

const SIDE: fn() -> Value = || json!({"containerName": "side"});
const DATA: fn() -> Value = || json!({"volumeName": "data"});

/// Rule, a pod that breaks it and nothing else, and the target of an exception that lets it pass.
fn allowed_rows() -> Vec<(&'static str, Value, Subject, Value)> {
    let key = format!("sk-ant-api03-{}", "aB3dE6gH9j".repeat(9));
    let mounts = json!([{"name": "deputy-tokens", "mountPath": "/t"}]);
    vec![
        ("AI107", of_side("volumeMounts", mounts), Subject::Pod, SIDE()),
        ("AI204", volume("iscsi", json!({"secretRef": {"name": "s"}})), Subject::Pod, DATA()),
        (
            "AI204",
            of_side("securityContext", json!({"windowsOptions": {"gmsaCredentialSpec": "s"}})),
            Subject::Pod,
            SIDE(),
        ),
        ("AI205", volume("csi", json!({"driver": "d"})), Subject::Pod, DATA()),
        ("AI206", of_side("args", json!([key])), Subject::Pod, SIDE()),
        ("AI206", volume("nfs", json!({"server": key, "path": "/"})), Subject::Pod, DATA()),
        ("AI212", volume("brandNew", json!({})), Subject::Pod, DATA()),
        ("AI304", volume("projected", json!({"sources": [{"podCertificate": {}}]})), Subject::Pod, DATA()),
        ("AI401", volume("hostPath", json!({"path": "/dev/kvm"})), Subject::Pod, DATA()),
        ("AI401", of_side("securityContext", json!({"privileged": true})), Subject::Pod, SIDE()),
        ("AI502", debug(), Subject::DebugContainers, json!({"containerName": "side-debug"})),
    ]
}

/// A pod for each rule that may only be warned of.
fn warned_rows() -> Vec<(&'static str, Value)> {
    let token = |audience: &str, seconds: i64| {
        volume(
            "projected",
            json!({"sources": [{"serviceAccountToken": {
            "audience": audience, "expirationSeconds": seconds, "path": "t"}}]}),
        )
    };
    let secret = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let mut pulls = clean();
    pulls["spec"]["imagePullSecrets"] = json!([{"name": "s"}]);
    let mut noted = clean();
    noted["metadata"]["annotations"]["note"] = json!("AKIAQ3EGRZ7XJ4WTN5LK");
    vec![
        ("AI101", with("/spec/automountServiceAccountToken", json!(true))),
        ("AI102", token("", 600)),
        ("AI103", token("https://papers.example.com", 86400)),
        ("AI104", token("https://x.example.com", 600)),
        ("AI201", edited(clean(), |pod| pod["spec"]["containers"][0]["env"] = secret.clone())),
        ("AI202", volume("secret", json!({"secretName": "s"}))),
        ("AI203", pulls),
        ("AI207", noted),
    ]
}

fn judge<'a>(
    pod: &Value,
    namespace: &str,
    subject: Subject,
    world: &'a Snapshot,
    now: Timestamp,
) -> Admission<'a> {
    admit(pod, namespace, subject, world, now, &SETTINGS).unwrap()
}

#[test]
fn an_exception_lets_pass_its_own_rule_at_its_own_place_and_time() {
    let mut seen = BTreeSet::new();
    for (rule, pod, subject, target) in allowed_rows() {
        seen.insert(rule);
        let right = exception(rule, "Allow", target.clone());
        let said = |exceptions: &[Value], now: Timestamp| {
            let world = world(exceptions);
            let admission = judge(&pod, "ns", subject, &world, now);
            let rules: BTreeSet<_> = admission.findings.iter().map(|finding| finding.rule.id).collect();
            (rules.into_iter().collect::<Vec<_>>(), admission.exceptions.len())
        };
        let refused = (vec![rule], 0);
        assert_eq!(said(&[], before()), refused, "{rule} without");
        assert_eq!(said(std::slice::from_ref(&right), before()), (vec![], 1), "{rule} with");
        assert_eq!(said(std::slice::from_ref(&right), end()), refused, "{rule} when it is over");
        let another = if rule == "AI206" { "AI401" } else { "AI206" };
        for (what, spoilt) in [
            ("another rule", edited(right.clone(), |e| e["spec"]["rules"] = json!([another]))),
            ("another agent", edited(right.clone(), |e| e["spec"]["agentRef"]["name"] = json!("b"))),
            (
                "another namespace",
                edited(right.clone(), |e| e["spec"]["agentRef"]["namespace"] = json!("other")),
            ),
            (
                "another container",
                edited(right.clone(), |e| e["spec"]["target"] = json!({"containerName": "app"})),
            ),
            (
                "another volume",
                edited(right.clone(), |e| e["spec"]["target"] = json!({"volumeName": "more"})),
            ),
            ("no target", edited(right.clone(), |e| e["spec"]["target"] = Value::Null)),
            (
                "two targets",
                edited(right.clone(), |e| {
                    e["spec"]["target"] = json!({"containerName": "side", "volumeName": "data"})
                }),
            ),
            ("two rules", edited(right.clone(), |e| e["spec"]["rules"] = json!([rule, another]))),
            ("every rule", edited(right.clone(), |e| e["spec"]["rules"] = json!(["*"]))),
        ] {
            assert_eq!(said(&[spoilt], before()), refused, "{rule}: {what}");
        }
        let warned = exception(rule, "Warn", Value::Null);
        assert_eq!(said(&[warned], before()), (vec![rule], 1), "{rule} warned of");
    }
    let allowed = rules().iter().filter(|rule| rule.exceptable == Exceptable::AllowOrWarn);
    assert_eq!(seen, allowed.map(|rule| rule.id).collect());
}

#[test]
fn a_rule_that_is_warned_of_does_not_refuse_and_cannot_be_allowed() {
    let mut seen = BTreeSet::new();
    for (rule, pod) in warned_rows() {
        seen.insert(rule);
        let refuses =
            |exceptions: &[Value], now| judge(&pod, "ns", Subject::Pod, &world(exceptions), now).is_denied();
        assert!(refuses(&[], before()), "{rule}");
        for rules in ["*", rule] {
            let warned = exception(rules, "Warn", Value::Null);
            let world = world(std::slice::from_ref(&warned));
            let admission = judge(&pod, "ns", Subject::Pod, &world, before());
            assert!(admission.findings.iter().any(|f| f.rule.id == rule), "{rule}");
            assert!(admission.findings.iter().all(|f| f.action == Action::Warn), "{:?}", admission.findings);
            assert_eq!(admission.exceptions[0].exception.name, "e");
            assert!(refuses(&[warned], end()), "{rule} when it is over");
        }
        // Stored past the schema.
        for target in [SIDE(), DATA(), Value::Null] {
            assert!(refuses(&[exception(rule, "Allow", target)], before()), "{rule}");
        }
    }
    assert_eq!(seen, rules().iter().filter(|r| r.exceptable == Exceptable::Warn).map(|r| r.id).collect());
}

#[test]
fn no_exception_makes_a_pod_somebody_else() {
    let all = [exception("*", "Warn", Value::Null), exception("AI401", "Allow", SIDE())];
    let world = world(&all);
    let forged = json!([{"name": "more", "mountPath": "/var/run/secrets/deputy.dev"}]);
    for (rule, pod) in [
        ("AI002", with("/spec/serviceAccountName", json!("default"))),
        ("AI003", with("/spec/serviceAccountName", json!("agent.b"))),
        ("AI004", with("/metadata/labels", json!({}))),
        ("AI006", with("/metadata/annotations/deputy.dev~1identity-uid", json!("uid-old"))),
        ("AI108", of_side("volumeMounts", forged)),
    ] {
        let admission = judge(&pod, "ns", Subject::Pod, &world, before());
        let denied: Vec<_> =
            admission.findings.iter().filter(|f| f.action == Action::Deny).map(|f| f.rule.id).collect();
        assert_eq!(denied, [rule]);
    }
    let nobody = judge(&clean(), "other", Subject::Pod, &world, before());
    assert_eq!(nobody.findings[0].rule.id, "AI001");
}

/// Kubernetes refuses such a pod later; admission comes first, and must not lend the exception meanwhile.
#[test]
fn a_name_that_two_bear_is_nobodys() {
    let privileged = json!({"privileged": true});
    let mut twins = of_side("securityContext", privileged.clone());
    twins["spec"]["containers"][0]["name"] = json!("side");
    let mut init = of_side("securityContext", privileged);
    init["spec"]["initContainers"] = json!([{"name": "side", "image": "i"}]);
    let mut volumes = volume("hostPath", json!({"path": "/"}));
    volumes["spec"]["volumes"][1]["name"] = json!("data");
    let mut nameless = volume("hostPath", json!({"path": "/"}));
    nameless["spec"]["volumes"][0]["name"] = json!("");
    for (pod, target) in
        [(twins, SIDE()), (init, SIDE()), (volumes, DATA()), (nameless, json!({"volumeName": ""}))]
    {
        let world = world(&[exception("AI401", "Allow", target)]);
        assert!(judge(&pod, "ns", Subject::Pod, &world, before()).is_denied(), "{pod}");
    }
}

#[test]
fn what_cannot_be_read_opens_nothing_and_is_counted() {
    let pod = volume("hostPath", json!({"path": "/"}));
    let right = exception("AI401", "Allow", DATA());
    let mut index = Index::new(ReservedAudiences::default());
    let put = |index: &mut Index, exception: Value| {
        index.apply_exception(Observed::Object(serde_json::from_value(exception).unwrap()));
    };
    put(&mut index, right.clone());
    let census = |index: &Index, now| index.snapshot().exceptions.census(now);
    assert_eq!(census(&index, before()), Census { in_force: 1, expired: 0, invalid: 0 });
    assert_eq!(census(&index, end()), Census { in_force: 0, expired: 1, invalid: 0 });
    assert_eq!(index.snapshot().exceptions.next_end(before()), Some(end()));
    assert_eq!(index.snapshot().exceptions.next_end(end()), None);
    let unreadable = Observed::Unreadable { namespace: String::new(), name: "e".into(), why: "w".into() };
    index.apply_exception(unreadable);
    assert_eq!(census(&index, before()), Census { in_force: 0, expired: 0, invalid: 1 });
    assert!(judge(&pod, "ns", Subject::Pod, &index.snapshot(), before()).is_denied());
    put(&mut index, right.clone());
    assert_eq!(index.snapshot().exceptions.of("ns", "a").len(), 1);
    index.reset_exceptions(vec![]);
    assert_eq!(census(&index, before()), Census::default());
    put(&mut index, right);
    index.delete_exception("e");
    assert_eq!(index.snapshot().exceptions.of("ns", "a").len(), 0);
}

#[test]
fn an_agent_may_be_entered_by_its_own_exception_only() {
    let interactive = exception("AI501", "Allow", Value::Null);
    let by = |exception: Value, now| {
        world(&[exception]).exceptions.interactive("ns", "a", now).map(|e| e.name.clone())
    };
    assert_eq!(by(interactive.clone(), before()).as_deref(), Some("e"));
    assert_eq!(by(interactive.clone(), end()), None);
    assert_eq!(
        by(edited(interactive.clone(), |e| e["spec"]["agentRef"]["name"] = json!("b")), before()),
        None
    );
    assert_eq!(by(edited(interactive.clone(), |e| e["spec"]["effect"] = json!("Warn")), before()), None);
    assert_eq!(by(edited(interactive, |e| e["spec"]["target"] = SIDE()), before()), None);
    assert_eq!(by(exception("*", "Warn", Value::Null), before()), None);
}

/// The kind offers the rules the table says may be excepted, and no other.
#[test]
fn the_kind_and_the_table_say_the_same() {
    let crd = serde_json::to_value(&crd::all()[0]).unwrap();
    assert_eq!(crd["spec"]["names"]["kind"], "AgentException");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let offered: BTreeSet<_> = spec["properties"]["rules"]["items"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule.as_str().unwrap())
        .filter(|rule| *rule != "*")
        .collect();
    let table = |pick: fn(Exceptable) -> bool| -> BTreeSet<_> {
        rules().iter().filter(|rule| pick(rule.exceptable)).map(|rule| rule.id).collect()
    };
    assert_eq!(offered, table(|exceptable| exceptable != Exceptable::Never));
    let allowed =
        table(Exceptable::may_allow).into_iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    assert!(spec["x-kubernetes-validations"].to_string().contains(&format!("r in [{allowed}]")), "{allowed}");
    for rule in &offered {
        let read: ExceptedRule = serde_json::from_value(json!(rule)).unwrap();
        assert_eq!(read.as_str(), *rule);
    }
}

proptest! {
    /// Whatever an exception says, it never turns a finding of another agent, and never adds one.
    #[test]
    fn exceptions_only_ever_take_away(
        row in 0..11_usize,
        rule in prop::sample::select(vec!["AI107", "AI204", "AI206", "AI401", "AI502", "*", "AI202"]),
        effect in prop::sample::select(vec!["Allow", "Warn"]),
        target in prop::sample::select(vec![Value::Null, SIDE(), DATA(), json!({"containerName": "app"})]),
        agent in prop::sample::select(vec!["a", "b"]),
        late in any::<bool>(),
    ) {
        let (_, pod, subject, _) = allowed_rows().swap_remove(row);
        let exception = edited(exception(rule, effect, target), |e| e["spec"]["agentRef"]["name"] = json!(agent));
        let now = if late { end() } else { before() };
        let (without, with) = (world(&[]), world(&[exception]));
        let (without, with) = (judge(&pod, "ns", subject, &without, now), judge(&pod, "ns", subject, &with, now));
        prop_assert!(with.findings.len() <= without.findings.len());
        prop_assert!(with.findings.iter().all(|f| without.findings.iter().any(|g| g.rule == f.rule && g.path == f.path)));
        prop_assert_eq!(with.exceptions.is_empty(), with.findings == without.findings);
        if late || agent == "b" {
            prop_assert_eq!(&with.findings, &without.findings);
        }
    }
}
