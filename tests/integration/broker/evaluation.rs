//! `POST /access/v1/evaluation` (AuthZEN 1.0).

use super::desk::{Desk, NOW, Objects, RESOURCE, projected};
use serde_json::{Value, json};

/// Whether `token` may be used to call `find`.
fn question(token: &str) -> Value {
    json!({"subject": {"type": "user", "id": "corp:alice"}, "action": {"name": "tools/call"},
           "resource": {"type": "tool", "id": "find"}, "context": {"access_token": token}})
}

#[tokio::test]
async fn what_a_token_was_given_for_may_be_done_and_is_on_record_first() {
    let desk = Desk::new();
    let token = desk.token("read search write").await;
    let answer = desk.evaluate(&question(&token)).await;
    assert_eq!((answer.status, &answer.body["decision"]), (200, &json!(true)), "{}", answer.body);
    assert_eq!(answer.headers["x-request-id"], "r-1");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let context = &answer.body["context"];
    assert_eq!(context["rights"], json!({"mode": "kubernetes", "as_of": NOW, "max_age_s": 5}));
    let record = desk.record().await;
    let permit = record.last().unwrap();
    let index: u64 = context["audit"].as_str().unwrap().rsplit_once('#').unwrap().1.parse().unwrap();
    assert_eq!(
        (index, permit["kind"].as_str()),
        (2, Some("action.evaluation")),
        "the log begins with its own entry"
    );
    assert_eq!((&permit["id"], &permit["action"]), (&context["evaluation_id"], &json!("tools/call find")));
    assert_eq!((&permit["resource"], &permit["scopes"]), (&json!(RESOURCE), &json!(["search"])));
    assert_eq!(permit["jti"], record[0]["jti"], "the token it rests on can be found");
    assert_eq!((&permit["user"], &permit["agent"]["name"]), (&record[0]["user"], &json!("a")));
    assert_eq!(permit["caller"], "system:serviceaccount:papers:api");
    assert_eq!(permit["basis"]["policy"], json!({"uid": "uid-p", "generation": 1}));
    let all = record.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("alice") && !all.contains(&token[..40]), "{all}");

    // The resource itself, by a scope.
    let mut scope = question(&token);
    scope["action"]["name"] = "read".into();
    scope["resource"] = json!({"type": "protected_resource", "id": RESOURCE});
    assert_eq!(desk.evaluate(&scope).await.body["decision"], json!(true));
}

