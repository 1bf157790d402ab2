//! Who holds which static credential and who waits for it, as a table for people and as JSON for scripts.

use super::{escaped_json, table::aligned};
use crate::{
    api::{
        condition::READY,
        v1alpha1::{AgentIdentity, ClaimHolder, CredentialClaim},
    },
    index::{Claim, Subject, canonical_role},
};
use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, core::DeserializeGuard};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One credential that somebody holds or declares.
#[derive(Clone, Debug)]
pub struct Holding {
    /// What is held.
    pub subject: Subject,
    /// Who holds it, or held it last; `None` while nobody does.
    pub holder: Option<ClaimHolder>,
    /// Since when the holder may not use it any more.
    pub released: Option<Timestamp>,
    /// Whether somebody took it away from its holder.
    pub taken_away: bool,
    /// Who else declares it; `None` where identities were not to be seen.
    pub waiting: Option<Vec<Waiting>>,
}

/// An identity that declares what it does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Reason of its condition `Ready`, unless it is ready.
    pub reason: Option<String>,
}

/// Credentials by kind and name.
#[derive(Clone, Debug)]
pub struct Holdings {
    /// Each credential.
    pub all: Vec<Holding>,
    /// Names of claims that cannot be read: nobody holds what they are on.
    pub unreadable: Vec<String>,
}

impl Holdings {
    /// Brings together what was read; `identities` is `None` where they could not be. With a `namespace`, only what is of
    /// that namespace, or held or waited for by an identity there.
    pub fn new(
        claims: Vec<DeserializeGuard<CredentialClaim>>,
        identities: Option<Vec<DeserializeGuard<AgentIdentity>>>,
        namespace: Option<&str>,
    ) -> Self {
        let (mut found, mut unreadable) = (BTreeMap::new(), vec![]);
        let unclaimed = |subject: &Subject| Holding {
            subject: subject.clone(),
            holder: None,
            released: None,
            taken_away: false,
            waiting: identities.is_some().then(Vec::new),
        };
        for guard in claims {
            let name = guard.name_any();
            let Some(claim) = guard.0.ok().as_ref().and_then(Claim::read) else {
                unreadable.push(name);
                continue;
            };
            let holding = found.entry(claim.subject.clone()).or_insert_with_key(unclaimed);
            holding.holder = Some(claim.holder);
            holding.released = claim.released;
            holding.taken_away = claim.taken_away;
        }
        for identity in identities.iter().flatten().filter_map(|guard| guard.0.as_ref().ok()) {
            for subject in declared(identity) {
                let holding = found.entry(subject).or_insert_with_key(unclaimed);
                if !holding.is_held_by(identity) {
                    holding.waiting.get_or_insert_default().push(Waiting::new(identity));
                }
            }
        }
        let concerns = |holding: &Holding| namespace.is_none_or(|namespace| holding.concerns(namespace));
        Self { all: found.into_values().filter(concerns).collect(), unreadable }
    }

    /// A line for each credential.
    pub fn table(&self) -> String {
        let titles = ["TYPE", "CREDENTIAL", "HOLDER", "STATE", "SINCE", "WAITING"];
        let mut rows = vec![titles.map(str::to_owned)];
        rows.extend(self.all.iter().map(Holding::row));
        aligned(&rows, 0)
    }

    /// Everything, for scripts.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let claims: Vec<_> = self.all.iter().map(Holding::json).collect();
        let text = serde_json::to_string_pretty(&json!({"claims": claims, "unreadable": self.unreadable}))?;
        Ok(escaped_json(&text) + "\n")
    }
}

/// What an identity declares that has one holder. Whether it may is the controller's to say, in the identity's conditions.
fn declared(identity: &AgentIdentity) -> Vec<Subject> {
    let namespace = identity.namespace().unwrap_or_default();
    let secrets = identity.spec.credentials.iter().map(|declared| Subject::Secret {
        namespace: namespace.clone(),
        name: declared.secret.secret_name.clone(),
    });
    let account = identity.spec.service_account.iter();
    let roles = account.flat_map(|account| &account.annotations);
    let roles = roles.map(|(key, role)| Subject::CloudRole {
        annotation: key.clone(),
        role: canonical_role(key, &role.0),
    });
    secrets.chain(roles).collect()
}

