//! Rows 30 and 34: those whom a permit depends on stand still, refuse, are cut off or full.

use super::{Stage, record};
use crate::own_cluster::{
    Cut,
    exchange::{Replica, Scene},
    in_node,
};
use crate::support::{SYSTEM, eventually, figure, get, kubectl};
use serde_json::json;
use std::time::{Duration, Instant};

/// The API server stands still, and goes on when the value is dropped.
struct Still;

impl Still {
    fn now() -> Self {
        in_node(&["pkill", "-STOP", "-x", "kube-apiserver"], "").accepted();
        Self
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        in_node(&["pkill", "-CONT", "-x", "kube-apiserver"], "").accepted();
    }
}

/// Nobody says what the user may do: there is no token, and another try may do. What an API server may answer instead is in
/// `tests/integration/corpus.rs`.
#[test]
fn corpus_30_rights_down() {
    let stage = Stage::new();
    // Each has a group of its own, so that what was said before does not answer.
    let mut asked = 0;
    let mut exchange = || {
        asked += 1;
        stage.exchange(&stage.a.token("alice", json!({"groups": [format!("g{asked}")]})), "read")
    };
    let before = record(&stage.broker).len();
    let still = Still::now();
    let since = Instant::now();
    let answer = exchange();
    let took = since.elapsed();
    drop(still);
    answer.is(503, "temporarily_unavailable", "user_half_unknown");
    assert_eq!((answer.body.get("access_token"), &answer.body["half"]), (None, &json!("user")));
    assert!(answer.headers.contains("retry-after: 1"), "{}", answer.headers);
    figure(&format!("corpus_30_timeout: 503 after {:.1} s", took.as_secs_f64()));
    assert!(took < Duration::from_secs(3), "{took:?}");
    eventually("rights are known again", || (exchange().status == 200).then_some(()));

    let entries = record(&stage.broker).split_off(before);
    let of_agent = entries.iter().filter(|entry| entry["agent"]["ns"] == stage.ns());
    let unknown = of_agent.filter(|entry| entry["reason"] == "user_half_unknown").count();
    assert!(unknown >= 1, "{entries:?}");
}

/// Nothing is heard of the cluster any more, and nobody is told: permits end, and what is no request is still told so.
#[test]
fn corpus_34_stale_watch() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let exchange = || broker.exchange(&scene.form("read"));
    assert_eq!(exchange().status, 200);
    let (cut, since, mut last) = (Cut::of(vec![broker.ip.clone()]), Instant::now(), Duration::ZERO);
    let answer = eventually("permits end", || {
        let asked = since.elapsed();
        let answer = exchange();
        if answer.status == 200 {
            last = asked;
        }
        (answer.status != 200).then_some(answer)
    });
    answer.is(503, "temporarily_unavailable", "stale");
    figure(&format!("corpus_34_stale_watch: last permit {:.1} s after the line was cut", last.as_secs_f64()));
    assert!(last <= Duration::from_secs(8), "{last:?}");
    broker.exchange(&scene.form("read  write")).is(400, "invalid_scope", "scope_malformed");
    drop(cut);
    eventually("permits resume", || (exchange().status == 200).then_some(()));
}

/// A broker that has begun anew on a volume that is small. On its own again at the end.
struct Small {
    broker: String,
    volume: String,
}

impl Small {
    fn under(broker: &Replica) -> Self {
        let claim = get(&["-n", SYSTEM, "pvc", &format!("record-{}", broker.name)]);
        let small = Self {
            broker: broker.name.clone(),
            volume: claim["spec"]["volumeName"].as_str().unwrap().to_owned(),
        };
        in_node(&["mount", "-t", "tmpfs", "-o", "size=18m,mode=0777", "tmpfs", &small.original()], "")
            .accepted();
        small.begin_anew();
        small
    }

    fn original(&self) -> String {
        format!("/var/lib/volumes/{}", self.volume)
    }

    fn uid(&self) -> Option<String> {
        let pods =
            get(&["-n", SYSTEM, "pods", "--field-selector", &format!("metadata.name={}", self.broker)]);
        pods["items"][0]["metadata"]["uid"].as_str().map(str::to_owned)
    }

    fn begin_anew(&self) {
        let before = self.uid();
        kubectl(&["-n", SYSTEM, "delete", "pod", &self.broker, "--grace-period=0", "--force"]).accepted();
        eventually("the broker is there again", || self.uid().filter(|uid| Some(uid) != before.as_ref()));
        self.is_ready("true");
    }

    fn is_ready(&self, ready: &str) {
        let until = format!("--for=condition=Ready={ready}");
        kubectl(&["-n", SYSTEM, "wait", &until, &format!("pod/{}", self.broker), "--timeout=90s"]).accepted();
    }

    /// The volume as the pod has it. Mounts are shared in the node: what lies under it now is for the kubelet to say.
    fn mounted(&self) -> String {
        format!(
            "/var/lib/kubelet/pods/{}/volumes/kubernetes.io~local-volume/{}",
            self.uid().unwrap(),
            self.volume
        )
    }

    fn fill(&self) {
        let folder = self.mounted();
        assert_eq!(
            in_node(&["stat", "-f", "-c", "%T", &folder], "").accepted().trim(),
            "tmpfs",
            "not the machine's own disk"
        );
        // No more than it could hold, whatever it is.
        let filler = format!("of={folder}/filler");
        in_node(&["dd", "if=/dev/zero", &filler, "bs=64k", "count=512"], "").refused("No space left");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if in_node(&["mountpoint", "-q", &self.original()], "").ok {
            in_node(&["umount", &self.original()], "");
        }
        self.begin_anew();
    }
}

/// A disk that is full permits nothing. What is no request is told so still, and no traffic comes any more.
#[test]
fn corpus_34_disk_full() {
    let scene = Scene::new();
    let small = Small::under(&Replica::first());
    let broker = Replica::called(&small.broker);
    let exchange = |scope: &str| broker.exchange(&scene.form(scope));
    eventually("a small disk will do", || (exchange("read").status == 200).then_some(()));
    small.fill();
    let mut given = 0;
    let refused = eventually("the last page is full", || {
        let answer = exchange("read");
        given += u32::from(answer.status == 200);
        (answer.status != 200).then_some(answer)
    });
    refused.is(503, "temporarily_unavailable", "audit");
    figure(&format!("corpus_34_disk_full: {given} permits on the last page, and none after it"));
    exchange("read").is(503, "temporarily_unavailable", "audit");
    exchange("read  write").is(400, "invalid_scope", "scope_malformed");
    small.is_ready("false");
    // The host sees what the node's mount hides: the node reads it.
    let entries = in_node(&["cat", &format!("{}/record/entries", small.mounted())], "").accepted();
    assert!(entries.contains("\"log.full\""), "that it was full is on record");
}
