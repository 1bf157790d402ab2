//! The kubectl plugin against an API server that answers by a script.

use crate::apiserver::{ApiServer, failure};
use axum::http::{Request, Response};
use clap::Parser as _;
use deputy::{
    cmd::plugin::{Plugin, Session},
    index::Subject,
    plugin::{Line, object_name},
};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{convert::Infallible, time::Duration};

const CREATE: &str = "POST agentsuspensions";
const DELETE: &str = "DELETE agentsuspensions";
const IDENTITIES: &str = "LIST agentidentities";
const SUSPENSIONS: &str = "LIST agentsuspensions";

async fn asked_through(client: Client, arguments: &[&str]) -> Vec<Line> {
    let arguments = [&["kubectl-deputy"], arguments].concat();
    let session = Session {
        client,
        namespace: "ns".to_owned(),
        server: "server:6443".to_owned(),
        timeout: Some(Duration::from_secs(30)),
    };
    let mut lines = vec![];
    let command = Plugin::try_parse_from(arguments).unwrap().command;
    command.perform(&session, &mut |line| lines.push(line)).await;
    lines
}

pub(crate) async fn said(server: &ApiServer, arguments: &[&str]) -> Vec<Line> {
    asked_through(server.client(), arguments).await
}

/// The one line, which holds `text`.
#[track_caller]
pub(crate) fn only(lines: &[Line], text: &str) -> Line {
    let [line] = lines else { panic!("not one line: {lines:?}") };
    assert!(words(line).contains(text), "{line:?}");
    line.clone()
}

pub(crate) fn words(line: &Line) -> &str {
    let (Line::Data(text)
    | Line::Done(text)
    | Line::Warning(text)
    | Line::Failure(text)
    | Line::Unknown(text)) = line;
    text
}

pub(crate) fn failures(lines: &[Line]) -> Vec<&str> {
    lines.iter().filter(|line| line.is_failure()).map(words).collect()
}

fn identity(namespace: &str, name: &str, owner: &Value) -> Value {
    json!({
        "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": {"owner": owner},
        "metadata": {"name": name, "namespace": namespace},
    })
}

fn suspension(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension", "spec": spec,
        "metadata": {"name": name, "namespace": "ns"},
    })
}

/// A server with the agent `a` of namespace `ns`.
fn world() -> ApiServer {
    let server = ApiServer::default();
    server.put("agentidentities", identity("ns", "a", &json!("team")));
    server
}

fn own() -> String {
    object_name(Some("a"), Some("dana"))
}

fn written(server: &ApiServer) -> Vec<Value> {
    let asked = server.asked().into_iter();
    asked.filter(|asked| asked.what == CREATE).map(|asked| asked.body).collect()
}

#[tokio::test]
async fn a_suspension_says_who_asked_for_it_and_twice_is_once() {
    let server = world();
    let suspend = ["suspend", "a", "--reason", "INC-1"];
    assert!(matches!(only(&said(&server, &suspend).await, "agent ns/a is suspended"), Line::Done(_)));
    let stored = server.get("agentsuspensions", &own()).unwrap();
    assert_eq!(
        stored["spec"],
        json!({"agentName": "a", "pods": "Delete", "reason": "INC-1", "requestedBy": "dana"})
    );
    assert!(matches!(only(&said(&server, &suspend).await, "suspended already"), Line::Done(_)));
    assert_eq!(written(&server).len(), 2);

    only(&said(&server, &["suspend", "--all", "--reason", "INC-2"]).await, "every agent of namespace ns");
    let all = server.get("agentsuspensions", &object_name(None, Some("dana"))).unwrap();
    assert_eq!(all["spec"], json!({"pods": "Delete", "reason": "INC-2", "requestedBy": "dana"}));
}

#[tokio::test]
async fn what_was_not_written_is_a_failure_and_keeps_no_other_from_it() {
    let server = ApiServer::default();
    for number in 0..45 {
        server.put("agentidentities", identity(&format!("ns-{number:02}"), "a", &json!("team")));
    }
    server.put("agentidentities", identity("ns", "theirs", &json!("others")));
    server.put("agentidentities", identity("ns", "torn", &json!(7)));
    server.script(CREATE, [failure(500, "InternalError", "etcd is full")]);
    let lines = said(&server, &["suspend", "--owner", "team", "-A", "--reason", "r"]).await;
    let [torn, refused] = failures(&lines)[..] else { panic!("{lines:?}") };
    assert!(torn.contains("ns/torn cannot be read"), "{torn}");
    assert!(refused.contains("agent ns-00/a is NOT suspended: etcd is full"), "{refused}");
    assert_eq!(written(&server).len(), 45);
    assert_eq!(lines.len(), 46);
}

