//! The ConfigMaps by which agents know the broker, against the scripted API server: what the controller makes of them, and
//! what it leaves alone.

use crate::{
    apiserver::{ApiServer, Asked, failure},
    controller::{
        condition, count, errors, identity, long, new_identity, play_with, ready, settle, suspension, writes,
    },
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

const CREATE: &str = "POST configmaps";
const WRITE: &str = "PATCH configmaps";
const ACCOUNT: &str = "POST serviceaccounts";
const STATUS: &str = "PATCH agentidentities/status";
const EVENT: &str = "POST events";

type Authorities = watch::Sender<Option<Arc<str>>>;

/// A controller's end and ours of what it is told of CAs.
fn told(first: Option<&str>) -> (Authorities, Option<watch::Receiver<Option<Arc<str>>>>) {
    let (authorities, trusted) = watch::channel(first.map(Arc::from));
    (authorities, Some(trusted))
}

fn held(server: &ApiServer, name: &str) -> Value {
    server.get("configmaps", name).map_or(Value::Null, |map| map["data"]["ca.crt"].clone())
}

fn of_maps(asked: &[Asked]) -> Vec<&str> {
    writes(asked).into_iter().filter(|what| what.ends_with("configmaps")).collect()
}

/// A server whose one identity has its account and its ConfigMap, with CA `one`.
async fn settled() -> ApiServer {
    let server = new_identity();
    let (_authorities, trusted) = told(Some("one"));
    play_with(&server, trusted, settle()).await;
    assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    server.asked();
    server
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_gets_its_config_map_before_its_account() {
    let server = new_identity();
    let (_authorities, trusted) = told(Some("one"));
    play_with(&server, trusted, long()).await;
    assert_eq!(writes(&server.asked()), [CREATE, ACCOUNT, EVENT, STATUS]);
    let map = server.get("configmaps", "agent.a").unwrap();
    assert_eq!(map["data"], json!({"ca.crt": "one"}));
    assert_eq!(map["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "deputy"}));
    let account = server.get("serviceaccounts", "agent.a").unwrap();
    assert_eq!(map["metadata"]["ownerReferences"], account["metadata"]["ownerReferences"]);
    assert_eq!(map["metadata"]["ownerReferences"][0]["controller"], true);
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_no_config_map_is_made_or_looked_at() {
    let server = new_identity();
    play_with(&server, None, long()).await;
    let asked = server.asked();
    assert!(asked.iter().all(|asked| !asked.what.contains("configmaps")), "{asked:?}");
    assert_eq!(server.get("configmaps", "agent.a"), None);

    // One that a broker left behind is not touched: pods that run have it mounted.
    let server = settled().await;
    play_with(&server, None, long()).await;
    assert_eq!(writes(&server.asked()), [""; 0]);
    assert_eq!(held(&server, "agent.a"), "one");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_nothing_changed() {
    let server = settled().await;
    let (authorities, trusted) = told(Some("one"));
    play_with(&server, trusted, async {
        settle().await;
        assert_eq!(writes(&server.asked()), [""; 0], "a new controller finds all as it should be");
        authorities.send_replace(Some("one".into()));
        settle().await;
        assert_eq!(writes(&server.asked()), [""; 0], "the same CAs are no change");
        sleep(Duration::from_secs(24 * 3600)).await;
        assert_eq!(server.asked().len(), 0, "and then nothing is polled");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_one_write_for_each_identity() {
    let server = settled().await;
    for n in 0..40 {
        let mut another = identity();
        another["metadata"]["name"] = format!("b{n}").into();
        server.put("agentidentities", another);
    }
    let (authorities, trusted) = told(Some("one"));
    let metrics = play_with(&server, trusted, async {
        settle().await;
        server.asked();
        authorities.send_replace(Some("one two".into()));
        long().await;
        assert_eq!(writes(&server.asked()), [WRITE; 41]);
        for name in ["agent.a", "agent.b0", "agent.b39"] {
            assert_eq!(held(&server, name), "one two");
        }
    })
    .await;
    assert_eq!(errors(&metrics), 0);
    assert_eq!(count(&metrics, "deputy_api_writes_total{verb=\"patch\",resource=\"configmaps\"}"), 41);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changed_or_deleted_is_put_right() {
    let server = settled().await;
    let (_authorities, trusted) = told(Some("one"));
    play_with(&server, trusted, async {
        settle().await;
        let mut forged = server.get("configmaps", "agent.a").unwrap();
        forged["data"]["ca.crt"] = "somebody's".into();
        server.put("configmaps", forged);
        long().await;
        assert_eq!((writes(&server.asked()), held(&server, "agent.a")), (vec![WRITE], "one".into()));
        server.delete("configmaps", "agent.a");
        long().await;
        assert_eq!((writes(&server.asked()), held(&server, "agent.a")), (vec![CREATE], "one".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_config_map_of_others_is_never_written_and_the_account_waits() {
    let server = new_identity();
    let foreign =
        json!({"metadata": {"name": "agent.a", "namespace": "ns"}, "data": {"ca.crt": "somebody's"}});
    server.put("configmaps", foreign);
    let (authorities, trusted) = told(Some("one"));
    play_with(&server, trusted, async {
        long().await;
        authorities.send_replace(Some("two".into()));
        long().await;
        assert_eq!(writes(&server.asked()), [STATUS, EVENT]);
        assert_eq!(held(&server, "agent.a"), "somebody's");
        assert_eq!(ready(&server), ("False".into(), "ConfigMapTaken".into()));
        let stalled = condition(&server, "Stalled");
        let message = "ConfigMap \"agent.a\" exists and is not this identity's; to clear it: kubectl delete configmap \
                       agent.a -n ns";
        assert_eq!((&stalled["status"], &stalled["message"]), (&"True".into(), &message.into()));
        server.delete("configmaps", "agent.a");
        sleep(Duration::from_secs(61)).await;
        assert_eq!((held(&server, "agent.a"), ready(&server).0), ("two".into(), "True".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_there_waits_for_no_config_map() {
    // From before there was a broker.
    let server = new_identity();
    play_with(&server, None, settle()).await;
    let account = || server.get("serviceaccounts", "agent.a").unwrap()["metadata"]["uid"].clone();
    let before = account();
    server.asked();
    let quota = failure(403, "Forbidden", "configmaps \"agent.a\" is forbidden: exceeded quota: q");
    server.script_always(CREATE, quota);
    let (_authorities, trusted) = told(Some("one"));
    let metrics = play_with(&server, trusted, async {
        settle().await;
        assert_eq!(
            writes(&server.asked()),
            [CREATE, STATUS, EVENT],
            "its own status write is no reason to ask again"
        );
        assert_eq!(ready(&server), ("False".into(), "ConfigMapRefused".into()));
        let status = server.get("agentidentities", "a").unwrap()["status"].clone();
        assert_eq!(status["serviceAccount"]["uid"], before);
        assert!(condition(&server, "Stalled")["message"].as_str().unwrap().ends_with("exceeded quota: q"));

        server.put("agentsuspensions", suspension("Delete"));
        sleep(Duration::from_secs(5)).await;
        assert_ne!(account(), before, "a suspended agent's is replaced");
        server.delete("agentsuspensions", "s");

        sleep(Duration::from_secs(600)).await;
        let tries = of_maps(&server.asked()).len();
        assert!((10..40).contains(&tries), "{tries}");
        server.script(CREATE, []);
        long().await;
        assert_eq!((held(&server, "agent.a"), ready(&server).0), ("one".into(), "True".into()));
    })
    .await;
    assert_eq!(errors(&metrics), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_yet_is_waited_for() {
    let server = new_identity();
    let (authorities, trusted) = told(None);
    play_with(&server, trusted, async {
        long().await;
        assert_eq!(writes(&server.asked()), [STATUS]);
        assert_eq!(ready(&server), ("False".into(), "Progressing".into()));
        authorities.send_replace(Some("one".into()));
        settle().await;
        assert_eq!(writes(&server.asked()), [CREATE, ACCOUNT, EVENT, STATUS]);
        assert_eq!(ready(&server), ("True".into(), "AccountReady".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn that_of_a_predecessor_is_left_to_the_garbage_collector() {
    let server = settled().await;
    let mut map = server.get("configmaps", "agent.a").unwrap();
    map["metadata"]["ownerReferences"][0]["uid"] = "old".into();
    server.put("configmaps", map);
    let (_authorities, trusted) = told(Some("two"));
    play_with(&server, trusted, async {
        long().await;
        assert_eq!(of_maps(&server.asked()), [""; 0]);
        assert_eq!(ready(&server), ("False".into(), "Progressing".into()));
        server.delete("configmaps", "agent.a");
        settle().await;
        assert_eq!((held(&server, "agent.a"), ready(&server).0), ("two".into(), "True".into()));
    })
    .await;
}
