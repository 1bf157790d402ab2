//! Ways around Deputy, each tried in earnest: by a person with every right a namespace can give, or by the cluster's
//! administrator, against an agent that runs and holds a Secret. `docs/threat-model.md` names what stops each.

use crate::support::{
    IMAGE, Namespace, SYSTEM, Said, User, apply, eventually, figure, get, kubectl, replicas, run,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

const END: &str = "2099-01-01T00:00:00Z";

/// A namespace with the agents `a`, whose pod `p` runs with its Secret, and `b`; the pod `plain` of nobody; and a person
/// who administers the namespace but may not `use` its agents.
fn scene() -> (Namespace, User) {
    let ns = Namespace::enforced();
    ns.declares("a", END).accepted();
    ns.has_reason("a", "Ready", "AccountReady");
    ns.agent("b");
    apply(&ns.with_secret("p", "a")).accepted();
    ns.kubectl(&["run", "plain", "--image", IMAGE, "--image-pull-policy=Never", "--", "sleep", "3600"])
        .accepted();
    for pod in ["p", "plain"] {
        ns.runs(pod);
    }
    let admin = ns.editor("admin");
    let account = format!("--serviceaccount={}:admin", ns.0);
    ns.kubectl(&["create", "rolebinding", "admins", "--clusterrole=admin", &account]).accepted();
    (ns, admin)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a door a line")]
fn every_side_door_is_closed() {
    let (ns, admin) = scene();
    let by =
        |arguments: &[&str], input: &str| admin.kubectl(&[&["-n", ns.0.as_str()], arguments].concat(), input);
    let root = |arguments: &[&str]| ns.kubectl(arguments);
    let raw = |path: &str, object: &Value| {
        let path = format!("/api/v1/namespaces/{}/{path}", ns.0);
        run("kubectl", &["create", "--raw", &path, "-f", "-"], &object.to_string())
    };
    apply(&ns.pod("waiting", "a", ", schedulerName: nobody")).accepted();
    let node = get(&["nodes"])["items"][0]["metadata"]["name"].clone();
    let binding = |metadata: Value| {
        let mut binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata,
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        binding["metadata"]["name"] = "waiting".into();
        binding
    };
    let label = json!({"labels": {"deputy.dev/agent": "b"}});
    let stamp = json!({"annotations": {"deputy.dev/identity-uid": "x"}});
    let container = json!([{"name": "c", "image": IMAGE, "imagePullPolicy": "Never"}]);
    let pod = |metadata: Value, spec: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": container}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod.to_string()
    };
    let named = |name: &str| json!({"name": name, "namespace": ns.0});
    let of_a = |name: &str| json!({"name": name, "namespace": ns.0, "labels": {"deputy.dev/agent": "a"}});
    let from_secret = json!([{"name": "c", "image": IMAGE, "envFrom": [{"secretRef": {"name": "db"}}]}]);
    let debug = |pod: &str| {
        let containers = json!({"spec": {"ephemeralContainers": from_secret}}).to_string();
        root(&["patch", "pod", pod, "--subresource=ephemeralcontainers", "-p", &containers])
    };
    let legacy = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "legacy", "annotations": {"kubernetes.io/service-account.name": "agent.a"}}});
    let generated = |spec: Value| {
        let metadata = json!({"generateName": "g-", "namespace": ns.0, "labels": {"deputy.dev/agent": "a"}});
        run("kubectl", &["create", "-f", "-"], &pod(metadata, spec))
    };
    let relabel = json!({"metadata": label}).to_string();
    let doors: Vec<(&str, Said, &str)> = vec![
        ("label, by update", root(&["label", "pod", "p", "deputy.dev/agent=b", "--overwrite"]), "[AI006]"),
        ("label, by status", root(&["patch", "pod", "p", "--subresource=status", "-p", &relabel]), "[AI006]"),
        ("label, by binding", raw("pods/waiting/binding", &binding(label.clone())), "[AI006]"),
        ("label, by the older binding", raw("bindings", &binding(label)), "[AI006]"),
        ("annotation, by binding", raw("pods/waiting/binding", &binding(stamp)), "[AI006]"),
        ("debug container of the agent's pod, with its Secret", debug("p"), "[AI502]"),
        ("debug container of another pod, with the Secret", debug("plain"), "[AI301]"),
        (
            "the account by its other name",
            by(&["create", "-f", "-"], &pod(named("x"), json!({"serviceAccount": "agent.a"}))),
            "[AI005]",
        ),
        (
            "label and account of two agents",
            apply(&pod(of_a("x"), json!({"serviceAccount": "agent.b"}))),
            "[AI003]",
        ),
        (
            "token of the agent, by the namespace's administrator",
            by(&["create", "token", "agent.a"], ""),
            "[AI106]",
        ),
        ("token of the agent, in a Secret", by(&["create", "-f", "-"], &legacy.to_string()), "[AI105]"),
        ("exec", root(&["exec", "p", "--", "true"]), "[AI501]"),
        ("attach", root(&["attach", "p"]), "[AI501]"),
        ("another image, without use", by(&["set", "image", "pod/p", "app=evil"], ""), "[AI006]"),
        (
            "the Secret, by a pod of nobody",
            apply(&pod(named("x"), json!({"containers": from_secret}))),
            "[AI301]",
        ),
        ("the Secret, by another agent", apply(&ns.with_secret("x", "b")), "[AI301]"),
        ("a name made by the API server", generated(json!({"containers": from_secret})), "[AI20"),
        (
            "a dry run",
            run("kubectl", &["create", "--dry-run=server", "-f", "-"], &ns.with_secret("x", "b")),
            "[AI301]",
        ),
    ];
    for (door, said, rule) in &doors {
        assert!(!said.ok && said.text.contains(rule), "{door}: not closed by {rule}: {}", said.text);
    }
    figure(&format!("bypass: {} side doors tried, {} closed", doors.len(), doors.len()));
    // What is refused is the way around, and not the agent.
    let made = generated(json!({}));
    assert!(made.ok, "{}", made.text);
    run("kubectl", &["create", "--dry-run=server", "-f", "-"], &ns.with_secret("x", "a")).accepted();
    assert!(!ns.kubectl(&["get", "pod", "x"]).ok, "a dry run left a pod");
}

