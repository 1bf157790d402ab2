//! What an agent may be given: each half alone, each reason by name, and that no half can be got around.

use deputy::{
    index::{Index, Observed, ReservedAudiences, Snapshot},
    policy::exchange::{
        self, Action, Agent, Decision, Denial, Grant, Half, Reason, Request, Right, Subject, Target, act,
        authorize, expiry, narrow,
    },
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const IDENTIFIER: &str = "https://papers.example.com/mcp";
const ISSUER: &str = "https://idp.example.com";

/// The objects of a cluster, as they are written.
#[derive(Clone)]
struct Objects {
    identity: Value,
    issuer: Value,
    resource: Value,
    policies: Vec<Value>,
    suspended: bool,
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "deputy.dev/v1alpha1", "kind": kind, "spec": spec,
           "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1,
                        "creationTimestamp": "2026-01-01T00:00:00Z"}})
}

/// A policy of this name that is this many seconds younger than the others.
fn policy(name: &str, age: u32, scopes: &[&str]) -> Value {
    let mut policy = object(
        "DelegationPolicy",
        name,
        json!({"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser",
               "subjects": [{"trustedIssuerName": "corp", "users": ["corp:alice"], "groups": ["corp:readers"]}],
               "resources": [{"protectedResourceName": "papers", "scopes": scopes}],
               "token": {"maxLifetimeSeconds": 300}}),
    );
    policy["metadata"]["creationTimestamp"] = format!("2026-01-01T00:00:{age:02}Z").into();
    policy
}

/// An agent that may have read and search of three scopes, for alice and for readers.
fn objects() -> Objects {
    Objects {
        identity: object(
            "AgentIdentity",
            "a",
            json!({"owner": "o@example.com",
                   "grants": [{"protectedResourceName": "papers", "scopes": ["read", "search"]}]}),
        ),
        issuer: object(
            "TrustedIssuer",
            "corp",
            json!({"issuer": {"url": ISSUER, "audiences": ["deputy"]},
                   "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"]}],
                   "claimMappings": {"username": {"claim": "sub", "prefix": "corp:"},
                                     "groups": {"claim": "groups", "prefix": "corp:"}}}),
        ),
        resource: object(
            "ProtectedResource",
            "papers",
            json!({"identifier": IDENTIFIER, "owner": "p@example.com",
                   "scopes": [{"name": "read"}, {"name": "search"}, {"name": "write"}],
                   "allowedAgents": [{"name": "x", "namespaces": {"names": ["ns"]}, "modes": ["OnBehalfOfUser"],
                                      "scopes": ["read", "search", "write"]}],
                   "maxTokenLifetimeSeconds": 600, "userAuthorization": {"type": "Kubernetes"}}),
        ),
        policies: vec![policy("p", 0, &["read", "search", "write"])],
        suspended: false,
    }
}

fn observed<K: DeserializeOwned>(object: &Value) -> Observed<K> {
    Observed::Object(Box::new(serde_json::from_value(object.clone()).unwrap()))
}

impl Objects {
    fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let mut index = Index::new(ReservedAudiences::default());
        index.apply_identity(observed(&self.identity));
        let account = json!({"metadata": {"name": "agent.a", "namespace": "ns", "uid": "x",
            "ownerReferences": [{"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": "a",
                                 "uid": "uid-a", "controller": true}]}});
        index.apply_account(&serde_json::from_value(account).unwrap());
        index.apply_issuer(&observed(&self.issuer));
        index.apply_resource(&observed(&self.resource));
        for policy in &self.policies {
            index.apply_policy(&observed(policy));
        }
        if self.suspended {
            index.apply_suspension(observed(&object("AgentSuspension", "s", json!({"reason": "r"}))));
        }
        index.snapshot()
    }
}

fn set(scopes: &[&str]) -> BTreeSet<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

/// A request for these scopes, by agent `a`.
fn request(scopes: &BTreeSet<String>) -> Request<'_> {
    Request {
        agent: Agent { namespace: "ns", name: "a", uid: "uid-a" },
        subject: Some(alice()),
        resource: IDENTIFIER,
        scopes,
        resting_on: None,
    }
}

