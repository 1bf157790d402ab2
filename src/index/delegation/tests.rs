use super::*;
use crate::{
    api::v1alpha1::{CallerRight, DelegationMode},
    index::{Index, ReservedAudiences, Snapshot},
};
use serde_json::{Value, json};
use std::fs;

fn sample(kind: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/samples/delegation.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(folder).unwrap()).unwrap();
    let mut object = documents.into_iter().find(|object| object["kind"] == kind).unwrap();
    let metadata = &mut object["metadata"];
    metadata["uid"] = format!("uid-{}", metadata["name"].as_str().unwrap()).into();
    metadata["generation"] = 1.into();
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    object
}

fn with(kind: &str, path: &str, value: Value) -> Value {
    let mut object = sample(kind);
    set(&mut object, path, value);
    object
}

/// Sets a field; `null` takes it away, as on the wire.
fn set(object: &mut Value, path: &str, value: Value) {
    let (parent, field) = path.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{path}"));
    match parent {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        Value::Object(fields) if value.is_null() => drop(fields.remove(field)),
        parent => parent[field] = value,
    }
}

fn named(kind: &str, name: &str, created: &str) -> Value {
    let mut object = with(kind, "/metadata/name", name.into());
    set(&mut object, "/metadata/uid", format!("uid-{name}").into());
    set(&mut object, "/metadata/creationTimestamp", created.into());
    object
}

fn read_as<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

fn observed<K: serde::de::DeserializeOwned>(object: Value) -> Observed<K> {
    Observed::Object(Box::new(read_as(object)))
}

fn unreadable<K>(name: &str) -> Observed<K> {
    Observed::Unreadable { namespace: "research".into(), name: name.into(), why: "odd".into() }
}

fn index() -> Index {
    Index::new(ReservedAudiences::default())
}

const T1: &str = "2026-01-01T00:00:00Z";
const T2: &str = "2026-01-01T00:00:01Z";

#[test]
fn the_samples_are_what_they_say() {
    let issuer = Issuer::try_from(&read_as(sample("TrustedIssuer"))).unwrap();
    assert_eq!(issuer.url, "https://idp.example.com/realms/corp");
    assert_eq!(issuer.keys, IssuerKeys::Discovered { certificate_authority: None });
    assert_eq!((issuer.username.prefix.as_str(), issuer.max_token_age.as_secs()), ("corp:", 900));

    let resource = Resource::try_from(&read_as(sample("ProtectedResource"))).unwrap();
    let user = DelegationMode::OnBehalfOfUser;
    assert!(resource.admits("research", user) && resource.allows("research", user, "read"));
    assert!(!resource.admits("other", user) && !resource.allows("research", user, "write"));
    assert!(!resource.admits("research", DelegationMode::OnOwnBehalf));
    assert!(resource.is_called_by("papers", "papers-api", CallerRight::Decide));
    assert!(!resource.is_called_by("other", "papers-api", CallerRight::Decide));
    assert_eq!(resource.tools["get_paper"].iter().collect::<Vec<_>>(), ["read"]);

    let policy = Policy::try_from(&read_as(sample("DelegationPolicy"))).unwrap();
    assert_eq!(policy.mode(), user);
    assert!(policy.lends_rights_of("corp", "corp:alice", &["corp:researchers".into()]));
    for (issuer, username, groups) in
        [("corp", "corp:researchers", vec![]), ("other", "corp:alice", vec!["corp:researchers".to_owned()])]
    {
        assert!(!policy.lends_rights_of(issuer, username, &groups), "{issuer} {username}");
    }
    assert_eq!(policy.max_token_lifetime.as_secs(), 300);
}