/// A template is no way around: what Kubernetes' own controllers make of it is judged like what a person makes.
#[test]
fn what_controllers_make_of_a_template_is_judged() {
    let (ns, _) = scene();
    let agent = json!({"metadata": {"labels": {"app": "w", "deputy.dev/agent": "b"}},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": IMAGE,
            "envFrom": [{"secretRef": {"name": "db"}}]}]}});
    let foreign = json!({"metadata": {"labels": {"app": "w"}}, "spec": agent["spec"]});
    let never = |template: &Value| {
        let mut template = template.clone();
        template["spec"]["restartPolicy"] = "Never".into();
        json!({"spec": {"template": template}})
    };
    let kinds = |name: &str, template: &Value| {
        let selector = json!({"matchLabels": {"app": "w"}});
        let simple = json!({"selector": selector, "template": template});
        let replicated = json!({"replicas": 1, "selector": selector, "template": template});
        [
            ("apps/v1", "DaemonSet", simple),
            ("apps/v1", "Deployment", replicated.clone()),
            ("apps/v1", "StatefulSet", replicated),
            ("batch/v1", "CronJob", json!({"schedule": "* * * * *", "suspend": true, "jobTemplate": never(template)})),
        ]
        .map(|(version, kind, spec)| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": ns.0}, "spec": spec}))
    };
    for (name, template) in [("agents", &agent), ("others", &foreign)] {
        for object in kinds(name, template) {
            apply(&object.to_string()).accepted();
        }
        let job = format!("{name}-job");
        ns.kubectl(&["create", "job", &job, &format!("--from=cronjob/{name}")]).accepted();
    }
    // DaemonSet, StatefulSet, Job, and the Deployment's ReplicaSet, of both.
    eventually("every controller was refused", || {
        let events = get(&["-n", &ns.0, "events", "--field-selector", "reason=FailedCreate"]);
        let mut refused: BTreeMap<(String, bool), bool> = BTreeMap::new();
        for event in events["items"].as_array()? {
            let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let of_agent = text("/involvedObject/name").starts_with("agents");
            *refused.entry((text("/involvedObject/kind").to_owned(), of_agent)).or_default() |=
                text("/message").contains("[AI301]");
        }
        (refused.len() == 8 && refused.values().all(|by_the_rule| *by_the_rule)).then_some(())
    });
    let pods = get(&["-n", &ns.0, "pods", "-l", "app=w"]);
    assert!(pods["items"].as_array().unwrap().is_empty(), "{pods}");
}

