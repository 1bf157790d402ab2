use super::*;
use crate::api::v1alpha1::{ResourceGrant, ScopeName};
use serde_json::json;

fn identity(name: &str, uid: &str) -> AgentIdentity {
    serde_json::from_value(json!({
        "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
        "metadata": {"name": name, "namespace": "ns", "uid": uid, "generation": 1},
        "spec": {"owner": "o@example.com", "tokens": [{"name": "t", "audience": "https://a.example.com"}]},
    }))
    .unwrap()
}

fn account(name: &str, owner_uid: Option<&str>) -> Lean<ServiceAccount> {
    let owners: Vec<_> = owner_uid
        .map(|uid| {
            json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": "a", "uid": uid,
                   "controller": true})
        })
        .into_iter()
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": "account", "ownerReferences": owners},
        "imagePullSecrets": [{"name": "s"}],
    }))
    .unwrap()
}

fn observed(object: AgentIdentity) -> Observed<AgentIdentity> {
    Observed::Object(Box::new(object))
}

#[test]
fn standing_follows_identity_and_account() {
    let mut index = Index::new(ReservedAudiences::default());
    assert_eq!(index.snapshot().standing("ns", "a"), Standing::Unknown);

    index.apply_identity(observed(identity("a", "u1")));
    let snapshot = index.snapshot();
    assert!(matches!(snapshot.standing("ns", "a"), Standing::AccountMissing(i) if i.uid == "u1"));
    assert_eq!(snapshot.standing("other", "a"), Standing::Unknown);

    index.apply_account(&account("agent.a", None));
    assert!(matches!(index.snapshot().standing("ns", "a"), Standing::AccountTaken(_)));
    index.apply_account(&account("agent.a", Some("predecessor")));
    assert!(matches!(index.snapshot().standing("ns", "a"), Standing::AccountMissing(_)));
    index.apply_account(&account("agent.a", Some("u1")));
    assert!(matches!(index.snapshot().standing("ns", "a"), Standing::Valid(_)));

    index.delete_account("ns", "agent.a");
    assert!(matches!(index.snapshot().standing("ns", "a"), Standing::AccountMissing(_)));
    index.delete_identity("ns", "a");
    assert_eq!(index.snapshot().standing("ns", "a"), Standing::Unknown);
}

#[test]
fn a_deleting_identity_is_not_valid() {
    let mut index = Index::new(ReservedAudiences::default());
    index.apply_account(&account("agent.a", Some("u1")));
    let mut object = identity("a", "u1");
    object.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    index.apply_identity(observed(object));
    assert!(matches!(index.snapshot().standing("ns", "a"), Standing::Deleting(_)));
}

#[test]
fn an_older_snapshot_does_not_change() {
    let mut index = Index::new(ReservedAudiences::default());
    let before = index.snapshot();
    index.apply_identity(observed(identity("a", "u1")));
    assert_eq!(before.standing("ns", "a"), Standing::Unknown);
    assert!(index.snapshot().version > before.version);
}

#[test]
fn unreadable_and_invalid_identities_grant_nothing_and_say_why() {
    let mut index = Index::new(ReservedAudiences::from_iter(["api".to_owned()]));
    index.apply_identity(Observed::Unreadable {
        namespace: "ns".into(),
        name: "a".into(),
        why: "missing field `owner`".into(),
    });
    assert_eq!(
        index.snapshot().standing("ns", "a"),
        Standing::Invalid("it cannot be read: missing field `owner`")
    );
    let mut object = identity("b", "u2");
    object.spec.tokens[0].audience = "api".into();
    index.apply_identity(observed(object));
    assert!(
        matches!(index.snapshot().standing("ns", "b"), Standing::Invalid(why) if why.contains("kubernetesAPIAccess"))
    );
    assert_eq!(index.snapshot().invalid_identities(), 2);
    assert_eq!(index.snapshot().identities().count(), 0);
}

#[test]
fn a_reset_forgets_what_it_does_not_list() {
    let mut index = Index::new(ReservedAudiences::default());
    index.apply_identity(observed(identity("a", "u1")));
    index.apply_account(&account("agent.a", Some("u1")));
    index.reset_identities(vec![observed(identity("b", "u2"))]);
    assert_eq!(index.snapshot().standing("ns", "a"), Standing::Unknown);
    assert!(matches!(index.snapshot().standing("ns", "b"), Standing::AccountMissing(_)));
    index.reset_accounts(&[account("agent.b", Some("u2")), account("default", None), account("web", None)]);
    assert!(matches!(index.snapshot().standing("ns", "b"), Standing::Valid(_)));
    assert_eq!(index.snapshot().account("ns", "default").unwrap().image_pull_secrets, ["s"]);
    assert_eq!(index.snapshot().account("ns", "web"), None);
}