/// What is asked, or is so, and the word for why not.
#[tokio::test]
async fn each_no_has_its_reason() {
    type Edit = fn(&mut Value);
    let asked: [(&str, Edit, &str, Option<&str>); 11] = [
        ("no token", |q| q["context"] = json!({}), "token_required", None),
        ("no token of ours", |q| q["context"]["access_token"] = json!("a.b.c"), "token_invalid", None),
        ("corpus_33 another user", |q| q["subject"]["id"] = json!("corp:bob"), "subject_mismatch", None),
        (
            "corpus_33 another agent",
            |q| {
                q["subject"]["properties"] =
                    json!({"act": {"iss": "https://kubernetes.default.svc", "sub": "x"}})
            },
            "subject_mismatch",
            None,
        ),
        (
            "corpus_26 a tool nobody lists",
            |q| q["resource"]["id"] = json!("drop"),
            "tool_unlisted",
            Some("agent"),
        ),
        (
            "a tool that is not lent",
            |q| q["resource"]["id"] = json!("get"),
            "tool_not_lent",
            Some("delegation"),
        ),
        (
            "a tool whose scope the agent lacks",
            |q| q["resource"]["id"] = json!("erase"),
            "agent_half",
            Some("agent"),
        ),
        ("an action nobody knows", |q| q["action"]["name"] = json!("tools/list"), "action_unknown", None),
        (
            "corpus_33 another resource",
            |q| q["resource"] = json!({"type": "protected_resource", "id": "https://other.example.com"}),
            "action_unknown",
            None,
        ),
        (
            "a scope nobody offers",
            |q| {
                q["action"]["name"] = json!("drop");
                q["resource"] = json!({"type": "protected_resource", "id": RESOURCE});
            },
            "action_unknown",
            None,
        ),
        (
            "a scope another exchange may give",
            |q| {
                q["action"]["name"] = json!("read");
                q["resource"] = json!({"type": "protected_resource", "id": RESOURCE});
            },
            "insufficient_scope",
            None,
        ),
    ];
    let desk = Desk::new();
    let token = desk.issued(|_| {});
    for (what, edit, reason, half) in asked {
        let mut question = question(&token);
        edit(&mut question);
        let answer = desk.evaluate(&question).await;
        assert_eq!((answer.status, &answer.body["decision"]), (200, &json!(false)), "{what}");
        assert_eq!(
            (answer.reason(), answer.body["context"]["half"].as_str()),
            (Some(reason), half),
            "{what}"
        );
    }
    let record = desk.record().await;
    assert_eq!(record.len(), asked.len(), "each is on record");
    assert!(record.iter().all(|entry| entry["decision"] == "deny" && entry["caller"].is_string()));
    assert!(
        !record.iter().any(|entry| entry.to_string().contains("drop")),
        "nothing of the caller's words is"
    );
    assert_eq!(desk.asked(), Vec::<Value>::new(), "nobody was asked for the user's rights");
    // Who is not the resource's own caller learns nothing of it.
    let other = desk.evaluate_as("system:serviceaccount:papers:other", question(&token).to_string()).await;
    assert_eq!((other.status, other.reason()), (200, Some("caller_unlisted")));
}

/// A token is worth what the objects say now.
#[tokio::test]
async fn a_token_is_judged_against_the_objects_as_they_are() {
    type Edit = fn(&mut Objects);
    let table: [(&str, Edit, &str); 16] = [
        ("suspended", |o| o.suspended = true, "agent_suspended"),
        (
            "the identity goes",
            |o| o.identity["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            "agent_unknown",
        ),
        (
            "another identity of that name",
            |o| {
                o.identity["metadata"]["uid"] = json!("new");
                o.account["metadata"]["ownerReferences"][0]["uid"] = json!("new");
            },
            "agent_unknown",
        ),
        ("another account", |o| o.account["metadata"]["uid"] = json!("new"), "actor_account_replaced"),
        ("no pod", |o| o.pod = None, "actor_pod_gone"),
        ("grants narrowed", |o| o.identity["spec"]["grants"][0]["scopes"] = json!(["read"]), "agent_half"),
        (
            "consent narrowed",
            |o| o.resource["spec"]["allowedAgents"][0]["scopes"] = json!(["read"]),
            "agent_half",
        ),
        ("no consent", |o| o.resource["spec"]["allowedAgents"] = json!([]), "resource_unknown"),
        ("no tool", |o| o.resource["spec"]["tools"] = json!([]), "tool_unlisted"),
        ("no caller", |o| o.resource["spec"]["callers"] = json!([]), "caller_unlisted"),
        (
            "another resource of that identifier",
            |o| o.resource["metadata"]["uid"] = json!("new"),
            "resource_unknown",
        ),
        ("no policy", |o| o.policies.clear(), "no_delegation"),
        (
            "another policy that lends as much",
            |o| o.policies[0]["metadata"]["uid"] = json!("new"),
            "no_delegation",
        ),
        (
            "the policy narrowed",
            |o| o.policies[0]["spec"]["resources"][0]["scopes"] = json!(["read"]),
            "delegation",
        ),
        (
            "the policy for others",
            |o| {
                o.policies[0]["spec"]["subjects"][0] =
                    json!({"trustedIssuerName": "corp", "users": ["corp:bob"]});
            },
            "no_delegation",
        ),
        ("the issuer changed", |o| o.issuer["metadata"]["generation"] = json!(2), "subject_issuer"),
    ];
    for (what, edit, reason) in table {
        let mut desk = Desk::new();
        let token = desk.token("search").await;
        assert_eq!(desk.evaluate(&question(&token)).await.body["decision"], json!(true), "{what}");
        desk.becomes(edit);
        let answer = desk.evaluate(&question(&token)).await;
        assert_eq!((answer.status, answer.reason()), (200, Some(reason)), "{what}: {}", answer.body);
        assert_eq!(answer.body["decision"], json!(false), "{what}");
    }
}

#[tokio::test]
async fn a_token_that_is_none_of_ours_or_has_ended_permits_nothing() {
    let desk = Desk::new();
    let good = desk.issued(|_| {});
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, other) = desk
        .issued(|claims| claims["sub"] = json!("corp:bob"))
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    for (what, token, reason) in [
        ("expired now", desk.issued(|claims| claims["exp"] = json!(NOW)), "token_expired"),
        (
            "another issuer",
            desk.issued(|claims| claims["iss"] = json!("https://x.example.com")),
            "token_invalid",
        ),
        ("another's signature", format!("{signed}.{other}"), "token_invalid"),
        ("no signature", format!("{signed}."), "token_invalid"),
        ("the user's own", desk.alice(&json!({})), "token_invalid"),
        ("a projected one", projected("system:serviceaccount:ns:agent.a"), "token_invalid"),
        ("a huge one", "x".repeat(30_000), "token_invalid"),
    ] {
        let answer = desk.evaluate(&question(&token)).await;
        assert_eq!(answer.reason(), Some(reason), "{what}: {}", answer.body);
    }
    assert_eq!(desk.evaluate(&question(&good)).await.body["decision"], json!(true));
    desk.forgets_its_keys();
    assert_eq!(
        desk.evaluate(&question(&good)).await.reason(),
        Some("token_invalid"),
        "verified before, by a key that is gone"
    );
}