#[test]
fn what_the_schema_refuses_of_issuers_the_conversion_refuses_too() {
    let private = json!({"keys": [{"kty": "OKP", "d": "x"}]}).to_string();
    let symmetric = json!({"keys": [{"kty": "oct", "k": "x"}]}).to_string();
    for (path, value, says) in [
        ("/spec/issuer/url", json!("http://a"), "spec.issuer.url"),
        ("/spec/issuer/url", json!("https://a?b"), "spec.issuer.url"),
        ("/spec/issuer/audiences", json!([]), "spec.issuer.audiences is missing"),
        ("/spec/issuer/audiences", json!(["a", "a"]), "listed twice"),
        ("/spec/issuer/jwks", json!("["), "spec.issuer.jwks is not"),
        ("/spec/issuer/jwks", json!("{\"keys\":[]}"), "with a key"),
        ("/spec/issuer/jwks", json!(private), "private or symmetric"),
        ("/spec/issuer/jwks", json!(symmetric), "private or symmetric"),
        ("/spec/issuer/certificateAuthority", json!("x"), "certificates as PEM"),
        ("/spec/tokens", json!([]), "spec.tokens is missing"),
        ("/spec/tokens/0/headerTypes", json!([]), "headerTypes is missing"),
        ("/spec/tokens/0", json!({"type": "IDToken", "headerTypes": ["JWT"]}), "an ID token has no scopes"),
        (
            "/spec/tokens/0",
            json!({"type": "IDToken", "headerTypes": ["at+jwt"], "scopeCeiling": "None"}),
            "an ID token",
        ),
        ("/spec/claimMappings/username/prefix", json!(""), "username is missing"),
        ("/spec/claimMappings/username/prefix", json!("sys"), "Kubernetes' own"),
        ("/spec/claimMappings/groups/prefix", json!("system:x"), "Kubernetes' own"),
        ("/spec/maxTokenAgeSeconds", json!(86401), "within 60 to 86400"),
        ("/metadata/deletionTimestamp", json!(T1), "being deleted"),
    ] {
        let why =
            Issuer::try_from(&read_as(with("TrustedIssuer", path, value.clone()))).unwrap_err().to_string();
        assert!(why.contains(says), "{path} {value}: {why}");
    }
    let both = json!({"url": "https://a", "audiences": ["a"], "jwks": "{}", "certificateAuthority": "x"});
    let both: TrustedIssuer = read_as(with("TrustedIssuer", "/spec/issuer", both));
    assert!(matches!(Issuer::try_from(&both), Err(InvalidDelegation::Combination(_))));
    let public = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "x"}]}).to_string();
    let public: TrustedIssuer = read_as(with("TrustedIssuer", "/spec/issuer/jwks", json!(public)));
    assert!(matches!(Issuer::try_from(&public).unwrap().keys, IssuerKeys::Inline(_)));
}

#[test]
fn what_the_schema_refuses_of_resources_the_conversion_refuses_too() {
    for (path, value, says) in [
        (
            "/spec/identifier",
            json!("https://Papers.example.com"),
            "is written \"https://papers.example.com\"",
        ),
        ("/spec/identifier", json!("https://papers.example.com/"), "a path that is \"/\" alone"),
        ("/spec/owner", json!(" "), "spec.owner is missing"),
        ("/spec/scopes/0/name", json!("*"), "is no scope"),
        ("/spec/scopes", json!([]), "spec.scopes is missing"),
        ("/spec/scopes/1/name", json!("read"), "listed twice"),
        ("/spec/tools/0/scopes/0", json!("write"), "is not one of spec.scopes"),
        ("/spec/tools/1/name", json!("search_papers"), "listed twice"),
        ("/spec/allowedAgents/0/scopes/0", json!("write"), "is not one of spec.scopes"),
        ("/spec/allowedAgents/0/modes", json!([]), "modes is missing"),
        ("/spec/allowedAgents/0/namespaces/names", json!([]), "names is missing"),
        ("/spec/callers/0/may", json!([]), "spec.callers[] is missing"),
        ("/spec/maxTokenLifetimeSeconds", json!(59), "within 60 to 3600"),
        ("/spec/userAuthorization", json!({"type": "Claims"}), "scopeClaim is missing"),
        ("/spec/userAuthorization/claims", json!({"scopeClaim": "scope"}), "only then"),
        ("/metadata/deletionTimestamp", json!(T1), "being deleted"),
    ] {
        let object = read_as(with("ProtectedResource", path, value.clone()));
        let why = Resource::try_from(&object).unwrap_err().to_string();
        assert!(why.contains(says), "{path} {value}: {why}");
    }
}

