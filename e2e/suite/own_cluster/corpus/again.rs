//! An agent that was refused and does not stop.

use super::{Stage, questions, record};
use crate::support::{eventually, figure};
use serde_json::json;
use std::collections::BTreeSet;

/// It asks for more, and with the other tokens that it keeps: each is refused, and each is on record, with the user it was for.
#[test]
fn a_denied_agent_that_tries_again_is_refused_and_both_are_on_record() {
    let stage = Stage::new();
    let [alice, carol, bob] = ["alice", "carol", "bob"].map(|who| stage.a.token(who, json!({})));
    let (before, asked) = (record(&stage.broker).len(), questions("subjectaccessreviews").len());
    stage.exchange(&carol, "read").is(400, "invalid_scope", "user_half");
    let broader = stage.exchange(&carol, "read search write");
    broader.is(400, "invalid_scope", "user_half");
    assert_eq!(broader.body.get("access_token"), None);
    stage.exchange(&bob, "read").is(400, "actor_unauthorized", "no_delegation");
    stage.exchange(&alice, "search").is(400, "invalid_scope", "agent_half");
    stage.exchange(&carol, "read").is(400, "invalid_scope", "user_half");
    let entries = eventually("all of it is on record", || {
        let entries = record(&stage.broker).split_off(before);
        let of_agent: Vec<_> =
            entries.into_iter().filter(|entry| entry["agent"]["ns"] == stage.ns()).collect();
        (of_agent.len() >= 5).then_some(of_agent)
    });
    let said: Vec<_> =
        entries.iter().map(|entry| (entry["decision"].as_str(), entry["reason"].as_str())).collect();
    let expected = ["user_half", "user_half", "no_delegation", "agent_half", "user_half"];
    assert_eq!(said, expected.map(|reason| (Some("deny"), Some(reason))));
    assert_eq!(entries[1]["scopes"], json!(["read", "search", "write"]), "what was asked for");
    let users: Vec<_> = entries.iter().map(|entry| entry["user"]["pseudonym"].as_str().unwrap()).collect();
    assert_eq!((users[0], users[0]), (users[1], users[4]), "{users:?}");
    assert_eq!(users.iter().collect::<BTreeSet<_>>().len(), 3, "{users:?}");
    assert!(
        questions("subjectaccessreviews").len() > asked,
        "the right was asked about: the others are not for want of that"
    );
    figure("corpus: a denied agent tried four times again, and all five denials are on record");
}
