//! What only a cluster of our own lets a test do: cut lines and stop the API server. Left out with `CLUSTER=current`.

mod corpus;
mod evaluation;
mod exchange;
mod idp;
mod parties;
mod races;
mod record;

use crate::support::{IMAGE, Namespace, SYSTEM, Said, eventually, figure, get, kubectl, replicas, run};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

/// How old a view may be by the chart's default, and how much later the last permit may be heard of.
const BOUND: Duration = Duration::from_secs(10 + 3);

/// A command inside of the node.
fn in_node(arguments: &[&str], input: &str) -> Said {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/cluster/enter"), arguments, input)
}

/// Addresses of the webhook's replicas.
fn webhooks() -> Vec<String> {
    replicas("webhook").iter().map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned()).collect()
}

/// Packets between these pods and the API server vanish, as when a firewall forgets a connection: nobody is
/// told.
struct Cut(Vec<String>);

impl Cut {
    fn of(pods: Vec<String>) -> Self {
        let cut = Self(pods);
        cut.rules("-I");
        cut
    }

    fn rules(&self, action: &str) {
        for ip in &self.0 {
            let sent = ["INPUT", "-s", ip, "-p", "tcp", "--dport", "6443", "-j", "DROP"];
            let answered = ["OUTPUT", "-d", ip, "-p", "tcp", "--sport", "6443", "-j", "DROP"];
            for rule in [sent, answered] {
                in_node(&[&["iptables", "-w", action], &rule[..]].concat(), "").accepted();
            }
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.rules("-D");
    }
}

/// Asks until permits stop; returns how long that took.
fn permits_stop(ask: impl Fn() -> Said, refusal: &str) -> Duration {
    let start = Instant::now();
    let mut last = Duration::ZERO;
    loop {
        let asked = start.elapsed();
        let said = ask();
        if said.text.contains(refusal) {
            return last;
        }
        if said.ok {
            last = asked;
        }
        assert!(start.elapsed() < 3 * BOUND, "permits go on: {}", said.text);
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn permits_stop_when_the_line_is_cut_silently() {
    let ns = Namespace::new();
    ns.agent("a");
    let pod = ns.pod("p", "a", "");
    let ask = || run("kubectl", &["create", "--dry-run=server", "-f", "-"], &pod);
    // Where the API server was stopped a moment ago, Kubernetes itself is late with a new namespace's account.
    eventually("it is permitted", || ask().ok.then_some(()));
    let cut = Cut::of(webhooks());
    let last = permits_stop(ask, "permits nothing at the moment");
    figure(&format!("silent cut: last permit {:.1} s after it", last.as_secs_f64()));
    assert!(last <= BOUND, "{last:?}");
    // With no fresh replica there is none to ask: what a requester reads is the API server's own error.
    eventually("no replica is ready", || {
        let said = ask();
        (said.text.contains("agent-pods.mutate.deputy.dev") && said.text.contains("failed calling webhook"))
            .then_some(())
    });
    let mended = Instant::now();
    drop(cut);
    eventually("permits resume", || ask().ok.then_some(()));
    figure(&format!("silent cut: permits again {:.1} s after it was mended", mended.elapsed().as_secs_f64()));
}

#[test]
fn permits_stop_when_the_api_server_hangs_and_resume_when_it_is_back() {
    let ns = Namespace::new();
    ns.agent("a");
    let ip = webhooks().remove(0);
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": ns.0, "name": "p",
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "object": {"metadata": {"name": "p", "labels": {"deputy.dev/agent": "a"}},
                   "spec": {"containers": [{"name": "app", "image": "example.com/a:1"}]}}}})
    .to_string();
    // Past the API server, which is about to be of no help.
    let ask = || {
        let url = format!("https://{ip}:10250/mutate");
        let request =
            ["curl", "-sk", "--max-time", "5", "-H", "content-type: application/json", "--data-binary", "@-"];
        let said = in_node(&[&request[..], &[&url]].concat(), &review);
        Said { ok: said.text.contains("\"allowed\":true"), ..said }
    };
    ask().accepted();
    in_node(&["pkill", "-STOP", "-x", "kube-apiserver"], "").accepted();
    let last = permits_stop(ask, "permits nothing at the moment");
    figure(&format!("API server hangs: last permit {:.1} s after", last.as_secs_f64()));
    in_node(&["pkill", "-KILL", "-x", "kube-apiserver"], "").accepted();
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/cluster/up"), &[], "").accepted();
    let back = Instant::now();
    eventually("permits resume", || ask().ok.then_some(()));
    figure(&format!(
        "API server killed: permits again {:.1} s after it was back",
        back.elapsed().as_secs_f64()
    ));
    assert!(last <= BOUND, "{last:?}");
    kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/deputy-webhook", "--timeout=90s"]).accepted();
}