#[test]
fn what_the_schema_refuses_of_policies_the_conversion_refuses_too() {
    for (path, value, says) in [
        ("/spec/agents", json!({}), "exactly one of names and selector"),
        ("/spec/agents/selector", json!({"matchLabels": {"a": "b"}}), "exactly one of names and selector"),
        ("/spec/agents", json!({"selector": {"matchLabels": {}}}), "matchLabels is missing"),
        ("/spec/agents/names", json!([]), "spec.agents.names is missing"),
        ("/spec/mode", json!("OnOwnBehalf"), "leave it out"),
        ("/spec/subjects", Value::Null, "spec.subjects is missing"),
        ("/spec/subjects/0/groups", Value::Null, "a user or group"),
        ("/spec/subjects/0/groups/0", json!(""), "a user or group"),
        ("/spec/resources", json!([]), "spec.resources is missing"),
        ("/spec/resources/0/scopes", json!([]), "scopes is missing"),
        ("/spec/resources/0/scopes/0", json!("*"), "is no scope"),
        ("/spec/resources/0/tools/0", json!("get_paper"), "listed twice"),
        ("/spec/token/maxLifetimeSeconds", json!(3601), "within 60 to 3600"),
        ("/metadata/deletionTimestamp", json!(T1), "being deleted"),
    ] {
        let object = read_as(with("DelegationPolicy", path, value.clone()));
        let why = Policy::try_from(&object).unwrap_err().to_string();
        assert!(why.contains(says), "{path} {value}: {why}");
    }
}

/// Names of the issuers that count, and of the others why not.
fn issuers(snapshot: &Snapshot, names: &[&str]) -> Vec<Option<Rejection>> {
    let of = |name: &&str| snapshot.delegation.issuer_named(name).unwrap().err().map(|r| r.reason);
    names.iter().map(of).collect()
}

#[test]
fn of_issuers_that_claim_the_same_the_oldest_counts() {
    let other = |name: &str, created: &str, url: &str, users: &str, groups: &str| {
        let mut issuer = named("TrustedIssuer", name, created);
        set(&mut issuer, "/spec/issuer/url", url.into());
        set(&mut issuer, "/spec/claimMappings/username/prefix", users.into());
        set(&mut issuer, "/spec/claimMappings/groups/prefix", groups.into());
        issuer
    };
    let (url, prefix) = (Some(Rejection::UrlTaken), Some(Rejection::PrefixTaken));
    for (what, late, expected) in [
        ("the same URL", ("https://a", "b:", "b:"), url),
        ("the same prefix", ("https://b", "a:", "b:"), prefix),
        ("a prefix that can make its names", ("https://b", "a", "b:"), prefix),
        ("a prefix whose names it can make", ("https://b", "a:x", "b:"), prefix),
        ("the same prefix of groups", ("https://b", "b:", "a:"), prefix),
        ("nothing of it", ("https://b", "b:", "b:"), None),
        ("a URL that only looks alike", ("https://a/", "b:", "b:"), None),
    ] {
        let (first, late) =
            (other("zeta", T1, "https://a", "a:", "a:"), other("alpha", T2, late.0, late.1, late.2));
        for order in [[&first, &late], [&late, &first]] {
            let mut index = index();
            for object in order {
                index.apply_issuer(&observed(object.clone()));
            }
            let snapshot = index.snapshot();
            assert_eq!(issuers(&snapshot, &["zeta", "alpha"]), [None, expected], "{what}");
            assert_eq!(snapshot.delegation.issuer("https://a").unwrap().origin.name, "zeta");
            index.delete_issuer("zeta");
            assert_eq!(issuers(&index.snapshot(), &["alpha"]), [None], "{what}");
        }
    }
    // Equally old: by name. One that lost claims nothing: neither the prefix of one that lost to it.
    let mut index = index();
    index.reset_issuers(&[
        observed(other("b", T1, "https://a", "b:", "b:")),
        observed(other("a", T1, "https://a", "a:", "a:")),
        observed(other("c", T2, "https://c", "b:", "b:")),
    ]);
    assert_eq!(issuers(&index.snapshot(), &["a", "b", "c"]), [None, url, None]);
    // An invalid one keeps what it claims, and grants nothing.
    let mut broken = other("a", T1, "https://a", "a:", "a:");
    set(&mut broken, "/spec/issuer/audiences", json!([]));
    index.apply_issuer(&observed(broken));
    assert_eq!(issuers(&index.snapshot(), &["a", "b"]), [Some(Rejection::Invalid), url]);
    assert_eq!(index.snapshot().delegation.issuer("https://a"), None);
    index.apply_issuer(&unreadable("a"));
    assert_eq!(issuers(&index.snapshot(), &["a", "b"]), [Some(Rejection::Invalid), None]);
}