/// Does what must be refused over and over until told to stop; returns how often it was refused by the rule. A permit,
/// even one, fails the test; an answer of the API server's that it cannot ask is no permit.
fn besieged(ns: &Namespace, shaken: impl FnOnce()) -> u32 {
    let (over, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    let siege = |attempt: &(dyn Fn() -> Said + Sync), rule: &str| {
        while !over.load(Ordering::Relaxed) {
            let said = attempt();
            assert!(!said.ok, "let through: {}", said.text);
            refused.fetch_add(u32::from(said.text.contains(rule)), Ordering::Relaxed);
        }
    };
    let theft = ns.with_secret("stolen", "b");
    let steal = || run("kubectl", &["create", "-f", "-"], &theft);
    let token = || ns.kubectl(&["create", "token", "agent.a"]);
    let enter = || ns.kubectl(&["exec", "p", "--", "true"]);
    thread::scope(|scope| {
        scope.spawn(|| siege(&steal, "[AI301]"));
        scope.spawn(|| siege(&token, "[AI106]"));
        scope.spawn(|| siege(&enter, "[AI501]"));
        shaken();
        let then = refused.load(Ordering::Relaxed);
        eventually("twenty more were refused by their rules", || {
            (refused.load(Ordering::Relaxed) > then + 20).then_some(())
        });
        over.store(true, Ordering::Relaxed);
    });
    refused.into_inner()
}

#[test]
fn nothing_slips_through_while_a_replica_of_the_webhook_is_killed() {
    let (ns, _) = scene();
    let refused = besieged(&ns, || {
        for _ in 0..2 {
            let name = replicas("webhook")[0]["metadata"]["name"].as_str().unwrap().to_owned();
            kubectl(&["-n", SYSTEM, "delete", "pod", &name, "--grace-period=0", "--force"]).accepted();
            kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/deputy-webhook", "--timeout=90s"])
                .accepted();
        }
    });
    figure(&format!("bypass: {refused} attempts refused while replicas were killed, none let through"));
    eventually("the agent's own pods start", || apply(&ns.with_secret("next", "a")).ok.then_some(()));
}

/// For [`crate::own_cluster`]: the same while the API server is killed and comes back.
pub fn nothing_slips_through_while(shaken: impl FnOnce()) {
    let (ns, _) = scene();
    let refused = besieged(&ns, shaken);
    figure(&format!(
        "bypass: {refused} attempts refused around a restart of the API server, none let through"
    ));
}

/// An identity made again under its name is another one: it has the Secret only when no pod of the first is left.
#[test]
fn an_identity_made_again_waits_for_its_predecessors_pods() {
    let (ns, _) = scene();
    let uid = |kind: &str, name: &str| {
        let object = get(&["-n", &ns.0, kind, name]);
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let holder = || {
        let claims = get(&["credentialclaims"]);
        let ours =
            |claim: &&Value| claim.pointer("/spec/subject/secret/namespace") == Some(&ns.0.clone().into());
        let claim = claims["items"].as_array()?.iter().find(ours)?;
        let released = claim.pointer("/spec/releasedTime").is_some();
        (!released)
            .then(|| claim.pointer("/spec/holder/uid").and_then(Value::as_str).map(str::to_owned))
            .flatten()
    };
    let (first, old_pod) = (uid("agentidentity", "a"), uid("pod", "p"));
    assert_eq!(holder(), Some(first));
    ns.kubectl(&["delete", "agentidentity", "a"]).accepted();
    ns.declares("a", END).accepted();
    let second = uid("agentidentity", "a");
    eventually("the second has it, and the first one's pod is gone", || {
        let holder = holder();
        let pod = ns.kubectl(&["get", "pod", "p", "-o", "jsonpath={.metadata.uid}"]);
        let lives = pod.ok && pod.text == old_pod;
        assert!(!(lives && holder.as_ref() == Some(&second)), "two identities have the Secret");
        (holder.as_ref() == Some(&second)).then_some(())
    });
    apply(&ns.with_secret("p", "a")).accepted();
}