#[tokio::test]
async fn a_list_that_breaks_half_way_is_told_and_one_that_expired_is_begun_anew() {
    let page = |name: &str| {
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": "1"},
            "items": [identity("ns", name, &json!("team"))]})
    };
    let suspend = ["suspend", "--owner", "team", "--reason", "r"];
    let server = world();
    server.script(IDENTITIES, [(200, page("first")), failure(410, "Expired", "too old")]);
    only(&said(&server, &suspend).await, "agent ns/a is suspended");

    let server = world();
    server.script(IDENTITIES, [(200, page("first")), failure(500, "InternalError", "no")]);
    let lines = said(&server, &suspend).await;
    assert!(failures(&lines)[0].contains("not every AgentIdentity"), "{lines:?}");
    assert!(words(&lines[1]).contains("agent ns/first is suspended"), "{lines:?}");

    let server = world();
    server.script_always(IDENTITIES, failure(410, "Expired", "too old"));
    assert!(only(&said(&server, &suspend).await, "too old").is_failure());
}

#[tokio::test]
async fn a_slip_of_the_pen_is_no_success() {
    let server = world();
    for slip in [
        &["suspend", "b", "--reason", "r"][..],
        &["suspend", "--owner", "Team", "--reason", "r"],
        &["resume", "b"],
        &["resume", "--owner", "Team"],
        &["status", "b"],
    ] {
        let line = only(&said(&server, slip).await, "AgentIdentity");
        assert!(line.is_failure(), "{line:?}");
    }
    server.delete("agentidentities", "a");
    assert!(only(&said(&server, &["suspend", "--all", "--reason", "r"]).await, "there is no").is_failure());
    assert!(written(&server).is_empty());
    only(&said(&server, &["suspend", "b", "--reason", "r", "--force"]).await, "agent ns/b is suspended");
}

/// Off depends neither on seeing identities nor on knowing one's own name, nor on a name that is taken.
#[tokio::test]
async fn what_cannot_be_seen_does_not_keep_an_agent_on() {
    let forbidden = || failure(403, "Forbidden", "User \"dana\" cannot get resource \"agentidentities\"");
    let server = world();
    server.script_always("GET agentidentities", forbidden());
    server.script_always("POST selfsubjectreviews", forbidden());
    let lines = said(&server, &["suspend", "a", "--reason", "r"]).await;
    assert!(matches!(&lines[..], [Line::Warning(_), Line::Warning(_), Line::Done(_)]), "{lines:?}");
    assert_eq!(written(&server)[0]["spec"], json!({"agentName": "a", "pods": "Delete", "reason": "r"}));

    let other = json!({"agentName": "b", "reason": "r", "requestedBy": "dana"});
    let server = world();
    server.put("agentsuspensions", suspension(&own(), &other));
    only(&said(&server, &["suspend", "a", "--reason", "r"]).await, "agent ns/a is suspended, by");
    assert_eq!(written(&server)[1]["metadata"]["generateName"], format!("{}-", own()));

    let mut leaving = suspension(
        &own(),
        &json!({"agentName": "a", "pods": "Delete", "reason": "r", "requestedBy": "dana"}),
    );
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    let server = world();
    server.put("agentsuspensions", leaving);
    only(&said(&server, &["suspend", "a", "--reason", "r"]).await, "agent ns/a is suspended, by");
    assert_eq!(written(&server).len(), 2);
}

#[tokio::test]
async fn resume_ends_ones_own_and_tells_what_is_left() {
    let server = world();
    let spec = |by: &str| json!({"agentName": "a", "pods": "Delete", "reason": "r", "requestedBy": by});
    server.put("agentsuspensions", suspension("mine", &spec("dana")));
    server.put("agentsuspensions", suspension("theirs", &spec("kim")));
    server.put(
        "agentsuspensions",
        suspension("wide", &json!({"pods": "Delete", "reason": "INC-2", "requestedBy": "dana"})),
    );
    let lines = said(&server, &["resume", "a"]).await;
    let [theirs, wide] = failures(&lines)[..] else { panic!("{lines:?}") };
    assert!(theirs.contains("STILL suspended") && theirs.contains("resume a -n ns --by-anyone"), "{theirs}");
    assert!(wide.contains("INC-2") && wide.contains("resume --all -n ns"), "{wide}");
    assert!(server.get("agentsuspensions", "mine").is_none());

    let lines = said(&server, &["resume", "--all"]).await;
    assert!(matches!(&lines[..], [Line::Done(_), Line::Done(_), Line::Warning(_)]), "{lines:?}");
    assert!(words(&lines[2]).contains("agent ns/a stays suspended"), "{lines:?}");

    let lines = said(&server, &["resume", "a", "--by-anyone"]).await;
    assert_eq!(failures(&lines), Vec::<&str>::new());
    assert!(words(&lines[1]).contains("not suspended any more"), "{lines:?}");
    assert!(matches!(only(&said(&server, &["resume", "a"]).await, "was not suspended"), Line::Done(_)));
}

