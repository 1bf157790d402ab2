//! Rows 29 and 30 of the negative corpus: an API server that answers what real ones do on bad days, and a world that changes
//! between the decision and the answer. Through the endpoint as it is served; the rest of the corpus is tried on a cluster, in
//! `e2e/suite/own_cluster/corpus`.

use crate::endpoint::{Say, Stage, World, allowed, review};
use serde_json::json;
use std::sync::Arc;

fn told(kind: &str, decision: &str, reason: &str) -> (String, String, String) {
    (kind.to_owned(), decision.to_owned(), reason.to_owned())
}

/// Between the question about alice's rights and the answer to the agent, somebody takes away what the token rests on.
#[tokio::test]
async fn corpus_29_race() {
    type Change = fn(&mut World);
    let changes: [(&str, Change, &str, &str); 8] = [
        ("suspended", |w| w.suspended = true, "unauthorized_client", "agent_suspended"),
        (
            "policy gone",
            |w| w.policy["metadata"]["namespace"] = "x".into(),
            "actor_unauthorized",
            "no_delegation",
        ),
        (
            "another policy",
            |w| w.policy["metadata"]["uid"] = "new".into(),
            "actor_unauthorized",
            "no_delegation",
        ),
        (
            "less is lent",
            |w| w.policy["spec"]["resources"][0]["scopes"] = json!(["read"]),
            "invalid_scope",
            "delegation",
        ),
        (
            "consent withdrawn",
            |w| w.resource["spec"]["allowedAgents"] = json!([]),
            "invalid_target",
            "resource_unknown",
        ),
        (
            "issuer changed",
            |w| w.issuer["metadata"]["generation"] = 2.into(),
            "invalid_request",
            "subject_issuer",
        ),
        ("account replaced", |w| w.account_uid = "new", "invalid_request", "actor_account_replaced"),
        ("pod ended", |w| w.pod_ends = Some("2020-01-01T00:00:00Z"), "invalid_request", "actor_pod_gone"),
    ];
    for (what, change, error, reason) in changes {
        let stage = Stage::new();
        let mut world = World::new(&stage.idp);
        change(&mut world);
        let (snapshots, after) = (stage.snapshots.clone(), world.snapshot());
        stage.says(move |_| {
            snapshots.send_replace(Arc::clone(&after));
            allowed(true)
        });
        let (status, said) = stage.exchange("read+write").await;
        assert_eq!(
            (status, &said["error"], &said["reason"]),
            (400, &json!(error), &json!(reason)),
            "{what}: {said}"
        );
        assert_eq!(said.get("access_token"), None, "{what}");
        let expected = [told("token.exchange", "permit", ""), told("token.withheld", "deny", reason)];
        assert_eq!(stage.recorded(2).await, expected, "{what}");
    }
}

/// Only a plain yes is one.
#[tokio::test]
async fn corpus_30_rights_down() {
    let status = |code: u16, body: &str| Say::Status(code, body.to_owned());
    for (what, say) in [
        ("500", status(500, "{}")),
        ("429", status(429, r#"{"kind": "Status", "status": "Failure", "code": 429}"#)),
        ("403", status(403, r#"{"kind": "Status", "status": "Failure", "code": 403}"#)),
        ("302", status(302, "<a href=\"http://169.254.169.254/\">Found</a>")),
        ("302 with a yes", status(302, &review(json!({"allowed": true})))),
        ("no status", status(201, r#"{"metadata": {}, "spec": {}}"#)),
        ("yes as text", status(201, &review(json!({"allowed": "true"})))),
        ("no JSON", status(201, "allowed")),
        ("timeout", Say::Nothing),
    ] {
        let stage = Stage::new();
        stage.says(move |_| say.clone());
        let (code, said) = stage.exchange("read").await;
        let found = (code, &said["error"], &said["reason"], &said["half"]);
        let unknown = (503, &json!("temporarily_unavailable"), &json!("user_half_unknown"), &json!("user"));
        assert_eq!(found, unknown, "{what}: {said}");
        assert_eq!(said.get("access_token"), None, "{what}");
        assert_eq!(stage.recorded(1).await, [told("token.exchange", "deny", "user_half_unknown")], "{what}");
        // What could not be known is asked again at once, and not remembered as a no.
        stage.says(|_| allowed(true));
        assert_eq!(stage.exchange("read").await.0, 200, "{what}");
    }
    for no in [
        json!({"allowed": false}),
        json!({"allowed": true, "denied": true}),
        json!({"allowed": false, "evaluationError": "a role is missing"}),
    ] {
        let stage = Stage::new();
        let say = status(201, &review(no.clone()));
        stage.says(move |_| say.clone());
        let (code, said) = stage.exchange("read").await;
        assert_eq!((code, &said["reason"]), (400, &json!("user_half")), "{no}: {said}");
    }
}

/// What is known is given, and what is not is left out.
#[tokio::test]
async fn corpus_30_one_right_down() {
    let stage = Stage::new();
    stage.says(|verb| if verb == "read" { allowed(true) } else { Say::Status(500, "{}".to_owned()) });
    let (code, said) = stage.exchange("read+write").await;
    assert_eq!((code, &said["scope"]), (200, &json!("read")), "{said}");
    assert_eq!(said["denied"], json!([{"scope": "write", "half": "user"}]));
}
