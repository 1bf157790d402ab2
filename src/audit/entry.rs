//! What is on record of a decision: who, for whom, what, on which resource, decided how and on which basis. There is
//! no place in it for a token, a prompt or an argument, and the user is there under a pseudonym.

use super::{LogId, MAX_ENTRY, Recovered};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// The form of the entries that this version writes.
const FORM: u32 = 1;

/// One entry of the log, written as compact JSON. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The form of the entry.
    pub v: u32,
    /// When it was decided.
    pub ts: MicroTime,
    /// What happened.
    pub kind: Kind,
    /// The transaction, `txn` in the token. The same in every entry about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Which half of the rights was missing: `agent`, `delegation` or `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half: Option<Cow<'static, str>>,
    /// Why: the stable word that the caller was told too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// For whom. None when the agent acts on its own behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What was to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The identifier (RFC 8707) of what it was to be done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The scopes that were given, or asked for if none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What the decision rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// The token that was issued or presented, by its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The `jti` of the agent's own token, by which the API server's audit log knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<String>,
    /// The username of who asked, if not the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The trace it is part of (W3C Trace Context, trace-id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Of [`Kind::LogOpened`], [`Kind::LogResumed`] and [`Kind::LogFull`]: the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Of [`Kind::LogResumed`]: how many entries were found, which is its own index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of [`Kind::LogOpened`] and [`Kind::LogResumed`]: how many bytes of a torn commit, never acknowledged, were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn_bytes: Option<u64>,
    /// Of [`Kind::Unauthenticated`]: when the first of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<MicroTime>,
    /// Of [`Kind::Unauthenticated`]: how many, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Cow<'static, str>, u64>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A log begins.
    #[serde(rename = "log.opened")]
    LogOpened,
    /// A log is gone on with: by a new process, or by one that has space again.
    #[serde(rename = "log.resumed")]
    LogResumed,
    /// There is no more space for the log, and so no more permits.
    #[serde(rename = "log.full")]
    LogFull,
    /// A token was asked for.
    #[serde(rename = "token.exchange")]
    TokenExchange,
    /// A token was issued, recorded, and not handed out: what it rested on had changed meanwhile.
    #[serde(rename = "token.withheld")]
    TokenWithheld,
    /// Somebody asked whether an agent may do something.
    #[serde(rename = "action.evaluation")]
    ActionEvaluation,
    /// A permit was recorded and not given: what it rested on had changed meanwhile.
    #[serde(rename = "action.withheld")]
    ActionWithheld,
    /// Requests of callers who could not be told were refused.
    #[serde(rename = "requests.unauthenticated")]
    Unauthenticated,
}

/// How it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Refused.
    Deny,
    /// Permitted.
    Permit,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Namespace of the identity.
    pub ns: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The uid of the pod that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// A user, to those who hold the key. See [`super::PseudonymKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Whom.
    pub pseudonym: String,
    /// By which key.
    pub kid: String,
}

/// What a decision rests on: the objects as they were, and the user's rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The DelegationPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Version>,
    /// The AgentIdentity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Version>,
    /// The ProtectedResource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Version>,
    /// The TrustedIssuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Version>,
    /// The user's rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
}

/// The user's rights: who said so, and when it was true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Who said so.
    pub mode: RightsMode,
    /// When it was true.
    pub as_of: MicroTime,
}

/// Who says what a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RightsMode {
    /// An upstream decision point.
    AuthZen,
    /// The user's own token.
    Claims,
    /// The API server (SubjectAccessReview).
    Kubernetes,
}

impl RightsMode {
    /// The word for it, in entries and elsewhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthZen => "authzen",
            Self::Claims => "claims",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// An entry that is too long for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the log has at most {MAX_ENTRY} bytes, this one has {length}")]
pub struct TooLong {
    /// How long it is, in bytes.
    pub length: usize,
}

impl Entry {
    /// An entry that says no more than what happened, and when.
    pub fn new(kind: Kind, now: Timestamp) -> Self {
        Self {
            v: FORM,
            ts: MicroTime(now),
            kind,
            id: None,
            decision: None,
            half: None,
            reason: None,
            agent: None,
            user: None,
            action: None,
            resource: None,
            scopes: vec![],
            basis: None,
            jti: None,
            credential_id: None,
            caller: None,
            trace: None,
            log: None,
            size: None,
            torn_bytes: None,
            since: None,
            counts: BTreeMap::new(),
        }
    }