#[tokio::test]
async fn the_users_right_is_asked_each_time_and_never_guessed() {
    for (what, status, said, reason) in [
        ("no", 201, json!({"allowed": false}), "user_half"),
        ("no, for sure", 201, json!({"allowed": true, "denied": true}), "user_half"),
        ("an error beside no", 201, json!({"allowed": false, "evaluationError": "x"}), "user_half"),
        ("corpus_30 500", 500, json!({}), "user_half_unknown"),
        ("corpus_30 429", 429, json!({}), "user_half_unknown"),
        ("corpus_30 nothing", 201, json!(null), "user_half_unknown"),
        ("corpus_30 \"true\"", 201, json!({"allowed": "true"}), "user_half_unknown"),
    ] {
        let desk = Desk::new();
        desk.reviews(move |_| (status, said.clone()));
        let answer = desk.evaluate(&question(&desk.issued(|_| {}))).await;
        assert_eq!(answer.reason(), Some(reason), "{what}");
        assert_eq!(answer.body["context"]["half"], "user");
        let asked = desk.asked();
        assert_eq!(asked[0]["groups"], json!(["corp:readers", "system:authenticated"]));
        assert_eq!(asked[0]["resourceAttributes"]["verb"], "search");
        let exchanged = desk.exchange(&desk.alice(&json!({})), "read").await;
        assert_eq!(exchanged.reason(), Some(reason), "{what}");
        assert_eq!(exchanged.status, if reason == "user_half" { 400 } else { 503 });
        assert!(desk.record().await.iter().all(|entry| entry["decision"] == "deny"));
    }
}