#[test]
fn what_the_schema_refuses_the_conversion_refuses_too() {
    let reserved = ReservedAudiences::default();
    let with = |edit: fn(&mut AgentIdentity)| {
        let mut object = identity("a", "u");
        edit(&mut object);
        Identity::validate(&object, &reserved.clone().into()).unwrap_err()
    };
    assert_eq!(with(|o| o.spec.owner = " ".into()), Invalid::OwnerMissing);
    assert_eq!(with(|o| o.metadata.name = Some("a.b".into())), Invalid::Name("a.b".into()));
    assert_eq!(with(|o| o.metadata.name = Some("a".repeat(64))), Invalid::Name("a".repeat(64)));
    assert_eq!(with(|o| o.metadata.uid = None), Invalid::Incomplete("uid"));
    assert_eq!(with(|o| o.spec.tokens[0].name = "../t".into()), Invalid::TokenName("../t".into()));
    assert_eq!(with(|o| o.spec.tokens[0].audience.clear()), Invalid::TokenAudienceMissing("t".into()));
    let grant = |scope: &str| ResourceGrant {
        protected_resource_name: "papers".into(),
        scopes: vec![ScopeName(scope.into())],
    };
    for grants in [vec![grant("*")], vec![grant("read"), grant("search")]] {
        let mut object = identity("a", "u");
        object.spec.grants = grants;
        let invalid = Identity::validate(&object, &reserved.clone().into()).unwrap_err();
        assert!(matches!(invalid, Invalid::Grant(_)), "{invalid}");
    }
    for seconds in [599, 3601, 3607, 0, -1] {
        let mut object = identity("a", "u");
        object.spec.tokens[0].expiration_seconds = seconds;
        assert_eq!(
            Identity::validate(&object, &reserved.clone().into()),
            Err(Invalid::TokenExpiration { name: "t".into(), seconds })
        );
    }
    let repeated = with(|o| {
        let mut second = o.spec.tokens[0].clone();
        second.name = "u".into();
        o.spec.tokens.push(second);
    });
    assert_eq!(repeated, Invalid::TokenRepeated("https://a.example.com".into()));
}

#[test]
fn a_suspension_stops_one_agent_or_all_and_an_unreadable_one_all() {
    let suspension = |name: &str, agent: Option<&str>| {
        let spec = serde_json::json!({"agentName": agent, "reason": "r"});
        let object = serde_json::json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension",
            "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        Observed::Object(serde_json::from_value(object).unwrap())
    };
    let stopped =
        |index: &Index, agent: &str| index.snapshot().suspension("ns", agent).map(|s| s.name.clone());
    let mut index = Index::new(ReservedAudiences::default());
    index.apply_suspension(suspension("one", Some("a")));
    assert_eq!((stopped(&index, "a"), stopped(&index, "b")), (Some("one".into()), None));
    assert_eq!(index.snapshot().suspension("other", "a"), None);
    index.apply_suspension(suspension("all", None));
    assert_eq!(stopped(&index, "b"), Some("all".into()));
    index.reset_suspensions(vec![]);
    assert_eq!(stopped(&index, "a"), None);
    let (namespace, name) = ("ns".to_owned(), "odd".to_owned());
    index.apply_suspension(Observed::Unreadable { namespace, name, why: "a field of another kind".into() });
    assert_eq!(stopped(&index, "anyone"), Some("odd".into()));
    index.delete_suspension("ns", "odd");
    assert_eq!(stopped(&index, "anyone"), None);
}

#[test]
fn the_audience_of_the_broker_is_given_and_not_declared() {
    let mut object = identity("a", "u");
    let declarable = |issuer: &str| Declarable { issuer: Some(issuer.into()), ..Declarable::default() };
    assert!(Identity::validate(&object, &declarable("https://deputy.example.com")).is_ok());
    object.spec.tokens[0].audience = "https://deputy.example.com".into();
    assert!(
        Identity::validate(&object, &Declarable::default()).is_ok(),
        "without a broker it is one like any other"
    );
    let invalid = Identity::validate(&object, &declarable("https://deputy.example.com")).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "spec.tokens[t].audience \"https://deputy.example.com\" is the broker's own; remove it: the broker's token is given \
         anyway, at /var/run/secrets/deputy.dev/token"
    );
}