impl Waiting {
    fn new(identity: &AgentIdentity) -> Self {
        let conditions = identity.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.into_iter().find(|condition| condition.type_ == READY);
        let reason = ready.filter(|ready| ready.status != "True").map(|ready| ready.reason.clone());
        Self { namespace: identity.namespace().unwrap_or_default(), name: identity.name_any(), reason }
    }
}

impl Holding {
    fn is_held_by(&self, identity: &AgentIdentity) -> bool {
        self.released.is_none()
            && self.holder.as_ref().is_some_and(|h| identity.uid().as_ref() == Some(&h.uid))
    }

    fn concerns(&self, namespace: &str) -> bool {
        matches!(&self.subject, Subject::Secret { namespace: of, .. } if of == namespace)
            || self.holder.as_ref().is_some_and(|holder| holder.namespace == namespace)
            || self.waiting.iter().flatten().any(|waiting| waiting.namespace == namespace)
    }

    fn state(&self) -> &'static str {
        match (&self.holder, self.released, self.taken_away) {
            (None, ..) => "Unclaimed",
            (Some(_), None, _) => "Held",
            (Some(_), Some(_), false) => "Released",
            (Some(_), Some(_), true) => "TakenAway",
        }
    }

    fn row(&self) -> [String; 6] {
        let none = || "<none>".to_owned();
        let (type_, credential) = match &self.subject {
            Subject::Secret { namespace, name } => ("Secret", format!("{namespace}/{name}")),
            Subject::CloudRole { role, .. } => ("CloudRole", role.clone()),
        };
        let waiting = match self.waiting.as_deref() {
            None => "unknown".to_owned(),
            Some([]) => none(),
            Some(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        [
            type_.to_owned(),
            credential,
            self.holder.as_ref().map_or_else(none, |holder| format!("{}/{}", holder.namespace, holder.name)),
            self.state().to_owned(),
            self.released.map_or_else(none, |released| released.to_string()),
            waiting,
        ]
    }

    fn json(&self) -> Value {
        let waiting = self.waiting.as_ref().map(|all| {
            let one = |w: &Waiting| json!({"namespace": w.namespace, "name": w.name, "reason": w.reason});
            all.iter().map(one).collect::<Vec<_>>()
        });
        json!({
            "name": self.subject.claim_name(),
            "subject": self.subject.to_wire(),
            "state": self.state(),
            "holder": self.holder,
            "releasedTime": self.released.map(|released| released.to_string()),
            "waiting": waiting,
        })
    }
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> Subject {
        Subject::Secret { namespace: "one".into(), name: name.into() }
    }

    fn claim(subject: &Subject, holder: &str, released: bool) -> DeserializeGuard<CredentialClaim> {
        let mut spec = json!({"subject": subject.to_wire(), "holder": {"namespace": "one", "name": holder, "uid": holder}});
        if released {
            spec["releasedTime"] = "2026-01-02T03:04:05Z".into();
        }
        serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "CredentialClaim", "spec": spec,
            "metadata": {"name": subject.claim_name(), "uid": "c", "resourceVersion": "1"},
        }))
        .unwrap()
    }

    fn identity(
        namespace: &str,
        name: &str,
        ready: &str,
        secrets: &[&str],
    ) -> DeserializeGuard<AgentIdentity> {
        let credentials = secrets.iter().map(|secret| {
            json!({"name": secret, "type": "Secret", "reason": "r", "expirationTime": "2099-01-01T00:00:00Z",
                "secret": {"secretName": secret, "keys": ["k"], "delivery": "File"}})
        });
        let status = if ready == "AccountReady" { "True" } else { "False" };
        serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
            "metadata": {"name": name, "namespace": namespace, "uid": name},
            "spec": {"owner": "o", "credentials": credentials.collect::<Vec<_>>(),
                "serviceAccount": {"annotations": {"example.com/role": "reader"}}},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": ready, "message": "m",
                "lastTransitionTime": "2026-01-02T03:04:05Z"}]},
        }))
        .unwrap()
    }

    fn world() -> (Vec<DeserializeGuard<CredentialClaim>>, Vec<DeserializeGuard<AgentIdentity>>) {
        let torn =
            serde_json::from_value(json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "CredentialClaim",
            "metadata": {"name": "torn"}, "spec": 7}));
        let role = Subject::CloudRole { annotation: "example.com/role".into(), role: "reader".into() };
        let mut taken = claim(&secret("queue"), "a", true);
        let annotations = taken.0.as_mut().unwrap().annotations_mut();
        annotations.insert(crate::api::TAKEN_AWAY_ANNOTATION.into(), "true".into());
        let claims = vec![claim(&secret("db"), "a", false), claim(&role, "b", true), taken, torn.unwrap()];
        let identities = vec![
            identity("one", "a", "AccountReady", &["db", "queue"]),
            identity("one", "b", "HeldByAnother", &["db", "new\u{1b}"]),
            identity("two", "c", "ClaimPending", &[]),
        ];
        (claims, identities)
    }

    #[test]
    fn every_credential_has_its_line() {
        let (claims, identities) = world();
        let holdings = Holdings::new(claims, Some(identities), None);
        let expected = "\
TYPE        CREDENTIAL    HOLDER   STATE       SINCE                  WAITING
CloudRole   reader        one/b    Released    2026-01-02T03:04:05Z   one/a, one/b (HeldByAnother), two/c (ClaimPending)
Secret      one/db        one/a    Held        <none>                 one/b (HeldByAnother)
Secret      one/new\\u{1b}   <none>   Unclaimed   <none>                 one/b (HeldByAnother)
Secret      one/queue     one/a    TakenAway   2026-01-02T03:04:05Z   one/a
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&holdings.table()), squeezed(expected));
        assert_eq!(holdings.unreadable, ["torn"]);
    }

    /// Who holds a role does not wait for it, however he writes it.
    #[test]
    fn a_role_is_one_in_both_spellings() {
        let azure = "azure.workload.identity/client-id";
        let role = Subject::CloudRole { annotation: azure.into(), role: "abcd".into() };
        let mut holder = identity("one", "a", "AccountReady", &[]);
        let spec = &mut holder.0.as_mut().unwrap().spec;
        spec.service_account.as_mut().unwrap().annotations =
            serde_json::from_value(json!({ azure: "ABCD" })).unwrap();
        let holdings = Holdings::new(vec![claim(&role, "a", false)], Some(vec![holder]), None);
        assert_eq!(holdings.all.len(), 1, "{holdings:?}");
        assert_eq!(holdings.all[0].waiting, Some(vec![]));
    }

    #[test]
    fn a_namespace_sees_what_concerns_it() {
        let (claims, identities) = world();
        let holdings = Holdings::new(claims, Some(identities), Some("two"));
        let all: Vec<_> = holdings.all.iter().map(|holding| holding.subject.to_string()).collect();
        assert_eq!(all, ["role \"reader\" (example.com/role)"]);
    }

    /// Who waits is unknown where identities were not seen, and not: nobody.
    #[test]
    fn what_was_not_seen_is_unknown_and_json_has_everything() {
        let (claims, identities) = world();
        let unseen = Holdings::new(claims, None, None);
        assert!(unseen.table().contains("unknown"), "{}", unseen.table());
        assert!(unseen.all.iter().all(|holding| holding.waiting.is_none()));
        let holdings = Holdings::new(vec![claim(&secret("db"), "a", false)], Some(identities), None);
        let json: Value = serde_json::from_str(&holdings.json().unwrap()).unwrap();
        let db = json["claims"].as_array().unwrap().iter().find(|c| c["state"] == "Held").unwrap();
        assert_eq!(
            *db,
            json!({"name": secret("db").claim_name(), "state": "Held", "releasedTime": null,
                "subject": {"type": "Secret", "secret": {"namespace": "one", "name": "db"}},
                "holder": {"namespace": "one", "name": "a", "uid": "a"},
                "waiting": [{"namespace": "one", "name": "b", "reason": "HeldByAnother"}]})
        );
    }
}
