//! What an AgentException lets pass on the real cluster, and nothing without one: pods, and people into pods (AI501).

use crate::support::{
    Exception, IMAGE, Namespace, SYSTEM, Said, apply, eventually, figure, get, kubectl, run,
};
use std::time::Instant;

const HOST_PATH: &str = "effect: Allow, rules: [AI401], target: {volumeName: tmp}";

#[test]
fn a_pod_passes_by_its_exception_and_not_without() {
    let ns = Namespace::new();
    ns.agent("a");
    ns.agent("b");
    let spec = ", volumes: [{name: tmp, hostPath: {path: /tmp}}]";
    apply(&ns.pod("p", "a", spec)).refused("[AI401]");
    let (exception, said) = Exception::new(&ns, "host", HOST_PATH, 7200);
    said.accepted();
    let said =
        eventually("the pod is admitted", || Some(apply(&ns.pod("p", "a", spec))).filter(|said| said.ok));
    assert!(
        said.text.contains(&format!("[AI401] allowed by AgentException {:?}", exception.0)),
        "{}",
        said.text
    );
    assert!(said.text.contains("it ends within a day"), "{}", said.text);
    ns.runs("p");
    apply(&ns.pod("q", "b", spec)).refused("[AI401]");
    apply(&ns.pod("q", "a", &spec.replace("tmp,", "other,"))).refused("[AI401]");

    // One for each agent, rule and target; and only what the kind allows.
    Exception::new(&ns, "again", HOST_PATH, 7200).1.refused("is for this agent, rule and target");
    Exception::new(&ns, "long", "effect: Warn, rules: [AI201]", 400 * 86400).1.refused("more than 366 days");
    Exception::new(&ns, "secret", "effect: Allow, rules: [AI202], target: {volumeName: s}", 60)
        .1
        .refused("may be warned of");
    Exception::new(&ns, "who", "effect: Warn, rules: [AI003]", 60).1.refused("Unsupported value");
    drop(exception);
    eventually("pods are refused again", || {
        apply(&ns.pod("q", "a", spec)).text.contains("[AI401]").then_some(())
    });
}

/// Every way into a pod, by what it is called in a refusal. Those that would go on for ever are ended.
fn enter(ns: &Namespace, pod: &str) -> Vec<Said> {
    let kubectl =
        |arguments: &[&str]| run("timeout", &[&["5", "kubectl", "-n", &ns.0], arguments].concat(), "");
    let proxy = |name: &str| {
        let path = format!("/api/v1/namespaces/{}/pods/{name}/proxy/", ns.0);
        run("timeout", &["5", "kubectl", "get", "--raw", &path], "")
    };
    vec![
        kubectl(&["exec", pod, "--", "true"]),
        kubectl(&["attach", pod]),
        kubectl(&["port-forward", pod, "18080:8080"]),
        proxy(pod),
        proxy(&format!("{pod}:8080")),
        proxy(&format!("http:{pod}:8080")),
    ]
}

#[test]
fn nobody_enters_an_agents_pod_but_by_an_exception() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", ", restartPolicy: Never")).accepted();
    ns.runs("p");
    ns.kubectl(&["run", "plain", "--image", IMAGE, "--image-pull-policy=Never", "--", "sleep", "3600"])
        .accepted();
    ns.runs("plain");
    let closed = || {
        eventually("the pod is closed", || {
            ns.kubectl(&["exec", "p", "--", "true"]).text.contains("[AI501]").then_some(())
        })
    };
    closed();
    for said in enter(&ns, "p") {
        said.refused("[AI501] metadata.name: pod \"p\" is AgentIdentity \"a\"");
    }
    // What is nobody's business: another pod, the log.
    ns.kubectl(&["exec", "plain", "--", "true"]).accepted();
    ns.kubectl(&["logs", "p"]).accepted();
    // Nobody opens a pod by hand.
    ns.kubectl(&["annotate", "pod", "p", "deputy.dev/interactive=x"]).refused("[AI501]");
    let marked =
        ns.pod("m", "a", "").replacen("labels:", "annotations: {deputy.dev/interactive: x}, labels:", 1);
    apply(&marked).refused("[AI501]");

    let (exception, said) = Exception::new(&ns, "debug", "effect: Allow, rules: [AI501]", 7200);
    said.accepted();
    let since = Instant::now();
    let open = || ns.kubectl(&["exec", "p", "--", "true"]).ok.then_some(());
    eventually("the pod is open", open);
    figure(&format!("AI501: a pod is open {:.1} s after its exception", since.elapsed().as_secs_f64()));
    for said in enter(&ns, "p") {
        assert!(!said.text.contains("[AI501]"), "{}", said.text);
    }
    // Who went in, and by what, is on the API server's record, where there is one to read.
    if let Some(log) = std::env::var_os("CLUSTER_AUDIT_LOG") {
        eventually("the record says by which exception", || {
            let log = std::fs::read_to_string(&log).unwrap();
            let of_this = |line: &&str| line.contains(&format!("/namespaces/{}/pods/p/exec", ns.0));
            log.lines()
                .filter(of_this)
                .any(|line| line.contains("/entered\":") && line.contains(&exception.0))
                .then_some(())
        });
    }
    let mark = &get(&["-n", &ns.0, "pod", "p"])["metadata"]["annotations"]["deputy.dev/interactive"];
    assert_eq!(mark, &exception.0);
    let since = Instant::now();
    drop(exception);
    closed();
    figure(&format!(
        "AI501: a pod is closed {:.1} s after its exception went",
        since.elapsed().as_secs_f64()
    ));

    // One that ends by itself.
    let (_short, said) = Exception::new(&ns, "short", "effect: Allow, rules: [AI501]", 6);
    said.accepted();
    eventually("the pod is open", open);
    closed();
}

#[test]
fn with_deputy_down_nobody_enters() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let scale = |replicas: &str| {
        for role in ["webhook", "controller"] {
            let role = format!("deployment/deputy-{role}");
            kubectl(&["-n", SYSTEM, "scale", &role, &format!("--replicas={replicas}")]).accepted();
        }
    };
    scale("0");
    eventually("no replica is left", || {
        // The broker lets nobody in, and stays.
        let pods = get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/component in (controller, webhook)"]);
        pods["items"].as_array().unwrap().is_empty().then_some(())
    });
    let said: Vec<_> = enter(&ns, "p");
    kubectl(&["-n", SYSTEM, "scale", "deployment/deputy-webhook", "--replicas=2"]).accepted();
    kubectl(&["-n", SYSTEM, "scale", "deployment/deputy-controller", "--replicas=1"]).accepted();
    for role in ["webhook", "controller"] {
        kubectl(&["-n", SYSTEM, "rollout", "status", &format!("deployment/deputy-{role}"), "--timeout=90s"])
            .accepted();
    }
    for said in said {
        said.refused("[AI501]");
    }
}