#[tokio::test]
async fn a_resume_that_cannot_be_made_sure_of_is_a_failure() {
    let spec = json!({"agentName": "a", "pods": "Delete", "reason": "r", "requestedBy": "dana"});
    let server = world();
    server.put("agentsuspensions", suspension("mine", &spec));
    server.script(DELETE, [failure(409, "Conflict", "the uid is another")]);
    let lines = said(&server, &["resume", "a"]).await;
    let [kept, still] = failures(&lines)[..] else { panic!("{lines:?}") };
    assert!(kept.contains("the uid is another") && still.contains("STILL"), "{lines:?}");

    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {},
        "items": [server.get("agentsuspensions", "mine").unwrap()]});
    server.script(SUSPENSIONS, [(200, list), failure(500, "InternalError", "no")]);
    let lines = said(&server, &["resume", "a"]).await;
    assert!(failures(&lines)[0].contains("cannot be seen: no"), "{lines:?}");

    server.put("agentsuspensions", suspension("mine", &spec));
    server.script("POST selfsubjectreviews", [failure(500, "InternalError", "no")]);
    assert!(only(&said(&server, &["resume", "a"]).await, "none was deleted").is_failure());
    assert!(server.get("agentsuspensions", "mine").is_some());
}

#[tokio::test]
async fn status_says_what_it_could_not_see() {
    let server = world();
    server.put("agentidentities", identity("ns", "torn", &json!(7)));
    let lines = said(&server, &["status"]).await;
    assert!(words(&lines[0]).contains("torn"), "{lines:?}");
    assert!(matches!(&lines[1], Line::Warning(text) if text.contains("ns/torn cannot be read")), "{lines:?}");

    server.script_always(SUSPENSIONS, failure(403, "Forbidden", "User \"d\" cannot list resource \"x\""));
    let lines = said(&server, &["status", "a"]).await;
    assert!(failures(&lines)[0].contains("deputy-viewer"), "{lines:?}");
    assert!(words(&lines[1]).contains("unknown"), "{lines:?}");

    let absent = (404, json!("404 page not found"));
    server.script_always(IDENTITIES, absent.clone());
    server.script_always(SUSPENSIONS, absent);
    let lines = said(&server, &["status"]).await;
    assert!(failures(&lines).iter().all(|text| text.contains("not installed")), "{lines:?}");
    assert_eq!(failures(&lines).len(), 2);
}

#[tokio::test]
async fn claims_says_who_holds_who_waits_and_what_it_could_not_see() {
    let server = world();
    let mut waiting = identity("ns", "b", &json!("team"));
    waiting["metadata"]["uid"] = "b".into();
    waiting["spec"]["credentials"] = json!([{"name": "db", "type": "Secret", "reason": "r",
        "expirationTime": "2099-01-01T00:00:00Z", "secret": {"secretName": "db", "keys": ["k"], "delivery": "File"}}]);
    server.put("agentidentities", waiting);
    let lines = said(&server, &["claims"]).await;
    assert!(words(&lines[0]).contains("Unclaimed"), "{lines:?}");
    let subject = Subject::Secret { namespace: "ns".into(), name: "db".into() };
    server.put(
        "credentialclaims",
        json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "CredentialClaim",
            "metadata": {"name": subject.claim_name(), "uid": "c"},
            "spec": {"subject": subject.to_wire(), "holder": {"namespace": "ns", "name": "a", "uid": "a"}}}),
    );
    let line = only(&said(&server, &["claims"]).await, "ns/a");
    assert!(words(&line).contains("Held") && words(&line).contains("ns/b"), "{line:?}");
    only(&said(&server, &["claims", "-o", "json"]).await, "\"state\": \"Held\"");

    server.script(IDENTITIES, [failure(500, "InternalError", "no")]);
    let lines = said(&server, &["claims"]).await;
    assert!(failures(&lines)[0].contains("who waits cannot be seen: no"), "{lines:?}");
    assert!(words(&lines[1]).contains("unknown"), "{lines:?}");
    server.script_always(
        "LIST credentialclaims",
        failure(403, "Forbidden", "User \"d\" cannot list resource \"x\""),
    );
    assert!(only(&said(&server, &["claims"]).await, "deputy-viewer").is_failure());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let silent =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
    let lines = asked_through(Client::new(silent, "default"), &["suspend", "a", "--reason", "r"]).await;
    let failures = failures(&lines);
    assert!(
        failures[0].contains("agent ns/a is NOT suspended: no answer of server:6443 within 30s"),
        "{lines:?}"
    );
}