fn alice() -> Subject<'static> {
    Subject { issuer: ISSUER, username: "corp:alice", groups: &[], ceiling: None }
}

/// The scopes that are left for the user's rights, and the policy they rest on; or why there are none.
fn candidates(objects: &Objects, request: &Request<'_>) -> Result<(Vec<String>, String), Denial> {
    match authorize(request, &objects.snapshot()) {
        Decision::Permit(c) => {
            Ok((c.scopes().map(str::to_owned).collect(), c.basis.policy.origin.name.clone()))
        }
        Decision::Deny(denial) => Err(denial),
    }
}

fn reason(objects: &Objects, request: &Request<'_>) -> Option<Reason> {
    candidates(objects, request).err().map(|denial| denial.reason)
}

/// Every right that is named, and no other.
fn rights(rights: &[(&str, Right)]) -> BTreeMap<String, Right> {
    rights.iter().map(|(scope, right)| ((*scope).to_owned(), *right)).collect()
}

/// What becomes of a request when the user has these rights.
fn whole<T>(
    objects: &Objects,
    request: &Request<'_>,
    rights: &BTreeMap<String, Right>,
    look: impl FnOnce(Decision<Grant<'_>>) -> T,
) -> T {
    match authorize(request, &objects.snapshot()) {
        Decision::Permit(candidates) => look(narrow(candidates, rights)),
        Decision::Deny(denial) => look(Decision::Deny(denial)),
    }
}

#[test]
fn what_every_half_permits_is_permitted_and_the_rest_is_told() {
    let scopes = set(&["read", "search", "write"]);
    let user = rights(&[("read", Right::Allowed), ("search", Right::Denied)]);
    whole(&objects(), &request(&scopes), &user, |decision| {
        let Decision::Permit(grant) = decision else { panic!("{decision:?}") };
        assert_eq!(grant.scopes().collect::<Vec<_>>(), ["read"]);
        assert_eq!(grant.denied().collect::<Vec<_>>(), [("search", Half::User), ("write", Half::Agent)]);
        let basis = grant.basis;
        let origins = [&basis.policy.origin, &basis.resource.origin, &basis.issuer.unwrap().origin];
        assert_eq!(origins.map(|origin| origin.uid.as_str()), ["uid-p", "uid-papers", "uid-corp"]);
        let write = &grant.rows[2];
        assert_eq!(
            (write.offered, write.granted, write.consented, write.lent, write.right),
            (true, false, true, true, None)
        );
    });
}

#[test]
fn each_reason_is_told_by_its_name() {
    type Edit = fn(&mut Objects);
    let target = Reason::InvalidTarget;
    let table: [(&str, Edit, Option<Reason>); 24] = [
        ("nothing wrong", |_| {}, None),
        ("suspended", |o| o.suspended = true, Some(Reason::AgentSuspended)),
        ("another identity", |o| o.identity["metadata"]["uid"] = "new".into(), Some(Reason::AgentUnknown)),
        ("identity invalid", |o| o.identity["spec"]["owner"] = "".into(), Some(Reason::AgentUnknown)),
        (
            "identity going",
            |o| o.identity["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            Some(Reason::AgentUnknown),
        ),
        (
            "issuer invalid",
            |o| o.issuer["spec"]["issuer"]["audiences"] = json!([]),
            Some(Reason::SubjectIssuer),
        ),
        (
            "issuer of another URL",
            |o| o.issuer["spec"]["issuer"]["url"] = format!("{ISSUER}/").into(),
            Some(Reason::SubjectIssuer),
        ),
        (
            "users called otherwise now",
            |o| o.issuer["spec"]["claimMappings"]["username"]["prefix"] = "new:".into(),
            Some(Reason::SubjectIssuer),
        ),
        (
            "resource of another URI",
            |o| o.resource["spec"]["identifier"] = "https://x".into(),
            Some(target(Target::Unknown)),
        ),
        ("resource invalid", |o| o.resource["spec"]["owner"] = "".into(), Some(target(Target::Unknown))),
        ("no consent", |o| o.resource["spec"]["allowedAgents"] = json!([]), Some(target(Target::NoConsent))),
        (
            "consent to others",
            |o| o.resource["spec"]["allowedAgents"][0]["namespaces"]["names"] = json!(["other"]),
            Some(target(Target::NoConsent)),
        ),
        (
            "consent in another mode",
            |o| o.resource["spec"]["allowedAgents"][0]["modes"] = json!(["OnOwnBehalf"]),
            Some(target(Target::NoConsent)),
        ),
        ("no grant", |o| o.identity["spec"]["grants"] = json!([]), Some(target(Target::NoGrant))),
        ("no policy", |o| o.policies.clear(), Some(Reason::NoDelegation)),
        ("policy invalid", |o| o.policies[0]["spec"]["agents"] = json!({}), Some(Reason::NoDelegation)),
        (
            "policy of others",
            |o| o.policies[0]["spec"]["agents"]["names"] = json!(["b"]),
            Some(Reason::NoDelegation),
        ),
        (
            "policy elsewhere",
            |o| o.policies[0]["metadata"]["namespace"] = "other".into(),
            Some(Reason::NoDelegation),
        ),
        (
            "policy for another user",
            |o| o.policies[0]["spec"]["subjects"][0]["users"] = json!(["corp:bob"]),
            Some(Reason::NoDelegation),
        ),
        (
            "policy for another issuer",
            |o| o.policies[0]["spec"]["subjects"][0]["trustedIssuerName"] = "other".into(),
            Some(Reason::NoDelegation),
        ),
        (
            "policy for another resource",
            |o| o.policies[0]["spec"]["resources"][0]["protectedResourceName"] = "other".into(),
            Some(Reason::NoDelegation),
        ),
        (
            "a scope it does not offer",
            |o| {
                o.resource["spec"]["scopes"] = json!([{"name": "write"}]);
                o.resource["spec"]["allowedAgents"][0]["scopes"] = json!(["write"]);
            },
            Some(Reason::ScopeUnknown),
        ),
        (
            "consent to other scopes",
            |o| o.resource["spec"]["allowedAgents"][0]["scopes"] = json!(["write"]),
            Some(Reason::AgentHalf),
        ),
        (
            "other scopes lent",
            |o| o.policies[0]["spec"]["resources"][0]["scopes"] = json!(["write"]),
            Some(Reason::Delegation),
        ),
    ];
    let scopes = set(&["read"]);
    for (what, edit, expected) in table {
        let objects = objects().with(edit);
        assert_eq!(reason(&objects, &request(&scopes)), expected, "{what}");
        if let Err(denial) = candidates(&objects, &request(&scopes)) {
            assert_eq!(denial.half, denial.reason.half());
            assert_eq!(denial.rows.len(), 1, "{what}");
        }
    }
    assert_eq!(reason(&objects(), &request(&set(&[]))), Some(Reason::ScopeRequired));
}

#[test]
fn what_is_asked_for_is_looked_at_too() {
    let scopes = set(&["read"]);
    let right = request(&scopes);
    let agent = Agent { namespace: "ns", name: "a", uid: "uid-a" };
    let (readers, others) = (["corp:readers".to_owned()], ["other:readers".to_owned()]);
    let narrow = set(&["search"]);
    let bob = Subject { username: "corp:bob", ..alice() };
    for (what, request, expected) in [
        (
            "another agent",
            Request { agent: Agent { name: "b", ..agent }, ..right },
            Some(Reason::AgentUnknown),
        ),
        (
            "another uid",
            Request { agent: Agent { uid: "old", ..agent }, ..right },
            Some(Reason::AgentUnknown),
        ),
        (
            "a slash more",
            Request { resource: "https://papers.example.com/mcp/", ..right },
            Some(Reason::InvalidTarget(Target::Unknown)),
        ),
        ("another user", Request { subject: Some(bob), ..right }, Some(Reason::NoDelegation)),
        ("by group", Request { subject: Some(Subject { groups: &readers, ..bob }), ..right }, None),
        (
            "groups of others",
            Request { subject: Some(Subject { groups: &others, ..alice() }), ..right },
            Some(Reason::SubjectIssuer),
        ),
        (
            "a name of others",
            Request { subject: Some(Subject { username: "alice", ..alice() }), ..right },
            Some(Reason::SubjectIssuer),
        ),
        (
            "a ceiling below",
            Request { subject: Some(Subject { ceiling: Some(&narrow), ..alice() }), ..right },
            Some(Reason::UserHalf),
        ),
        (
            "a ceiling above",
            Request { subject: Some(Subject { ceiling: Some(&scopes), ..alice() }), ..right },
            None,
        ),
        ("for itself", Request { subject: None, ..right }, Some(Reason::InvalidTarget(Target::NoConsent))),
        ("by the same policy", Request { resting_on: Some("uid-p"), ..right }, None),
        ("by another policy", Request { resting_on: Some("uid-q"), ..right }, Some(Reason::NoDelegation)),
    ] {
        assert_eq!(reason(&objects(), &request), expected, "{what}");
    }
}

#[test]
fn for_itself_an_agent_needs_consent_and_policy_of_that_mode_and_no_user() {
    let own = objects().with(|o| {
        o.resource["spec"]["allowedAgents"][0]["modes"] = json!(["OnOwnBehalf"]);
        o.policies[0]["spec"]["mode"] = "OnOwnBehalf".into();
        o.policies[0]["spec"].as_object_mut().unwrap().remove("subjects");
    });
    let scopes = set(&["read", "write"]);
    let request = Request { subject: None, ..request(&scopes) };
    whole(&own, &request, &BTreeMap::new(), |decision| {
        let Decision::Permit(grant) = decision else { panic!("{decision:?}") };
        assert_eq!(grant.scopes().collect::<Vec<_>>(), ["read"]);
        assert_eq!(grant.basis.issuer, None);
    });
    let for_users = own.clone().with(|o| o.policies = objects().policies);
    assert_eq!(reason(&for_users, &request), Some(Reason::NoDelegation));
    let for_alice = Request { subject: Some(alice()), ..request };
    assert_eq!(reason(&own, &for_alice), Some(Reason::InvalidTarget(Target::NoConsent)));
}

#[test]
fn one_policy_is_chosen_and_never_two() {
    let scopes = set(&["read", "search"]);
    let chosen =
        |policies: Vec<Value>| candidates(&objects().with(|o| o.policies = policies), &request(&scopes));
    let all =
        |scopes: &[&str], name: &str| Ok((scopes.iter().map(|s| (*s).to_owned()).collect(), name.to_owned()));
    let (read, search) = (policy("z", 0, &["read"]), policy("a", 9, &["search"]));
    assert_eq!(
        chosen(vec![read.clone(), search.clone()]),
        all(&["read"], "z"),
        "the older of two equal ones"
    );
    let twin = policy("y", 0, &["search"]);
    assert_eq!(chosen(vec![read.clone(), twin]), all(&["search"], "y"), "by name, equally old");
    let both = policy("x", 9, &["read", "search"]);
    assert_eq!(chosen(vec![read, search, both]), all(&["read", "search"], "x"), "the one that covers most");
    // What the agent may not have anyhow does not count.
    let wide = policy("w", 0, &["write"]);
    let asked = set(&["read", "write"]);
    let masked = objects().with(|o| o.policies = vec![wide, policy("r", 9, &["read"])]);
    assert_eq!(candidates(&masked, &request(&asked)), all(&["read"], "r"));
}

#[test]
fn what_is_not_known_of_the_user_is_not_permitted() {
    let scopes = set(&["read", "search"]);
    for (user, expected) in [
        (rights(&[]), Reason::UserHalfUnknown),
        (rights(&[("read", Right::Denied), ("search", Right::Denied)]), Reason::UserHalf),
        (rights(&[("read", Right::Denied), ("search", Right::Unknown)]), Reason::UserHalfUnknown),
        (rights(&[("read", Right::Denied)]), Reason::UserHalfUnknown),
    ] {
        whole(&objects(), &request(&scopes), &user, |decision| {
            let Decision::Deny(denial) = decision else { panic!("{decision:?}") };
            assert_eq!((denial.reason, denial.half), (expected, Some(Half::User)));
        });
    }
    whole(&objects(), &request(&scopes), &rights(&[("search", Right::Allowed)]), |decision| {
        let Decision::Permit(grant) = decision else { panic!("{decision:?}") };
        assert_eq!(grant.denied().collect::<Vec<_>>(), [("read", Half::User)]);
    });
}

#[test]
fn a_token_ends_with_the_first_of_what_it_is_made_from() {
    let scopes = set(&["read"]);
    let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let after = |seconds: i64| now + SignedDuration::from_secs(seconds);
    let (user, actor) = (after(1000), after(900));
    for (policy, resource, subject, expected) in [
        (300, 600, user, Some(300)),
        (900, 600, user, Some(600)),
        (3600, 3600, user, Some(900)),
        (300, 600, after(200), Some(200)),
        (300, 600, after(30), Some(30)),
        (300, 600, after(29), None),
        (300, 600, after(-1), None),
    ] {
        let objects = objects().with(|o| {
            o.policies[0]["spec"]["token"]["maxLifetimeSeconds"] = policy.into();
            o.resource["spec"]["maxTokenLifetimeSeconds"] = resource.into();
        });
        whole(&objects, &request(&scopes), &rights(&[("read", Right::Allowed)]), |decision| {
            let Decision::Permit(grant) = decision else { panic!("{decision:?}") };
            match expiry(&grant, now, &[subject, actor]) {
                Decision::Permit(end) => assert_eq!(Some(end), expected.map(after)),
                Decision::Deny(denial) => {
                    assert_eq!((denial.reason, expected), (Reason::SubjectExpiring, None));
                }
            }
        });
    }
}

/// What a tool takes must be in the token, be listed by both, and hold still; what the token has besides must hold as well.
#[test]
fn an_action_takes_its_scopes_and_no_others() {
    let objects = objects().with(|o| {
        o.resource["spec"]["tools"] = json!([{"name": "find", "scopes": ["search"]},
            {"name": "both", "scopes": ["read", "search"]}, {"name": "erase", "scopes": ["write"]},
            {"name": "unlent", "scopes": ["read"]}]);
        o.policies[0]["spec"]["resources"][0]["tools"] = json!(["find", "both", "erase", "ghost"]);
    });
    let narrowed = objects.clone().with(|o| o.identity["spec"]["grants"][0]["scopes"] = json!(["search"]));
    type Case<'a> = (&'a Objects, &'a [&'a str], Action<'a>, Result<&'a [&'a str], Reason>);
    let table: [Case<'_>; 12] = [
        (&objects, &["read", "search"], Action::Tool("find"), Ok(&["search"])),
        (&objects, &["read", "search"], Action::Tool("both"), Ok(&["read", "search"])),
        (&objects, &["search"], Action::Tool("both"), Err(Reason::InsufficientScope)),
        (&objects, &["read", "search"], Action::Tool("erase"), Err(Reason::AgentHalf)),
        (&objects, &["read", "search"], Action::Tool("unlent"), Err(Reason::ToolNotLent)),
        (&objects, &["read", "search"], Action::Tool("ghost"), Err(Reason::ToolUnlisted)),
        (&objects, &["read", "search"], Action::Tool(""), Err(Reason::ToolUnlisted)),
        (&objects, &["read", "search"], Action::Scope("read"), Ok(&["read"])),
        (&objects, &["search"], Action::Scope("read"), Err(Reason::InsufficientScope)),
        (&objects, &["read", "search"], Action::Scope("find"), Err(Reason::ActionUnknown)),
        (&narrowed, &["search"], Action::Tool("find"), Ok(&["search"])),
        (&narrowed, &["read", "search"], Action::Tool("find"), Err(Reason::AgentHalf)),
    ];
    for (objects, token, action, expected) in table {
        let scopes = set(token);
        let request = Request { resting_on: Some("uid-p"), ..request(&scopes) };
        let found = match act(&request, action, &objects.snapshot()) {
            Decision::Permit(candidates) => Ok(candidates.scopes().map(str::to_owned).collect::<Vec<_>>()),
            Decision::Deny(denial) => Err(denial.reason),
        };
        assert_eq!(
            found,
            expected.map(|scopes| scopes.iter().map(|s| (*s).to_owned()).collect()),
            "{token:?} {action:?}"
        );
    }
}

/// Of what an action takes nothing may be missing.
#[test]
fn half_a_permit_is_none() {
    let scopes = set(&["read", "search"]);
    for (search, expected) in [
        (Right::Allowed, None),
        (Right::Denied, Some(Reason::UserHalf)),
        (Right::Unknown, Some(Reason::UserHalfUnknown)),
    ] {
        let user = rights(&[("read", Right::Allowed), ("search", search)]);
        let found = whole(&objects(), &request(&scopes), &user, |decision| match decision {
            Decision::Permit(grant) => match exchange::whole(grant) {
                Decision::Permit(_) => None,
                Decision::Deny(denial) => Some(denial.reason),
            },
            Decision::Deny(denial) => panic!("{denial:?}"),
        });
        assert_eq!(found, expected);
    }
}

#[test]
fn reasons_and_halves_keep_their_names() {
    let all = [
        (Reason::ActionUnknown, "action_unknown", None),
        (Reason::AgentHalf, "agent_half", Some("agent")),
        (Reason::AgentSuspended, "agent_suspended", Some("agent")),
        (Reason::AgentUnknown, "agent_unknown", Some("agent")),
        (Reason::Delegation, "delegation", Some("delegation")),
        (Reason::InsufficientScope, "insufficient_scope", None),
        (Reason::NoDelegation, "no_delegation", Some("delegation")),
        (Reason::ScopeRequired, "scope_required", None),
        (Reason::ScopeUnknown, "scope_unknown", None),
        (Reason::SubjectExpiring, "subject_expiring", None),
        (Reason::SubjectIssuer, "subject_issuer", None),
        (Reason::ToolNotLent, "tool_not_lent", Some("delegation")),
        (Reason::ToolUnlisted, "tool_unlisted", Some("agent")),
        (Reason::UserHalf, "user_half", Some("user")),
        (Reason::UserHalfUnknown, "user_half_unknown", Some("user")),
    ];
    for (reason, name, half) in all {
        assert_eq!((reason.as_str(), reason.half().map(Half::as_str)), (name, half));
    }
    // One answer for all, or whoever asks could find out what there is.
    for target in [Target::Unknown, Target::NoConsent, Target::NoGrant] {
        assert_eq!(
            (Reason::InvalidTarget(target).as_str(), Reason::InvalidTarget(target).half()),
            ("invalid_target", None)
        );
    }
}

/// Four scopes, as the bits of a number.
const SCOPES: [&str; 4] = ["a", "b", "c", "d"];

fn of(mask: u8) -> Vec<&'static str> {
    SCOPES.into_iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, scope)| scope).collect()
}

