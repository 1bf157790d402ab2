//! How an identity stands with what it declares. Pure.

use super::users::Users;
use crate::{
    api::{condition::reason, v1alpha1::ClaimHolder},
    index::{Claim, Identity, Subject},
};

/// How an identity stands with one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) enum Standing {
    /// It holds it.
    Held,
    /// Nobody does, and it is on its way; these pods are in the way.
    Coming(Users),
    /// Another held it last, of which these pods are left.
    Leaving(ClaimHolder, Users),
    /// Another holds it.
    HeldBy(ClaimHolder),
    /// Others of the namespace could use it all the same.
    NotEnforced,
}

/// How `identity` stands with the subject of `claim`, for which these pods are in the way.
pub(super) fn of(
    identity: &Identity,
    enforced: bool,
    claim: Option<&Claim>,
    in_the_way: Option<&Users>,
) -> Standing {
    let users = || in_the_way.cloned().unwrap_or_default();
    match claim {
        _ if !enforced => Standing::NotEnforced,
        None => Standing::Coming(users()),
        Some(claim) if claim.is_held_by(&identity.uid) => Standing::Held,
        Some(claim) if claim.released.is_none() => Standing::HeldBy(claim.holder.clone()),
        Some(claim) if claim.holder.uid == identity.uid && !claim.taken_away => Standing::Coming(users()),
        Some(claim) => Standing::Leaving(claim.holder.clone(), users()),
    }
}

/// How an identity stands with all it declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct Holdings(pub(super) Vec<(Subject, Standing)>);

/// What there is to say of an identity's holdings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct Verdict {
    /// Whether it holds all.
    pub(in crate::controller) holds: bool,
    /// The condition's reason.
    pub(in crate::controller) reason: &'static str,
    /// What is so, and what to do.
    pub(in crate::controller) message: String,
    /// Whether waiting will not help.
    pub(in crate::controller) stalled: bool,
}

impl Holdings {
    /// The roles it holds, as annotation and role.
    pub(in crate::controller) fn roles(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(subject, standing)| match (subject, standing) {
            (Subject::CloudRole { annotation, role }, Standing::Held) => {
                Some((annotation.as_str(), role.as_str()))
            }
            _ => None,
        })
    }

    /// The verdict; `None` of one that declares nothing of the kind. What a person has to change is told first.
    pub(in crate::controller) fn verdict(&self, namespace: &str) -> Option<Verdict> {
        let worst = self.0.iter().map(|(_, standing)| rank(standing)).max()?;
        let messages = self.0.iter().filter(|(_, standing)| rank(standing) == worst);
        let mut messages: Vec<_> =
            messages.map(|(subject, standing)| tell(subject, standing, namespace)).collect();
        messages.dedup();
        let (reason, stalled) = match worst {
            0 => (reason::CLAIMED, false),
            1 => (reason::CLAIM_PENDING, false),
            2 => (reason::HELD_BY_ANOTHER, true),
            _ => (reason::NAMESPACE_NOT_ENFORCED, true),
        };
        let holds = worst == 0;
        let message =
            if holds { "it holds every credential it declares".to_owned() } else { messages.join("; ") };
        Some(Verdict { holds, reason, message, stalled })
    }
}

fn rank(standing: &Standing) -> u8 {
    match standing {
        Standing::Held => 0,
        Standing::Coming(_) | Standing::Leaving(..) => 1,
        Standing::HeldBy(_) => 2,
        Standing::NotEnforced => 3,
    }
}