    /// What comes first once a log has been found as `found` says: it begins, or is gone on with.
    pub fn opened(found: &Recovered, now: Timestamp) -> Self {
        let begins = found.entries == 0;
        let kind = if begins { Kind::LogOpened } else { Kind::LogResumed };
        Self {
            log: Some(found.log.to_string()),
            size: (!begins).then_some(found.entries),
            torn_bytes: (found.torn > 0).then_some(found.torn),
            ..Self::new(kind, now)
        }
    }

    /// The last entry of `log` before there is space again.
    pub fn full(log: LogId, now: Timestamp) -> Self {
        Self { log: Some(log.to_string()), ..Self::new(Kind::LogFull, now) }
    }

    /// What stands in the log, and what is hashed.
    ///
    /// # Errors
    /// When it is longer than [`MAX_ENTRY`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, TooLong> {
        // There is nothing in an entry that JSON cannot say; were there, it would not fit either.
        let bytes = serde_json::to_vec(self).map_err(|_| TooLong { length: 0 })?;
        if bytes.len() > MAX_ENTRY { Err(TooLong { length: bytes.len() }) } else { Ok(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn moment() -> Timestamp {
        "2026-11-24T19:30:00.000001Z".parse().unwrap()
    }

    fn exchange() -> Entry {
        let version = |uid: &str, generation| Some(Version { uid: uid.into(), generation });
        Entry {
            id: Some("txn".into()),
            decision: Some(Decision::Deny),
            half: Some("user".into()),
            reason: Some("user_half".into()),
            agent: Some(Agent {
                ns: "research".into(),
                name: "a".into(),
                uid: "u".into(),
                pod: Some("p".into()),
            }),
            user: Some(User { pseudonym: "ps".into(), kid: "k".into() }),
            action: Some("exchange".into()),
            resource: Some("https://papers.example.com".into()),
            scopes: vec!["read".into()],
            basis: Some(Basis {
                policy: version("p", 3),
                identity: version("i", 1),
                resource: version("r", 1),
                issuer: version("t", 2),
                rights: Some(Rights { mode: RightsMode::AuthZen, as_of: MicroTime(moment()) }),
            }),
            jti: Some("j".into()),
            credential_id: Some("JTI=c".into()),
            caller: Some("system:serviceaccount:papers:api".into()),
            trace: Some("t".into()),
            ..Entry::new(Kind::TokenExchange, moment())
        }
    }

    #[test]
    fn an_entry_is_compact_json_and_reads_back() {
        let entry = exchange();
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(serde_json::from_slice::<Entry>(&bytes).unwrap(), entry);
        let found: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let object = |uid: &str, generation: u8| json!({"uid": uid, "generation": generation});
        let expected = json!({
            "v": 1, "ts": "2026-11-24T19:30:00.000001Z", "kind": "token.exchange", "id": "txn", "decision": "deny",
            "half": "user", "reason": "user_half", "agent": {"ns": "research", "name": "a", "uid": "u", "pod": "p"},
            "user": {"pseudonym": "ps", "kid": "k"}, "action": "exchange", "resource": "https://papers.example.com",
            "scopes": ["read"], "basis": {"policy": object("p", 3), "identity": object("i", 1),
                "resource": object("r", 1), "issuer": object("t", 2),
                "rights": {"mode": "authzen", "as_of": "2026-11-24T19:30:00.000001Z"}},
            "jti": "j", "credential_id": "JTI=c", "caller": "system:serviceaccount:papers:api", "trace": "t",
        });
        assert_eq!(found, expected);
        assert!(!bytes.contains(&b' ') && !bytes.contains(&b'\n'));
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let opened = |entries, torn| {
            let found = Recovered { log: LogId([1; 8]), entries, length: 0, torn };
            String::from_utf8(Entry::opened(&found, moment()).to_bytes().unwrap()).unwrap()
        };
        let begin = r#"{"v":1,"ts":"2026-11-24T19:30:00.000001Z","kind":"#;
        let log = r#","log":"0101010101010101""#;
        assert_eq!(opened(0, 0), format!("{begin}\"log.opened\"{log}}}"));
        assert_eq!(opened(0, 9), format!("{begin}\"log.opened\"{log},\"torn_bytes\":9}}"));
        assert_eq!(opened(7, 0), format!("{begin}\"log.resumed\"{log},\"size\":7}}"));
        assert_eq!(opened(7, 9), format!("{begin}\"log.resumed\"{log},\"size\":7,\"torn_bytes\":9}}"));
    }

    #[test]
    fn an_entry_has_an_end() {
        let entry = Entry { trace: Some("t".repeat(MAX_ENTRY)), ..exchange() };
        let TooLong { length } = entry.to_bytes().unwrap_err();
        assert!(length > MAX_ENTRY, "{length}");
    }
}
