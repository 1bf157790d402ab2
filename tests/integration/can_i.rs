//! `kubectl deputy can-i` against an API server that answers by a script.

use crate::{
    apiserver::{ApiServer, failure},
    plugin::{only, said, words},
};
use deputy::plugin::Line;
use serde_json::{Value, json};

const REVIEW: &str = "POST subjectaccessreviews";
const READ: [&str; 9] =
    ["can-i", "a", "--for", "corp:alice", "--groups", "corp:readers", "--resource", "papers", "--scope=read"];

fn object(kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn resource(rights: Value) -> Value {
    let spec = json!({"identifier": "https://papers.example.com/mcp", "owner": "papers-team@example.com",
        "scopes": [{"name": "read"}, {"name": "search"}, {"name": "write"}], "maxTokenLifetimeSeconds": 600,
        "allowedAgents": [{"name": "x", "namespaces": {"names": ["ns"]}, "modes": ["OnBehalfOfUser"],
            "scopes": ["read", "search"]}], "userAuthorization": rights});
    object("ProtectedResource", None, "papers", spec)
}

fn policy(scopes: &[&str]) -> Value {
    let spec = json!({"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser",
        "subjects": [{"trustedIssuerName": "corp", "groups": ["corp:readers"]}],
        "resources": [{"protectedResourceName": "papers", "scopes": scopes}], "token": {"maxLifetimeSeconds": 300}});
    object("DelegationPolicy", Some("ns"), "users", spec)
}

/// An agent that may read and search for readers.
fn world() -> ApiServer {
    let server = ApiServer::default();
    let grants = json!([{"protectedResourceName": "papers", "scopes": ["read", "search", "write"]}]);
    let identity = server.put(
        "agentidentities",
        object("AgentIdentity", Some("ns"), "a", json!({"owner": "team@example.com", "grants": grants})),
    );
    let owner = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": "a",
        "uid": identity["metadata"]["uid"], "controller": true});
    server.put(
        "serviceaccounts",
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "agent.a", "namespace": "ns", "ownerReferences": [owner]}}),
    );
    let issuer = json!({"issuer": {"url": "https://idp.example.com", "audiences": ["deputy"]},
        "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"], "scopeCeiling": "None"}],
        "claimMappings": {"username": {"claim": "sub", "prefix": "corp:"}, "groups": {"claim": "groups", "prefix": "corp:"}}});
    server.put("trustedissuers", object("TrustedIssuer", None, "corp", issuer));
    server.put("protectedresources", resource(json!({"type": "Kubernetes"})));
    server.put("delegationpolicies", policy(&["read", "search"]));
    server
}

/// What the API server says to each question about a user.
fn answers(server: &ApiServer, allowed: &[bool]) {
    let answer = |allowed: &bool| {
        (
            201,
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {}, "status": {"allowed": allowed}}),
        )
    };
    server.script(REVIEW, allowed.iter().map(answer));
}

/// Edits an object in place.
fn edit(server: &ApiServer, resource: &str, name: &str, edit: impl FnOnce(&mut Value)) {
    let found = server.get(resource, name).or_else(|| server.get_of_cluster(resource, name));
    let mut object = found.unwrap();
    edit(&mut object);
    server.put(resource, object);
}