fn mask<'a>(scopes: impl IntoIterator<Item = &'a str>) -> u8 {
    scopes.into_iter().map(|scope| 1 << SCOPES.iter().position(|known| *known == scope).unwrap()).sum()
}

/// Every half as a set of scopes.
#[derive(Clone, Debug)]
struct Halves {
    requested: u8,
    grants: u8,
    consent: u8,
    policies: Vec<u8>,
    ceiling: u8,
    user: u8,
}

impl Halves {
    fn objects(&self) -> Objects {
        let listed = |mask| json!(of(mask));
        objects().with(|o| {
            o.resource["spec"]["scopes"] = SCOPES.iter().map(|scope| json!({"name": scope})).collect();
            o.identity["spec"]["grants"][0]["scopes"] = listed(self.grants);
            o.resource["spec"]["allowedAgents"][0]["scopes"] = listed(self.consent);
            if self.grants == 0 {
                o.identity["spec"]["grants"] = json!([]);
            }
            if self.consent == 0 {
                o.resource["spec"]["allowedAgents"] = json!([]);
            }
            let lending = self.policies.iter().enumerate().filter(|(_, lent)| **lent != 0);
            // Of two that lend as much, sometimes the first is older and sometimes the second.
            let policy =
                |(at, lent): (usize, &u8)| policy(&format!("p{at}"), u32::from(*lent) % 3, &of(*lent));
            o.policies = lending.map(policy).collect();
        })
    }

