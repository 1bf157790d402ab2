//! The release as a whole: its metrics, its silence, its absence.

use crate::support::{IMAGE, Namespace, SYSTEM, apply, eventually, get, kubectl, replicas, run};
use serde_json::{Value, json};
use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

#[test]
fn metrics_are_what_promtool_accepts() {
    for role in ["broker", "controller", "webhook"] {
        // A release without a broker has none to show.
        let Some(pod) = replicas(role).into_iter().next() else { continue };
        let pod = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
        let text = kubectl(&["get", "--raw", &path]).accepted();
        assert!(text.contains("deputy_build_info"), "{text}");
        let said = run("promtool", &["check", "metrics"], &text);
        assert!(said.ok && said.text.is_empty(), "{role}: {}", said.text);
    }
}

/// A quiet minute costs no write: by the controller's own count, and, where the cluster is ours and its audit log at
/// hand, by the API server's.
#[test]
fn nothing_is_written_when_nothing_changed() {
    let ns = Namespace::new();
    ns.agent("a");
    let writes = || [Some(counted_writes()), audited_writes()];
    assert!(writes().into_iter().flatten().all(|count| count > 0), "no write was counted at all");
    // What earlier tests left to do is done when their namespaces are gone: an account that a namespace's deletion takes
    // is missed by the controller, which tries to make it again and is told that the namespace ends.
    eventually("other tests' namespaces are gone", || {
        let names = kubectl(&["get", "namespaces", "-o", "name"]).accepted();
        let others = names.lines().filter(|name| name.contains("/e2e-") && !name.ends_with(&ns.0)).count();
        (others == 0).then_some(())
    });
    let mut before = writes();
    eventually("the controller is done", || {
        thread::sleep(Duration::from_secs(3));
        let now = writes();
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
    thread::sleep(Duration::from_secs(60));
    assert_eq!(writes(), before);
}

/// Writes of the controller since it started, as its metrics tell.
fn counted_writes() -> usize {
    let controller = replicas("controller");
    let pod = controller[0]["metadata"]["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
    let text = kubectl(&["get", "--raw", &path]).accepted();
    let counts = text.lines().filter(|line| line.starts_with("deputy_api_writes_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// Writes of the controller in the API server's audit log, if it can be read.
fn audited_writes() -> Option<usize> {
    const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];
    let text = fs::read_to_string(std::env::var_os("CLUSTER_AUDIT_LOG")?).unwrap();
    let is_write = |line: &&str| {
        line.contains("\"username\":\"system:serviceaccount:deputy-system:deputy-controller\"")
            && line.contains("\"stage\":\"ResponseComplete\"")
            && WRITES.iter().any(|verb| line.contains(&format!("\"verb\":\"{verb}\"")))
    };
    Some(text.lines().filter(is_write).count())
}

/// An editor's pod of a few megabytes, each of them thousands of values, ends no replica.
#[test]
fn a_pod_that_would_fill_the_webhooks_memory_is_refused() {
    let ns = Namespace::new();
    ns.agent("a");
    let replicas = || {
        let told = |pod: &Value| {
            (pod["metadata"]["uid"].clone(), pod["status"]["containerStatuses"][0]["restartCount"].clone())
        };
        replicas("webhook").iter().map(told).collect::<Vec<_>>()
    };
    let before = replicas();
    let of = |count: usize| {
        let env = vec![json!({"name": "A"}); count];
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": ns.0,
               "labels": {"deputy.dev/agent": "a"}}, "spec": {"containers": [{"name": "c", "image": IMAGE, "env": env}]}})
        .to_string()
    };
    let create = |pod: &str| run("kubectl", &["create", "-f", "-"], pod);
    let (large, odd) = (of(230_000), of(25_000));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| create(&large).refused("too large to be judged"));
            scope.spawn(|| create(&odd));
        }
    });
    assert_eq!(replicas(), before);
}

/// Whoever may create accounts in one namespace may make them large and many. A replica that starts then reads them all.
#[test]
fn a_crowd_of_large_accounts_ends_no_replica_that_starts() {
    let ns = Namespace::new();
    ns.agent("a");
    let account = |name: usize| {
        let metadata = json!({"name": format!("large-{name}"), "namespace": ns.0,
                              "labels": (0..20_000).map(|n| (format!("l{n}"), json!(""))).collect::<serde_json::Map<_, _>>()});
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "secrets": vec![json!({}); 60_000]})
            .to_string()
    };
    for name in 0..24 {
        run("kubectl", &["create", "-f", "-"], &account(name)).accepted();
    }
    for role in ["controller", "webhook"] {
        let deployment = format!("deployment/deputy-{role}");
        kubectl(&["-n", SYSTEM, "rollout", "restart", &deployment]).accepted();
        kubectl(&["-n", SYSTEM, "rollout", "status", &deployment, "--timeout=90s"]).accepted();
    }
    for pod in [replicas("controller"), replicas("webhook")].concat() {
        let (name, status) = (&pod["metadata"]["name"], &pod["status"]["containerStatuses"][0]);
        assert_eq!(status["restartCount"], 0, "{name} ended: {}", status["lastState"]);
    }
    apply(&ns.pod("p", "a", "")).accepted();
}