fn tell(subject: &Subject, standing: &Standing, namespace: &str) -> String {
    let name = |holder: &ClaimHolder| {
        let elsewhere = if holder.namespace == namespace {
            String::new()
        } else {
            format!(" of namespace {:?}", holder.namespace)
        };
        format!("AgentIdentity {:?}{elsewhere}", holder.name)
    };
    match standing {
        Standing::Held => format!("{subject} is held"),
        Standing::Coming(users) if users.is_nobody() => format!("{subject} is being claimed"),
        Standing::Coming(users) => format!("{subject} waits for other pods that use it to end: {users}"),
        Standing::Leaving(holder, users) if users.is_nobody() => {
            format!("{subject} was held by {} last, and is free once no pod of its can use it", name(holder))
        }
        Standing::Leaving(holder, users) => {
            format!("{subject} waits for pods of {} to end: {users}", name(holder))
        }
        Standing::HeldBy(holder) => {
            format!("{subject} is held by {}; declare another, or have it given up there", name(holder))
        }
        Standing::NotEnforced => format!(
            "any pod of the namespace could use what is declared; label it: kubectl label namespace {namespace} deputy.dev/enforce=agents"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Identity;

    fn identity(uid: &str) -> Identity {
        Identity {
            namespace: "ns".into(),
            name: "a".into(),
            uid: uid.into(),
            generation: 1,
            owner: "o@example.com".into(),
            image_pull_secrets: vec![],
            kubernetes_api_access: false,
            tokens: vec![],
            credentials: vec![],
            cloud_roles: vec![],
            grants: std::collections::BTreeMap::default(),
            labels: std::collections::BTreeMap::default(),
            deleting: false,
        }
    }

    fn claim(holder: &str, released: bool, taken_away: bool) -> Claim {
        Claim {
            uid: "c".into(),
            resource_version: "1".into(),
            subject: secret(),
            holder: ClaimHolder { namespace: "ns".into(), name: holder.into(), uid: holder.into() },
            released: released.then_some(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
            taken_away,
        }
    }

    fn secret() -> Subject {
        Subject::Secret { namespace: "ns".into(), name: "db".into() }
    }

    #[test]
    fn each_standing_has_its_verdict() {
        let cases = [
            (None, true, reason::CLAIM_PENDING, false, "is being claimed"),
            (Some(claim("a", false, false)), true, reason::CLAIMED, false, "holds every"),
            (
                Some(claim("a", false, false)),
                false,
                reason::NAMESPACE_NOT_ENFORCED,
                true,
                "deputy.dev/enforce=agents",
            ),
            (Some(claim("a", true, false)), true, reason::CLAIM_PENDING, false, "is being claimed"),
            (
                Some(claim("a", true, true)),
                true,
                reason::CLAIM_PENDING,
                false,
                "was held by AgentIdentity \"a\" last",
            ),
            (
                Some(claim("b", false, false)),
                true,
                reason::HELD_BY_ANOTHER,
                true,
                "held by AgentIdentity \"b\";",
            ),
            (
                Some(claim("b", true, false)),
                true,
                reason::CLAIM_PENDING,
                false,
                "was held by AgentIdentity \"b\" last",
            ),
        ];
        for (claim, enforced, reason, stalled, message) in cases {
            let standing = of(&identity("a"), enforced, claim.as_ref(), None);
            let verdict = Holdings(vec![(secret(), standing)]).verdict("ns").unwrap();
            assert_eq!((verdict.reason, verdict.stalled), (reason, stalled), "{verdict:?}");
            assert!(verdict.message.contains(message), "{verdict:?}");
            assert_eq!(verdict.holds, reason == reason::CLAIMED);
        }
        assert_eq!(Holdings::default().verdict("ns"), None);
    }

    #[test]
    fn what_a_person_must_change_is_told_first_and_a_role_only_once_held() {
        let role = |role: &str| Subject::CloudRole { annotation: "k".into(), role: role.into() };
        let other = ClaimHolder { namespace: "far".into(), name: "b".into(), uid: "b".into() };
        let holdings = Holdings(vec![
            (secret(), Standing::Coming(Users::default())),
            (role("mine"), Standing::Held),
            (role("theirs"), Standing::HeldBy(other)),
        ]);
        let verdict = holdings.verdict("ns").unwrap();
        assert_eq!(verdict.reason, reason::HELD_BY_ANOTHER);
        assert!(
            verdict
                .message
                .contains("role \"theirs\" (k) is held by AgentIdentity \"b\" of namespace \"far\""),
            "{verdict:?}"
        );
        assert_eq!(holdings.roles().collect::<Vec<_>>(), [("k", "mine")]);
    }
}