/// By claims, the user's token said what he may do; the policy's groups travel in the token, and no others.
#[tokio::test]
async fn by_claims_the_right_is_that_of_the_exchange() {
    let mut desk = Desk::new();
    desk.becomes(|o| {
        o.resource["spec"]["userAuthorization"] =
            json!({"type": "Claims", "claims": {"scopeClaim": "scope"}});
        o.policies[0]["spec"]["subjects"][0] =
            json!({"trustedIssuerName": "corp", "groups": ["corp:readers"]});
    });
    let subject = desk.alice(&json!({"scope": "search", "groups": ["readers", "others"]}));
    let given = desk.exchange(&subject, "read search").await;
    assert_eq!(given.body["scope"], "search", "{}", given.body);
    let token = given.body["access_token"].as_str().unwrap();
    let answer = desk.evaluate(&question(token)).await;
    assert_eq!(answer.body["decision"], json!(true), "{}", answer.body);
    assert_eq!(
        answer.body["context"]["rights"],
        json!({"mode": "claims", "as_of": NOW - 60, "max_age_s": 0})
    );
    assert_eq!(desk.asked(), Vec::<Value>::new());
    // Another version of the resource may read another claim, and the token is not here to be read again.
    desk.becomes(|o| o.resource["metadata"]["generation"] = json!(2));
    assert_eq!(desk.evaluate(&question(token)).await.reason(), Some("user_half_unknown"));
    desk.becomes(|o| o.resource["spec"]["userAuthorization"] = json!({"type": "Kubernetes"}));
    assert_eq!(desk.evaluate(&question(token)).await.reason(), Some("user_half_unknown"));
}

#[tokio::test]
async fn who_cannot_say_who_he_is_is_told_nothing_else() {
    let desk = Desk::new();
    let body = question(&desk.issued(|_| {})).to_string();
    for credential in ["", "Basic x", "Bearer", "Bearer a.b.c", "Bearer x"] {
        let answer = desk.evaluate_with(credential, "application/json", body.clone()).await;
        assert_eq!((answer.status, answer.reason()), (401, Some("caller_unauthenticated")), "{credential}");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        assert_eq!(answer.headers["x-request-id"], "r-1");
    }
    let person = desk.evaluate_as("alice", body.clone()).await;
    assert_eq!(person.status, 401);
    assert_eq!(desk.record().await, Vec::<Value>::new(), "noise is counted, not recorded");
}

/// AuthZEN's certification: 400 for what cannot be read, media types included, and never the caller's words.
#[tokio::test]
async fn what_cannot_be_read_is_400() {
    let desk = Desk::new();
    let credential = format!("Bearer {}", projected("system:serviceaccount:papers:api"));
    let good = question(&desk.issued(|_| {})).to_string();
    for (media_type, body) in [
        ("text/plain", good.clone()),
        ("application/x-www-form-urlencoded", good.clone()),
        ("application/json", String::new()),
        ("application/json", "{\"subject\": \"s3cret\"}".to_owned()),
        ("application/json", good.replace("\"tools/call\"", "123")),
    ] {
        let answer = desk.evaluate_with(&credential, media_type, body.clone()).await;
        assert_eq!((answer.status, answer.reason()), (400, Some("evaluation_malformed")), "{body}");
        assert!(!answer.body.to_string().contains("s3cret"));
    }
    let answer = desk.evaluate_with(&credential, "application/json; charset=utf-8", good).await;
    assert_eq!(answer.status, 200);
    let large = format!("{{\"x\": \"{}\"}}", "y".repeat(40_000));
    assert_eq!(desk.evaluate_with(&credential, "application/json", large).await.status, 413);
}

#[tokio::test]
async fn a_replica_that_cannot_know_says_no() {
    let desk = Desk::new();
    let question = question(&desk.issued(|_| {}));
    assert_eq!(desk.evaluate(&question).await.body["decision"], json!(true));
    desk.goes_stale();
    let answer = desk.evaluate(&question).await;
    assert_eq!((answer.status, answer.reason()), (200, Some("stale")));
    assert_eq!(desk.exchange(&desk.alice(&json!({})), "read").await.status, 503);
}