#[test]
fn without_the_webhook_agents_pods_are_refused_and_others_start() {
    let ns = Namespace::new();
    ns.agent("a");
    let scale = |replicas: &str| {
        kubectl(&["-n", SYSTEM, "scale", "deployment/deputy-webhook", "--replicas", replicas]).accepted();
    };
    scale("0");
    eventually("the webhook is gone", || {
        let pods = get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component=webhook"]);
        pods["items"].as_array().unwrap().is_empty().then_some(())
    });
    let refused = apply(&ns.pod("p", "a", ""));
    ns.kubectl(&["run", "plain", "--image", IMAGE, "--image-pull-policy=Never", "--", "sleep", "3600"])
        .accepted();
    ns.runs("plain");
    scale("2");
    kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/deputy-webhook", "--timeout=90s"]).accepted();
    refused.refused("agent-pods.mutate.deputy.dev");
    eventually("agents' pods are admitted again", || apply(&ns.pod("p", "a", "")).ok.then_some(()));
}

/// Without its certificate, and then without its CA, the release makes new ones. As long as only the certificate goes,
/// no request is lost.
#[test]
fn certificates_are_made_again_under_load() {
    let ns = Namespace::new();
    ns.agent("a");
    let pod = ns.pod("p", "a", "");
    let admitted = || run("kubectl", &["create", "--dry-run=server", "-f", "-"], &pod);
    let serving =
        |secret: &str| kubectl(&["-n", SYSTEM, "get", "secret", secret, "-o", "jsonpath={.data.tls\\.crt}"]);
    let bundles = || {
        let ours = get(&["validatingwebhookconfigurations", "-l", "app.kubernetes.io/name=deputy"]);
        ours["items"][0]["webhooks"][0]["clientConfig"]["caBundle"].to_string()
    };
    let renewed = |secret: &str| {
        let before = serving(secret).accepted();
        kubectl(&["-n", SYSTEM, "delete", "secret", secret]).accepted();
        eventually("there is another certificate", || {
            let now = serving(secret);
            (now.ok && !now.text.is_empty() && now.text != before).then_some(())
        });
    };
    let (served, swapped) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !swapped.load(Ordering::Relaxed) {
                admitted().accepted();
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        renewed("deputy-webhook-tls");
        let then = served.load(Ordering::Relaxed);
        eventually("ten more requests were served", || {
            (served.load(Ordering::Relaxed) > then + 10).then_some(())
        });
        swapped.store(true, Ordering::Relaxed);
    });
    let before = bundles();
    renewed("deputy-ca");
    eventually("the API server knows the new CA", || (bundles() != before).then_some(()));
    eventually("agents' pods are admitted again", || admitted().ok.then_some(()));
}

/// Last of all by its name: the release goes, and comes back.
#[test]
fn uninstalled_it_leaves_nothing_in_the_way() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let values = run("helm", &["-n", SYSTEM, "get", "values", "deputy", "-o", "json"], "").accepted();
    run("helm", &["-n", SYSTEM, "uninstall", "deputy", "--wait"], "").accepted();
    apply(&ns.pod("plain", "a", "")).accepted();
    ns.runs("plain");
    assert_eq!(get(&["-n", &ns.0, "pod", "plain"])["spec"]["serviceAccountName"], "default");
    kubectl(&["delete", "namespace", &ns.0, "--timeout=60s"]).accepted();
    let kinds = ["agentidentities.deputy.dev", "agentsuspensions.deputy.dev"];
    kubectl(&[&["delete", "crd", "--timeout=60s"], &kinds[..]].concat()).accepted();
    plain_manifests_install_and_go(&values);
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/deputy");
    let install = [
        "-n",
        SYSTEM,
        "install",
        "deputy",
        chart,
        "--create-namespace",
        "--values",
        "-",
        "--wait",
        "--timeout",
        "3m",
    ];
    run("helm", &install, &values).accepted();
}

/// `kubectl apply` and `kubectl delete` of the rendered manifests, with the image that the release had.
fn plain_manifests_install_and_go(values: &str) {
    let values: Value = serde_json::from_str(values).unwrap();
    let image = |key: &str| values["image"][key].as_str().unwrap();
    let image = format!("image: {}:{}", image("repository"), image("tag"));
    let manifests =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/install.yaml")).unwrap();
    let lines = manifests.lines().map(|line| match line.find("image: ") {
        Some(at) => format!("{}{image}\n", &line[..at]),
        None => format!("{line}\n"),
    });
    let manifests: String = lines.collect();
    assert_eq!(manifests.matches(&image).count(), 2, "images of the two roles");
    run("kubectl", &["apply", "--server-side", "-f", "-"], &manifests).accepted();
    for role in ["controller", "webhook"] {
        let deployment = format!("deployment/deputy-{role}");
        kubectl(&["-n", SYSTEM, "rollout", "status", &deployment, "--timeout=90s"]).accepted();
    }
    let ns = Namespace::new();
    ns.agent("a");
    eventually("agents' pods are admitted", || apply(&ns.pod("p", "a", "")).ok.then_some(()));
    assert_eq!(get(&["-n", &ns.0, "pod", "p"])["spec"]["serviceAccountName"], "agent.a");
    run("kubectl", &["delete", "-f", "-", "--timeout=120s"], &manifests).accepted();
    let kinds = "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding,\
                 mutatingwebhookconfiguration,validatingwebhookconfiguration";
    let left = kubectl(&["get", kinds, "-l", "app.kubernetes.io/name=deputy", "-o", "name"]).accepted();
    assert!(!left.contains('/'), "left: {left}");
}
