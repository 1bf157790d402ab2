//! `kubectl deputy log` against an API server that answers by a script, and on a copy of a record. That it reads what is in
//! a pod is shown on the cluster.

use crate::{
    apiserver::{ApiServer, failure},
    plugin::{failures, only, said, words},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use deputy::{
    audit::{Agent, Decision, Entry, Kind, LogId, PseudonymKey},
    plugin::Line,
    store::{Options, Wal},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::path::Path;

const ISSUER: &str = "https://idp.example.com";

/// A cluster whose broker has two replicas, one of which is there.
fn world() -> ApiServer {
    let server = ApiServer::default();
    let of_deputy = |kind: &str, name: &str| {
        let labels = json!({"app.kubernetes.io/name": "deputy", "app.kubernetes.io/component": "broker"});
        json!({"kind": kind, "metadata": {"name": name, "namespace": "deputy-system", "labels": labels}})
    };
    let mut set = of_deputy("StatefulSet", "deputy-broker");
    set["spec"] = json!({"replicas": 2, "selector": {}, "serviceName": "s", "template": {}});
    server.put("statefulsets", set);
    server.put("pods", of_deputy("Pod", "deputy-broker-0"));
    server.put("pods", of_deputy("Pod", "deputy-broker-old"));
    let mut secret = of_deputy("Secret", "deputy-broker-pseudonyms");
    secret["data"] = json!({"key": BASE64_STANDARD.encode([7; 32])});
    server.put("secrets", secret);
    server
}

fn unknown(lines: &[Line]) -> Vec<&str> {
    lines.iter().filter(|line| matches!(line, Line::Unknown(_))).map(words).collect()
}

#[tokio::test]
async fn each_replica_that_could_not_be_read_is_named() {
    let server = world();
    let forbidden = failure(403, "Forbidden", "User \"dana\" cannot create resource \"pods/portforward\"");
    server.script(
        "GET pods/portforward",
        [forbidden.clone(), failure(404, "NotFound", "pods \"x\" not found")],
    );
    let lines = said(&server, &["log", "search"]).await;
    let [first, second] = unknown(&lines)[..] else { panic!("{lines:?}") };
    assert!(first.starts_with("the record of deputy-broker-0: it cannot be reached"), "{first}");
    assert!(second.starts_with("the record of deputy-broker-1: it cannot be reached"), "{second}");
    assert!(first.contains("Role deputy-auditor of Deputy's namespace"), "{first}");
    assert!(matches!(&lines[2], Line::Warning(text) if text.contains("in what could be read")), "{lines:?}");

    // How many there should be is part of the answer.
    server.script_always("GET statefulsets", forbidden.clone());
    server.script_always("GET pods/portforward", forbidden);
    let lines = said(&server, &["log", "show", "3"]).await;
    let unknown = unknown(&lines);
    assert!(unknown[0].contains("how many replicas there should be cannot be seen"), "{lines:?}");
    assert_eq!((unknown.len(), lines.len()), (2, 2), "{lines:?}");

    server.script_always("LIST pods", failure(403, "Forbidden", "no"));
    let lines = said(&server, &["log", "search"]).await;
    assert!(lines.iter().all(|line| !words(line).contains("there is no replica")), "{lines:?}");

    let lines = said(&ApiServer::default(), &["log", "search"]).await;
    assert!(
        words(&lines[0]).contains("there is no replica deputy-broker-N in namespace deputy-system"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn without_the_key_nobody_asks_for_a_user_by_name() {
    let server = world();
    let by_url = ["log", "search", "--user", "corp:alice", "--issuer", ISSUER];
    server.script_always(
        "GET secrets",
        failure(403, "Forbidden", "User \"dana\" cannot get resource \"secrets\""),
    );
    let line = only(&said(&server, &by_url).await, "nobody can ask for a user by name");
    assert!(matches!(&line, Line::Unknown(text) if text.contains("Role deputy-auditor")), "{line:?}");
    let line = only(&said(&server, &by_url[..4]).await, "no TrustedIssuer calls a user \"corp:alice\"");
    assert!(matches!(line, Line::Unknown(_)));
    assert!(
        server.asked().iter().all(|asked| asked.what != "GET pods/portforward"),
        "nothing is read for nothing"
    );
    let server = world();
    let mut weak = json!({"kind": "Secret", "metadata": {"name": "deputy-broker-pseudonyms", "namespace": "deputy-system"}});
    weak["data"] = json!({"key": BASE64_STANDARD.encode("short")});
    server.put("secrets", weak);
    only(&said(&server, &by_url).await, "has 5 bytes and needs 32");
}

/// A record: one exchange that was permitted and one that was denied, an hour apart.
async fn record(directory: &Path) {
    let now = || Timestamp::from_second(1_795_500_000).unwrap();
    let options = Options { log: LogId([1; 8]), reserve: 16, retry: Options::RETRY, now, metrics: None };
    let (wal, _) = Wal::open(directory, &options).unwrap();
    let key = PseudonymKey::new("1".to_owned(), &[7; 32]).unwrap();
    let exchange = |name: &str, second: i64, decision| Entry {
        decision: Some(decision),
        agent: Some(Agent { ns: "ns".into(), name: name.into(), uid: "u".into(), pod: None }),
        user: Some(key.user(ISSUER, "corp:alice")),
        resource: Some("https://papers.example.com".into()),
        scopes: vec!["read".into()],
        ..Entry::new(Kind::TokenExchange, Timestamp::from_second(1_795_500_000 + second).unwrap())
    };
    wal.append(&exchange("a", 60, Decision::Permit).to_bytes().unwrap()).await.unwrap();
    wal.append(&exchange("b", 3660, Decision::Deny).to_bytes().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_copy_of_a_record_is_searched_without_a_cluster() {
    let directory = tempfile::tempdir().unwrap();
    record(directory.path()).await;
    let copy = directory.path().to_str().unwrap();
    let server = ApiServer::default();
    let search = async |arguments: &[&str]| {
        let arguments = [&["log", "search", "-d", copy, "-o", "json"], arguments].concat();
        let lines = said(&server, &arguments).await;
        assert_eq!(unknown(&lines), Vec::<&str>::new());
        let json: Value = serde_json::from_str(words(&lines[0])).unwrap();
        let entries = json["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let rows: &[(&[&str], &[u64])] = &[
        (&[], &[0, 1, 2]),
        (&["--agent", "ns/a"], &[1]),
        (&["--agent", "b"], &[2]),
        (&["--agent", "other/a"], &[]),
        (&["--decision", "deny"], &[2]),
        (&["--resource", "https://papers.example.com", "--decision", "permit"], &[1]),
        (&["--resource", "https://papers.example.com/"], &[]),
        (&["--since", "2026-11-24T06:01:00Z"], &[1, 2]),
        (&["--until", "2026-11-24T06:01:00Z"], &[0, 1]),
        (&["--since", "2026-11-24T06:01:01Z", "--until", "2026-11-24T07:00:00Z"], &[]),
    ];
    for (arguments, indexes) in rows {
        assert_eq!(search(arguments).await, *indexes, "{arguments:?}");
    }
    let table = only(&said(&server, &["log", "search", "-d", copy]).await, "log.opened");
    assert!(words(&table).contains("permit     ns/a"), "{table:?}");
    let shown = only(&said(&server, &["log", "show", "2", "-d", copy]).await, "\"decision\":\"deny\"");
    assert!(matches!(shown, Line::Data(_)));
    only(&said(&server, &["log", "show", "0101010101010101#2", "-d", copy]).await, "\"index\":2");
    for (place, text) in
        [("3", "no record has an entry 3"), ("0202020202020202#2", "of log 0202020202020202")]
    {
        let lines = said(&server, &["log", "show", place, "-d", copy]).await;
        assert!(failures(&lines)[0].contains(text), "{lines:?}");
    }
    std::fs::remove_file(directory.path().join("entries")).unwrap();
    let lines = said(&server, &["log", "search", "-d", copy]).await;
    assert!(unknown(&lines)[0].contains("reading"), "{lines:?}");
    assert!(server.asked().is_empty(), "no cluster is asked");
}