    /// Candidates, what is granted in the end, and what the chosen policy lends.
    fn decide(&self) -> (u8, u8, u8) {
        let (scopes, ceiling) = (set(&of(self.requested)), set(&of(self.ceiling)));
        let subject = Subject { ceiling: Some(&ceiling), ..alice() };
        let request = Request { subject: Some(subject), ..request(&scopes) };
        let snapshot = self.objects().snapshot();
        let Decision::Permit(candidates) = authorize(&request, &snapshot) else { return (0, 0, 0) };
        let left = mask(candidates.scopes());
        let lent = mask(candidates.basis.policy.resources["papers"].scopes.iter().map(String::as_str));
        let user = of(self.user).into_iter().map(|scope| (scope.to_owned(), Right::Allowed)).collect();
        match narrow(candidates, &user) {
            Decision::Permit(grant) => (left, mask(grant.scopes()), lent),
            Decision::Deny(_) => (left, 0, lent),
        }
    }

    /// What no half but the policies' denies.
    fn others(&self) -> u8 {
        self.requested & self.grants & self.consent & self.ceiling & self.user
    }
}

fn halves() -> impl Strategy<Value = Halves> {
    let (any, policies) = (0..16_u8, prop::collection::vec(0..16_u8, 0..4));
    (any.clone(), any.clone(), any.clone(), policies, any.clone(), any).prop_map(
        |(requested, grants, consent, policies, ceiling, user)| Halves {
            requested,
            grants,
            consent,
            policies,
            ceiling,
            user,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What is granted is what every half permits: no more, and with one policy no less.
    #[test]
    fn nothing_is_granted_that_a_half_denies(halves in halves()) {
        let (candidates, granted, lent) = halves.decide();
        prop_assert_eq!(granted, halves.others() & lent);
        prop_assert_eq!(candidates & granted, granted);
        prop_assert!(lent == 0 || halves.policies.contains(&lent));
    }

    /// A policy more may give more, and never what two policies give only together.
    #[test]
    fn one_policy_more_never_makes_a_token_of_two(halves in halves(), lent in 0..16_u8) {
        let before = halves.decide().0.count_ones();
        let mut more = halves;
        more.policies.push(lent);
        let (candidates, granted, _) = more.decide();
        prop_assert!(candidates.count_ones() >= before);
        let by_one = more.policies.iter().any(|lent| granted & !lent == 0 && candidates & !lent == 0);
        prop_assert!(by_one || (granted, candidates) == (0, 0));
    }

    /// Whatever is withdrawn, there are not more candidates, and none that could not be had before; and if no policy was
    /// withdrawn and there is one, what was not granted before is not granted now.
    #[test]
    fn what_is_withdrawn_adds_nothing(halves in halves(), which in 0..6_usize, taken in 1..16_u8) {
        let (before, granted, _) = halves.decide();
        let mut less = halves.clone();
        match which {
            0 => less.grants &= !taken,
            1 => less.consent &= !taken,
            2 => less.ceiling &= !taken,
            3 => less.user &= !taken,
            4 => less.policies.iter_mut().for_each(|lent| *lent &= !taken),
            _ => drop(less.policies.pop()),
        }
        let (after, granted_after, lent) = less.decide();
        prop_assert!(after.count_ones() <= before.count_ones());
        prop_assert_eq!(granted_after & !(halves.others() & lent), 0);
        prop_assert!(lent == 0 || halves.policies.iter().any(|old| lent & !old == 0));
        if halves.policies.len() == 1 {
            prop_assert_eq!(granted_after & !granted, 0);
        }
    }
}