#[tokio::test]
async fn what_all_halves_permit_is_yes_and_issues_nothing() {
    let server = world();
    answers(&server, &[true, true]);
    server.asked();
    let asked = [&READ[..8], &["--scope", "search,read"]].concat();
    let line = only(&said(&server, &asked).await, "DelegationPolicy ns/users");
    let table = "\
agent:      ns/a
for:        corp:alice of TrustedIssuer corp, in groups: corp:readers
mode:       OnBehalfOfUser
resource:   papers (https://papers.example.com/mcp) of papers-team@example.com
rights:     by SubjectAccessReview on protectedresources/scopes
rests on:   DelegationPolicy ns/users
lives:      300 s, and no longer than the tokens shown

SCOPE    OFFERED   GRANTED   CONSENTED   LENT   USER   GIVEN
read     yes       yes       yes         yes    yes    yes
search   yes       yes       yes         yes    yes    yes
";
    assert_eq!(line, Line::Data(table.to_owned()));
    let asked: Vec<_> = server.asked().into_iter().filter(|asked| asked.what.starts_with("POST")).collect();
    let verbs: Vec<_> =
        asked.iter().map(|asked| asked.body["spec"]["resourceAttributes"]["verb"].as_str()).collect();
    assert_eq!(verbs, [Some("read"), Some("search")], "nothing else is written");
    let spec = &asked[0].body["spec"];
    assert_eq!(
        (&spec["user"], &spec["groups"]),
        (&json!("corp:alice"), &json!(["corp:readers", "system:authenticated"]))
    );
}

/// Each half in the way, by what it takes to put it there, and what is said of it.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table, a half each")]
async fn each_half_in_the_way_says_who_can_change_what() {
    type Change = fn(&ApiServer);
    let rows: &[(&str, Change, &str, &str)] = &[
        (
            "a grant",
            |server| {
                edit(server, "agentidentities", "a", |identity| {
                    identity["spec"]["grants"][0]["scopes"] = json!(["search"]);
                });
            },
            "AgentIdentity ns/a is not granted read at papers: its owner team@example.com can list it in spec.grants",
            "(agent_half)",
        ),
        (
            "no consent",
            |server| {
                edit(server, "protectedresources", "papers", |papers| {
                    papers["spec"]["allowedAgents"][0]["namespaces"]["names"] = json!(["other"]);
                });
            },
            "ProtectedResource papers has no allowedAgents entry for namespace ns and mode OnBehalfOfUser: its owner \
             papers-team@example.com can add one, with read",
            "(invalid_target)",
        ),
        (
            "consent to less",
            |server| {
                edit(server, "protectedresources", "papers", |papers| {
                    papers["spec"]["allowedAgents"][0]["scopes"] = json!(["search"]);
                });
            },
            "leave out read: its owner papers-team@example.com can add it there",
            "(agent_half)",
        ),
        (
            "no policy",
            |server| server.delete("delegationpolicies", "users"),
            "no DelegationPolicy in namespace ns lends a the rights of corp:alice (TrustedIssuer corp) with read at papers",
            "(no_delegation)",
        ),
        (
            "a user's right",
            |server| answers(server, &[false]),
            "corp:alice may not read at papers: a ClusterRole with apiGroups [deputy.dev], resources \
             [protectedresources/scopes], resourceNames [papers] and verbs [read]",
            "(user_half)",
        ),
        (
            "a suspension",
            |server| {
                let spec = json!({"agentName": "a", "reason": "INC-1", "requestedBy": "kim"});
                server.put("agentsuspensions", object("AgentSuspension", Some("ns"), "stop", spec));
            },
            "it is suspended by AgentSuspension ns/stop of kim: INC-1; see `kubectl deputy resume`",
            "(agent_suspended)",
        ),
        (
            "an account",
            |server| server.delete("serviceaccounts", "agent.a"),
            "AgentIdentity ns/a has no ServiceAccount agent.a yet",
            "(agent_unknown)",
        ),
        (
            "an invalid identity",
            |server| {
                edit(server, "agentidentities", "a", |identity| {
                    identity["spec"]["grants"][0]["scopes"] = json!(["*"]);
                });
            },
            "AgentIdentity ns/a is invalid: spec.grants: \"*\" is no scope",
            "(agent_unknown)",
        ),
        (
            "no identity",
            |server| server.delete("agentidentities", "a"),
            "there is no AgentIdentity ns/a",
            "(agent_unknown)",
        ),
    ];
    for (what, change, remedy, reason) in rows {
        let server = world();
        answers(&server, &[true]);
        change(&server);
        let lines = said(&server, &READ).await;
        let [Line::Data(table), Line::Failure(no)] = &lines[..] else { panic!("{what}: {lines:?}") };
        assert!(table.contains(remedy), "{what}: {table}");
        assert!(no.contains(reason), "{what}: {no}");
        assert!(!table.contains("   yes\n"), "{what}: {table}");
    }
}

#[tokio::test]
async fn some_scopes_are_not_all() {
    let server = world();
    answers(&server, &[true, false]);
    let lines = said(&server, &[&READ[..8], &["--scope", "read,search,write"]].concat()).await;
    let [Line::Data(table), Line::Failure(no)] = &lines[..] else { panic!("{lines:?}") };
    for row in [
        "read     yes       yes       yes         yes    yes         yes",
        "search   yes       yes       yes         yes    no          no: user",
        "write    yes       yes       no          no     not asked   no: agent",
    ] {
        assert!(table.contains(row), "{table}");
    }
    assert!(
        table.contains("DelegationPolicy ns/users, by which most of this is lent, leaves out write"),
        "{table}"
    );
    assert!(no.contains("not be given all"), "{no}");
    let lines = said(&server, &[&READ[..8], &["--scope", "read,delete"]].concat()).await;
    assert!(
        words(&lines[0]).contains("does not offer delete, and a request that names it is refused as a whole")
    );
    assert!(words(&lines[0]).contains("no: scope_unknown"), "{lines:?}");
}

#[tokio::test]
async fn what_cannot_be_known_is_neither_yes_nor_no() {
    let forbidden =
        failure(403, "Forbidden", "User \"dana\" cannot create resource \"subjectaccessreviews\"");
    let server = world();
    server.script_always(REVIEW, forbidden.clone());
    let lines = said(&server, &READ).await;
    let [Line::Warning(why), Line::Data(table), Line::Unknown(_)] = &lines[..] else { panic!("{lines:?}") };
    assert!(why.contains("system:auth-delegator"), "{why}");
    assert!(table.contains("unknown   unknown"), "{table}");

    for kind in [
        "GET agentidentities",
        "GET serviceaccounts",
        "LIST agentsuspensions",
        "LIST protectedresources",
        "LIST delegationpolicies",
        "LIST trustedissuers",
    ] {
        let server = world();
        server.script_always(kind, forbidden.clone());
        let line = only(&said(&server, &READ).await, "can");
        assert!(matches!(line, Line::Unknown(_)), "{kind}: {line:?}");
    }

    let server = world();
    for (arguments, text) in [
        (&["--for", "alice"][..], "no TrustedIssuer calls a user \"alice\""),
        (&["--for", "alice", "--issuer", "other"], "there is no TrustedIssuer \"other\""),
    ] {
        let asked = [&["can-i", "a", "--resource", "papers", "--scope", "read"], arguments].concat();
        assert!(matches!(only(&said(&server, &asked).await, text), Line::Unknown(_)));
    }
    for (resource, text) in [
        ("drafts", "there is no ProtectedResource \"drafts\""),
        ("https://papers.example.com", "no ProtectedResource that counts has the identifier"),
    ] {
        let asked = [&READ[..6], &["--resource", resource, "--scope", "read"]].concat();
        assert!(matches!(only(&said(&server, &asked).await, text), Line::Unknown(_)));
    }
}

#[tokio::test]
async fn a_user_may_be_called_as_his_issuer_calls_him_and_a_resource_by_its_uri() {
    let server = world();
    answers(&server, &[true]);
    let uri = "https://papers.example.com/mcp";
    let asked = ["can-i", "a", "--for", "alice", "--groups", "readers", "--issuer", "corp"];
    let line =
        only(&said(&server, &[&asked[..], &["--resource", uri, "--scope", "read"]].concat()).await, "yes");
    assert!(words(&line).contains("corp:alice of TrustedIssuer corp, in groups: corp:readers"), "{line:?}");
}

#[tokio::test]
async fn rights_in_a_claim_depend_on_the_token() {
    let server = world();
    server.put("protectedresources", resource(json!({"type": "Claims", "claims": {"scopeClaim": "scp"}})));
    let lines = said(&server, &READ).await;
    let [Line::Warning(why), Line::Data(_), Line::Unknown(_)] = &lines[..] else { panic!("{lines:?}") };
    assert!(why.contains("the claim \"scp\" of his token") && why.contains("--claim-scopes"), "{why}");
    only(&said(&server, &[&READ[..], &["--claim-scopes", "read"]].concat()).await, "by the claim \"scp\"");
    let lines = said(&server, &[&READ[..], &["--claim-scopes", "search"]].concat()).await;
    assert!(
        words(&lines[0]).contains("the claim \"scp\" of corp:alice's token does not hold read"),
        "{lines:?}"
    );
    assert!(lines[1].is_failure(), "{lines:?}");
}

#[tokio::test]
async fn the_scopes_of_a_token_may_bound_what_is_lent() {
    let server = world();
    edit(&server, "trustedissuers", "corp", |corp| {
        corp["spec"]["tokens"][0]["scopeCeiling"] = "Mapped".into()
    });
    answers(&server, &[true, true]);
    let lines = said(&server, &READ).await;
    let [Line::Data(_), Line::Warning(note)] = &lines[..] else { panic!("{lines:?}") };
    assert!(note.contains("--token-scopes"), "{note}");
    only(&said(&server, &[&READ[..], &["--token-scopes", "read"]].concat()).await, "yes");
    let lines = said(&server, &[&READ[..], &["--token-scopes", "search"]].concat()).await;
    assert!(words(&lines[0]).contains("read is not among them"), "{lines:?}");
}

#[tokio::test]
async fn an_agent_for_itself_needs_no_user() {
    let server = world();
    let own = ["can-i", "a", "--resource", "papers", "--scope", "read", "-o", "json"];
    let lines = said(&server, &own).await;
    let json: Value = serde_json::from_str(words(&lines[0])).unwrap();
    assert_eq!((&json["answer"], &json["reason"]), (&json!("no"), &json!("invalid_target")));
    edit(&server, "protectedresources", "papers", |papers| {
        papers["spec"]["allowedAgents"][0]["modes"] = json!(["OnOwnBehalf"]);
    });
    edit(&server, "delegationpolicies", "users", |policy| {
        policy["spec"]["mode"] = "OnOwnBehalf".into();
        policy["spec"].as_object_mut().unwrap().remove("subjects");
    });
    let mut torn = policy(&["*"]);
    torn["metadata"]["name"] = "torn".into();
    server.put("delegationpolicies", torn);
    let lines = said(&server, &own).await;
    let [Line::Data(text), Line::Warning(torn)] = &lines[..] else { panic!("{lines:?}") };
    let json: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&json["answer"], &json["policy"]), (&json!("yes"), &json!("users")));
    assert_eq!((&json["subject"], &json["lifetimeSeconds"]), (&Value::Null, &json!(300)));
    let row = json!({"scope": "read", "offered": true, "granted": true, "consented": true, "lent": true,
        "withinTokenScopes": true, "userRight": null, "deniedBy": null});
    assert_eq!(json["scopes"], json!([row]));
    assert!(torn.contains("DelegationPolicy ns/torn is invalid and lends nothing"), "{torn}");
}
