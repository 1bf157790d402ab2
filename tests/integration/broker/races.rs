//! Row 29 of the corpus: what changes while a decision is made.

use super::desk::{Desk, Objects};
use serde_json::json;

type Edit = fn(&mut Objects);

/// What may be withdrawn while the API server is asked about the user, and the word for it.
const WITHDRAWN: [(&str, Edit, &str); 6] = [
    ("the agent is suspended", |o| o.suspended = true, "agent_suspended"),
    ("the policy is deleted", |o| o.policies.clear(), "no_delegation"),
    ("the consent is withdrawn", |o| o.resource["spec"]["allowedAgents"] = json!([]), "resource_unknown"),
    ("the pod ends", |o| o.pod = None, "actor_pod_gone"),
    ("the account is replaced", |o| o.account["metadata"]["uid"] = "other".into(), "actor_account_replaced"),
    ("the issuer says something else", |o| o.issuer["metadata"]["generation"] = json!(2), "subject_issuer"),
];

#[tokio::test]
async fn corpus_29_a_token_whose_ground_is_gone_is_withheld() {
    for (what, edit, reason) in WITHDRAWN {
        let desk = Desk::new();
        desk.becomes_meanwhile(edit);
        let answer = desk.exchange(&desk.alice(&json!({})), "read").await;
        assert_eq!(answer.reason(), Some(reason), "{what}: {}", answer.body);
        assert!(answer.body.get("access_token").is_none());
        let record = desk.record().await;
        let told: Vec<_> =
            record.iter().map(|entry| (entry["kind"].as_str(), entry["decision"].as_str())).collect();
        let expected = [(Some("token.exchange"), Some("permit")), (Some("token.withheld"), Some("deny"))];
        assert_eq!(told, expected, "{what}");
        assert_eq!(record[0]["jti"], record[1]["jti"]);
        assert_eq!(record[1]["reason"], reason);
    }
}

#[tokio::test]
async fn corpus_29_a_permit_whose_ground_is_gone_is_withheld() {
    for (what, edit, reason) in WITHDRAWN {
        let desk = Desk::new();
        let question = json!({"subject": {"type": "user", "id": "corp:alice"}, "action": {"name": "tools/call"},
            "resource": {"type": "tool", "id": "find"}, "context": {"access_token": desk.issued(|_| {})}});
        desk.becomes_meanwhile(edit);
        let answer = desk.evaluate(&question).await;
        assert_eq!((answer.status, &answer.body["decision"]), (200, &json!(false)), "{what}");
        assert_eq!(answer.reason(), Some(reason), "{what}: {}", answer.body);
        let record = desk.record().await;
        let told: Vec<_> = record.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
        assert_eq!(told, ["action.evaluation", "action.withheld"], "{what}");
    }
}
