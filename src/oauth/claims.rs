//! What a delegated token says: an access token as RFC 9068 has it, with the agent as actor (RFC 8693, section 4.1;
//! draft-mcguinness-oauth-actor-profile) and, under `deputy.dev`, what it rests on.

use serde::{Deserialize, Serialize};

/// `typ` of the token (RFC 9068, section 2.1): it is taken for no other token, and no other for it.
pub const TOKEN_TYPE: &str = "at+jwt";
/// `sub_profile` of a person.
const USER: &str = "user";
/// `sub_profile` of an agent.
const AI_AGENT: &str = "ai_agent";

/// The claims. Times are seconds since 1970 (RFC 7519, NumericDate).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The broker.
    pub iss: String,
    /// The one resource it is for.
    pub aud: String,
    /// Whose rights: the user's name as the API server knows it, or the agent's on its own behalf.
    pub sub: String,
    /// What `sub` is: `user` or `ai_agent`.
    pub sub_profile: String,
    /// Who acts, if not `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// The agent, by the name of its account.
    pub client_id: String,
    /// What it may be used for.
    pub scope: String,
    /// When it was issued.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
    /// The token.
    pub jti: String,
    /// The transaction it belongs to (draft-ietf-oauth-transaction-tokens).
    pub txn: String,
    /// When the user logged in, if the issuer said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// The user's groups (RFC 9068, section 2.2.3.1), if what he may do is asked again by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// What it rests on.
    #[serde(rename = "deputy.dev")]
    pub provenance: Provenance,
}

impl Claims {
    /// `sub_profile` of a token for a user, or of one on the agent's own behalf.
    pub fn profile(is_for_user: bool) -> String {
        if is_for_user { USER } else { AI_AGENT }.to_owned()
    }
}

/// The agent that acts. Nothing but who it is belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Who names agents: the cluster's issuer of account tokens.
    pub iss: String,
    /// The agent, by the name of its account.
    pub sub: String,
    /// `ai_agent`.
    pub sub_profile: String,
}

impl Actor {
    /// The agent that `issuer` calls `account`.
    pub fn agent(issuer: &str, account: &str) -> Self {
        Self { iss: issuer.to_owned(), sub: account.to_owned(), sub_profile: AI_AGENT.to_owned() }
    }
}

/// What a token rests on: enough to judge it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The AgentIdentity.
    pub agent: AgentRef,
    /// The uid of its account: the next account of the same name is another.
    pub serviceaccount_uid: String,
    /// The pod that asked.
    pub pod: PodRef,
    /// The DelegationPolicy.
    pub policy: ObjectVersion,
    /// The ProtectedResource.
    pub resource: ObjectVersion,
    /// The TrustedIssuer. None on the agent's own behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<ObjectVersion>,
    /// What it descends from, itself last: with any of these revoked it is dead.
    pub lineage: Vec<String>,
    /// The user's rights. None on the agent's own behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
}

/// An AgentIdentity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
}

/// The user's rights: who said so, and when it was true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// `kubernetes`, `claims` or `authzen`.
    pub mode: String,
    /// When it was true, in seconds since 1970.
    pub as_of: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The example of the design, member for member.
    fn for_a_user() -> Value {
        let account = "system:serviceaccount:research:agent.researcher";
        json!({
            "iss": "https://deputy.example.com", "aud": "https://papers.example.com", "sub": "corp:alice@example.com",
            "sub_profile": "user",
            "act": {"iss": "https://oidc.prod.example.com", "sub": account, "sub_profile": "ai_agent"},
            "client_id": account, "scope": "read", "iat": 1_795_506_000, "exp": 1_795_506_300, "jti": "01JDF", "txn": "01JDE",
            "auth_time": 1_795_505_100, "groups": ["corp:readers"],
            "deputy.dev": {
                "agent": {"namespace": "research", "name": "researcher", "uid": "a"}, "serviceaccount_uid": "s",
                "pod": {"name": "researcher-0", "uid": "p"}, "policy": {"uid": "d", "generation": 3},
                "resource": {"uid": "r", "generation": 1}, "issuer": {"uid": "i", "generation": 2},
                "lineage": ["subject", "01JDF"], "rights": {"mode": "kubernetes", "as_of": 1_795_505_999},
            },
        })
    }

    #[test]
    fn claims_read_back_and_are_those_of_the_design() {
        let claims: Claims = serde_json::from_value(for_a_user()).unwrap();
        assert_eq!(serde_json::to_value(&claims).unwrap(), for_a_user());
        assert_eq!(claims.sub_profile, Claims::profile(true));
        let act = Actor::agent("https://oidc.prod.example.com", &claims.client_id);
        assert_eq!(claims.act, Some(act), "no exp, cnf or client_profile inside act");
    }

    #[test]
    fn on_its_own_behalf_an_agent_is_the_subject_and_nobody_acts() {
        let mut claims: Claims = serde_json::from_value(for_a_user()).unwrap();
        (claims.act, claims.auth_time, claims.groups) = (None, None, None);
        (claims.provenance.issuer, claims.provenance.rights) = (None, None);
        claims.sub_profile = Claims::profile(false);
        let found = serde_json::to_value(&claims).unwrap();
        assert_eq!(found["sub_profile"], "ai_agent");
        for absent in ["/act", "/auth_time", "/groups", "/deputy.dev/issuer", "/deputy.dev/rights"] {
            assert_eq!(found.pointer(absent), None, "{absent}");
        }
        assert_eq!(serde_json::from_value::<Claims>(found).unwrap(), claims);
    }
}