/// The policies and the webhook are in force from the API server's first answer on.
#[test]
fn nothing_slips_through_while_the_api_server_restarts() {
    crate::bypass::nothing_slips_through_while(|| {
        in_node(&["pkill", "-KILL", "-x", "kube-apiserver"], "").accepted();
        run(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/cluster/up"), &[], "").accepted();
    });
}

/// A pod that opens more connections than there are places keeps out neither the probes nor the API server.
#[test]
fn idle_connections_keep_nobody_out() {
    let ns = Namespace::new();
    ns.agent("a");
    let restarts = || -> Vec<Value> {
        let pods = replicas("webhook").into_iter();
        pods.map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].clone()).collect()
    };
    // A machine that was switched off has started them again.
    let before = restarts();
    // The server closes what asks for nothing after five seconds: each comes again before.
    let hold =
        "for n in $(seq 600); do (while :; do sleep 4 | nc $IP $PORT >/dev/null 2>&1; done) & done; sleep 60";
    for (at, ip) in webhooks().iter().enumerate() {
        let port = ["8080", "10250"][at % 2];
        let script = hold.replace("$IP", ip).replace("$PORT", port);
        let name = format!("crowd-{at}");
        let pod = ["run", &name, "--image", IMAGE, "--image-pull-policy=Never", "--restart=Never", "--"];
        ns.kubectl(&[&pod[..], &["sh", "-c", &script]].concat()).accepted();
        ns.runs(&name);
        eventually("the crowd has come", || {
            // 01: established.
            let count = "awk '$4 == \"01\"' /proc/net/tcp | wc -l";
            let said = ns.kubectl(&["exec", &name, "--", "sh", "-c", count]).accepted();
            (said.trim().parse::<u32>().unwrap() > 400).then_some(())
        });
    }
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < Duration::from_secs(20) {
        run("kubectl", &["create", "--dry-run=server", "-f", "-"], &ns.pod("p", "a", "")).accepted();
        asked += 1;
    }
    for pod in replicas("webhook") {
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(status["ready"], true, "{status}");
    }
    assert_eq!(restarts(), before);
    figure(&format!("crowd of idle connections: {asked} pods admitted in 20 s, none refused"));
}

/// A replica's proof goes with it, and none can write another's.
#[test]
fn leases_belong_to_one_pod_each() {
    let names = |objects: Vec<Value>| -> BTreeSet<String> {
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let leases = || names(get(&["-n", SYSTEM, "leases"])["items"].as_array().unwrap().clone());
    let pods = || names([replicas("webhook"), replicas("broker")].concat());
    eventually("each replica has a Lease and no other pod has", || (leases() == pods()).then_some(()));
    let gone = names(replicas("webhook")).pop_first().unwrap();
    kubectl(&["-n", SYSTEM, "delete", "pod", &gone]).accepted();
    eventually("the Lease went with its pod, and the next pod has one", || {
        (!leases().contains(&gone) && leases().len() == 4 && leases() == pods()).then_some(())
    });
    let lease = format!(
        "{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: other, namespace: {SYSTEM}}}}}"
    );
    let webhook = format!("system:serviceaccount:{SYSTEM}:deputy-webhook");
    run("kubectl", &["--as", &webhook, "create", "-f", "-"], &lease)
        .refused("only the Lease named like its own pod");
}