#[test]
fn of_resources_with_one_identifier_the_oldest_counts() {
    let standing = |index: &Index, name: &str| {
        index.snapshot().delegation.resource_named(name).map(|s| s.err().map(|rejected| rejected.reason))
    };
    let by_identifier = |index: &Index| {
        let snapshot = index.snapshot();
        let resource = snapshot.delegation.resource("https://papers.example.com/mcp");
        resource.map(|resource| resource.origin.name.clone())
    };
    let taken = Some(Some(Rejection::IdentifierTaken));
    let mut index = index();
    index.apply_resource(&observed(named("ProtectedResource", "late", T2)));
    assert_eq!(by_identifier(&index).as_deref(), Some("late"));
    index.apply_resource(&observed(named("ProtectedResource", "other", T1)));
    index.apply_resource(&observed(named("ProtectedResource", "first", T1)));
    assert_eq!(by_identifier(&index).as_deref(), Some("first"));
    assert_eq!(["first", "other", "late"].map(|n| standing(&index, n)), [Some(None), taken, taken]);
    let mut broken = named("ProtectedResource", "first", T1);
    set(&mut broken, "/spec/owner", "".into());
    index.apply_resource(&observed(broken));
    assert_eq!((by_identifier(&index), standing(&index, "other")), (None, taken));
    index.delete_resource("first");
    assert_eq!(by_identifier(&index).as_deref(), Some("other"));
    index.apply_resource(&unreadable("other"));
    assert_eq!(by_identifier(&index).as_deref(), Some("late"));
    index.reset_resources(&[observed(named("ProtectedResource", "new", T1))]);
    assert_eq!((by_identifier(&index).as_deref(), standing(&index, "late")), (Some("new"), None));
}

#[test]
fn a_policy_speaks_of_agents_of_its_namespace_by_name_or_label() {
    let mut index = index();
    for (namespace, name, labels) in [
        ("research", "researcher", json!({"team": "a"})),
        ("research", "writer", json!({"team": "b", "tier": "gold"})),
        ("other", "researcher", json!({"team": "a"})),
    ] {
        index.apply_identity(observed(json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
            "metadata": {"name": name, "namespace": namespace, "uid": "u", "labels": labels},
            "spec": {"owner": "o@example.com",
                     "grants": [{"protectedResourceName": "papers", "scopes": ["read"]}]}})));
    }
    index.apply_policy(&observed(sample("DelegationPolicy")));
    let mut by_label =
        with("DelegationPolicy", "/spec/agents", json!({"selector": {"matchLabels": {"team": "b"}}}));
    set(&mut by_label, "/metadata/name", "by-label".into());
    index.apply_policy(&observed(by_label));
    index.apply_policy(&unreadable("odd"));
    let snapshot = index.snapshot();
    let of = |namespace: &str, name: &str| -> Vec<String> {
        let identity = snapshot.identities_of(namespace).find(|identity| identity.name == name).unwrap();
        assert!(identity.may_have("papers", "read") && !identity.may_have("papers", "search"));
        snapshot.delegation.policies_of(identity).map(|policy| policy.origin.name.clone()).collect()
    };
    assert_eq!(of("research", "researcher"), ["researchers-read"]);
    assert_eq!(of("research", "writer"), ["by-label"]);
    assert_eq!(of("other", "researcher"), [""; 0]);
    let policy = snapshot.delegation.policy("research", "researchers-read").unwrap().unwrap();
    assert!(!policy.speaks_of(snapshot.identities_of("other").next().unwrap()));
    assert_eq!(snapshot.delegation.policy("research", "odd").unwrap(), Err("it cannot be read: odd"));
    index.delete_policy("research", "by-label");
    assert_eq!(index.snapshot().delegation.policy("research", "by-label"), None);
    index.reset_policies(&[]);
    assert_eq!(index.snapshot().delegation.policy("research", "odd"), None);
}

#[test]
fn what_changes_nothing_makes_no_new_world() {
    let mut index = index();
    let world = |index: &Index| index.snapshot().version;
    index.apply_issuer(&observed(sample("TrustedIssuer")));
    index.apply_resource(&observed(sample("ProtectedResource")));
    index.apply_policy(&observed(sample("DelegationPolicy")));
    let before = world(&index);
    let written = |kind| with(kind, "/status", json!({"conditions": []}));
    index.apply_issuer(&observed(written("TrustedIssuer")));
    index.apply_resource(&observed(written("ProtectedResource")));
    index.apply_policy(&observed(written("DelegationPolicy")));
    assert_eq!(world(&index), before);
    index.apply_policy(&observed(with("DelegationPolicy", "/metadata/generation", 2.into())));
    assert_eq!(world(&index), before + 1);
}
