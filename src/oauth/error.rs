//! Refusals: what a caller is told, and how a program can tell one from another.

use super::Scope;
use http::StatusCode;
use serde::Serialize;

/// Seconds after which it is worth a try again: what fails so is over soon, or another replica answers.
const RETRY_AFTER: u32 = 1;

/// Error codes of the token endpoint, which the others use as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// This actor may not act for this subject (draft-mcguinness-oauth-actor-profile).
    ActorUnauthorized,
    /// RFC 6749, section 5.2.
    InvalidClient,
    /// RFC 6749, section 5.2; also of tokens that are not accepted (RFC 8693, section 2.2.2).
    InvalidRequest,
    /// RFC 6749, section 5.2.
    InvalidScope,
    /// RFC 8707, section 2.
    InvalidTarget,
    /// Later, perhaps (RFC 6749, section 4.1.2.1, which has it for another endpoint).
    TemporarilyUnavailable,
    /// RFC 6749, section 5.2.
    UnauthorizedClient,
    /// RFC 6749, section 5.2.
    UnsupportedGrantType,
}

/// Whose rights were missing: an action needs all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// The agent's: its grants, and the resource's consent.
    Agent,
    /// What the user lends, by policy and by the token.
    Delegation,
    /// What the user may do.
    User,
}

impl Half {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Delegation => "delegation",
            Self::User => "user",
        }
    }
}

/// A scope that was asked for and not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// The scope.
    #[serde(serialize_with = "as_text")]
    pub scope: Scope,
    /// Whose rights were missing.
    pub half: Half,
}

fn as_text<S: serde::Serializer>(scope: &Scope, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(scope.as_str())
}

macro_rules! reasons {
    ($($name:ident $word:literal $code:ident $status:ident $half:expr, $description:literal;)+) => {
        /// Why a request is refused. The words are stable: programs and the record have them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = concat!("`", $word, "`: ", $description, ".")] $name,)+
        }

        impl Reason {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The error code it comes under.
            pub fn code(self) -> ErrorCode {
                match self { $(Self::$name => ErrorCode::$code,)+ }
            }

            /// The status of the answer.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// Whose rights were missing, if it is about rights.
            pub fn half(self) -> Option<Half> {
                match self { $(Self::$name => $half,)+ }
            }

            /// What it says to people. Never what the caller sent.
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => $description,)+ }
            }
        }
    };
}

reasons! {
    // The form.
    MethodNotAllowed "method_not_allowed" InvalidRequest METHOD_NOT_ALLOWED None, "the token endpoint takes POST";
    MediaType "media_type" InvalidRequest BAD_REQUEST None, "the body must be application/x-www-form-urlencoded";
    BodyTooLarge "body_too_large" InvalidRequest PAYLOAD_TOO_LARGE None, "the body may have 32 KiB";
    FormMalformed "form_malformed" InvalidRequest BAD_REQUEST None, "the body is no form: an escape or its UTF-8 is broken, or a byte should be escaped";
    DuplicateParameter "duplicate_parameter" InvalidRequest BAD_REQUEST None, "a parameter may be sent once";
    TokenTooLarge "token_too_large" InvalidRequest BAD_REQUEST None, "a token may have 16 KiB";
    GrantTypeRequired "grant_type_required" InvalidRequest BAD_REQUEST None, "grant_type is missing: send urn:ietf:params:oauth:grant-type:token-exchange";
    GrantTypeUnsupported "grant_type_unsupported" UnsupportedGrantType BAD_REQUEST None, "the grant type is urn:ietf:params:oauth:grant-type:token-exchange and no other";
    ClientAuthentication "client_authentication" InvalidClient UNAUTHORIZED None, "an agent is authenticated by its actor_token: send no Authorization header, client_secret or client_assertion";
    DpopUnsupported "dpop_unsupported" InvalidRequest BAD_REQUEST None, "tokens are Bearer tokens: send no DPoP header, and no subject_token that is bound to a key";
    SubjectTokenRequired "subject_token_required" InvalidRequest BAD_REQUEST None, "subject_token is missing";
    SubjectTokenTypeRequired "subject_token_type_required" InvalidRequest BAD_REQUEST None, "subject_token_type is missing";
    SubjectTokenTypeUnsupported "subject_token_type_unsupported" InvalidRequest BAD_REQUEST None, "subject_token_type must be access_token or id_token beside an actor_token, and jwt without one";
    ActorTokenRequired "actor_token_required" InvalidRequest BAD_REQUEST None, "actor_token_type comes with an actor_token";
    ActorTokenTypeRequired "actor_token_type_required" InvalidRequest BAD_REQUEST None, "actor_token comes with an actor_token_type";
    ActorTokenTypeUnsupported "actor_token_type_unsupported" InvalidRequest BAD_REQUEST None, "actor_token_type must be urn:ietf:params:oauth:token-type:jwt";
    RequestedTokenTypeUnsupported "requested_token_type_unsupported" InvalidRequest BAD_REQUEST None, "requested_token_type must be urn:ietf:params:oauth:token-type:access_token, or absent";
    ResourceRequired "resource_required" InvalidTarget BAD_REQUEST None, "resource is missing: a token is for one resource";
    ResourceRepeated "resource_repeated" InvalidTarget BAD_REQUEST None, "resource and audience may be sent once: a token is for one resource";
    ResourceMalformed "resource_malformed" InvalidTarget BAD_REQUEST None, "resource must be an absolute https URI without user information and fragment, of at most 512 bytes";
    AudienceMismatch "audience_mismatch" InvalidTarget BAD_REQUEST None, "audience, if sent, must be the resource";
    ScopeRequired "scope_required" InvalidScope BAD_REQUEST None, "scope is missing: name what the token is for";
    ScopeMalformed "scope_malformed" InvalidScope BAD_REQUEST None, "scope must be at most 32 scopes of RFC 6749 between single spaces, in 1 KiB, without *";

    // The replica.
    Stale "stale" TemporarilyUnavailable SERVICE_UNAVAILABLE None, "this replica does not see the cluster as it is: try again";
    Audit "audit" TemporarilyUnavailable SERVICE_UNAVAILABLE None, "what is permitted cannot be recorded: try again";

    // The actor.
    ActorMalformed "actor_malformed" InvalidRequest BAD_REQUEST None, "actor_token is no JWT";
    ActorIssuer "actor_issuer" InvalidRequest BAD_REQUEST None, "actor_token is not of this cluster";
    ActorAudience "actor_audience" InvalidRequest BAD_REQUEST None, "actor_token must be for this broker alone";
    ActorExpired "actor_expired" InvalidRequest BAD_REQUEST None, "actor_token has expired: read its file again";
    ActorNested "actor_nested" InvalidRequest BAD_REQUEST None, "actor_token may not have an actor of its own";
    ActorTokenInvalid "actor_token_invalid" InvalidRequest BAD_REQUEST None, "the API server does not know actor_token";
    ActorUnknown "actor_unknown" TemporarilyUnavailable SERVICE_UNAVAILABLE None, "the API server could not be asked about actor_token: try again";
    ActorNotAnAgent "actor_not_an_agent" InvalidRequest BAD_REQUEST None, "actor_token is not of an agent's account";
    AgentUnknown "agent_unknown" UnauthorizedClient BAD_REQUEST Some(Half::Agent), "there is no valid AgentIdentity of this agent";
    AgentSuspended "agent_suspended" UnauthorizedClient BAD_REQUEST Some(Half::Agent), "the agent is suspended";
    ActorUnbound "actor_unbound" InvalidRequest BAD_REQUEST None, "actor_token is not bound to a pod: use the one that is projected into it";
    ActorPodGone "actor_pod_gone" InvalidRequest BAD_REQUEST None, "the pod of actor_token has ended";
    ActorAccountReplaced "actor_account_replaced" InvalidRequest BAD_REQUEST None, "the account of actor_token was replaced: read its file again";
    ClientMismatch "client_mismatch" InvalidClient UNAUTHORIZED None, "client_id, if sent, must be the agent of actor_token";

    // The subject.
    SubjectMalformed "subject_malformed" InvalidRequest BAD_REQUEST None, "subject_token is no JWT, or names a claim twice";
    SubjectAlg "subject_alg" InvalidRequest BAD_REQUEST None, "subject_token is not signed by an algorithm its issuer uses";
    SubjectHeader "subject_header" InvalidRequest BAD_REQUEST None, "subject_token has a header that may not decide anything: crit, jku, jwk or x5u";
    SubjectTyp "subject_typ" InvalidRequest BAD_REQUEST None, "the typ of subject_token is not one its issuer uses for such tokens";
    SubjectIssuer "subject_issuer" InvalidRequest BAD_REQUEST None, "the issuer of subject_token is not trusted";
    SubjectKey "subject_key" InvalidRequest BAD_REQUEST None, "the issuer of subject_token has no such key";
    SubjectSignature "subject_signature" InvalidRequest BAD_REQUEST None, "the signature of subject_token is wrong";
    SubjectExpired "subject_expired" InvalidRequest BAD_REQUEST None, "subject_token has expired";
    SubjectEarly "subject_early" InvalidRequest BAD_REQUEST None, "subject_token is from the future";
    SubjectAge "subject_age" InvalidRequest BAD_REQUEST None, "subject_token is too old: log in again";
    SubjectAudience "subject_audience" InvalidRequest BAD_REQUEST None, "subject_token is not meant for this broker";
    SubjectClaims "subject_claims" InvalidRequest BAD_REQUEST None, "subject_token lacks a claim that its issuer must give";
    SubjectMapping "subject_mapping" InvalidRequest BAD_REQUEST None, "the user of subject_token has no name here";
    SubjectGroups "subject_groups" InvalidRequest BAD_REQUEST None, "subject_token does not list the user's groups, or too many";
    NestedUnsupported "nested_unsupported" InvalidRequest BAD_REQUEST None, "subject_token has an actor already, and chains are not supported";
    MayAct "may_act" ActorUnauthorized BAD_REQUEST Some(Half::Delegation), "subject_token names another actor";
    SubjectExpiring "subject_expiring" InvalidRequest BAD_REQUEST None, "a token given would end within 30 seconds, with those it is given for";

    // The decision.
    ResourceUnknown "resource_unknown" InvalidTarget BAD_REQUEST None, "there is no such resource for this agent";
    NoDelegation "no_delegation" ActorUnauthorized BAD_REQUEST Some(Half::Delegation), "no DelegationPolicy lets this user lend this agent rights at this resource";
    AgentHalf "agent_half" InvalidScope BAD_REQUEST Some(Half::Agent), "the agent may have none of these scopes";
    DelegationHalf "delegation" InvalidScope BAD_REQUEST Some(Half::Delegation), "none of these scopes is delegated";
    UserHalf "user_half" InvalidScope BAD_REQUEST Some(Half::User), "the user may have none of these scopes";
    UserHalfUnknown "user_half_unknown" TemporarilyUnavailable SERVICE_UNAVAILABLE Some(Half::User), "nobody could say what the user may do: try again";

    // The decision endpoint.
    CallerUnauthenticated "caller_unauthenticated" InvalidClient UNAUTHORIZED None, "send a ServiceAccount's token for this broker alone as Bearer";
    CallerUnknown "caller_unknown" TemporarilyUnavailable SERVICE_UNAVAILABLE None, "the API server could not be asked about the caller: try again";
    EvaluationMalformed "evaluation_malformed" InvalidRequest BAD_REQUEST None, "the body is no evaluation request of AuthZEN 1.0 in JSON";
    CallerUnlisted "caller_unlisted" InvalidTarget BAD_REQUEST None, "the resource of the token does not list the caller with the right Decide";
    TokenRequired "token_required" InvalidRequest BAD_REQUEST None, "context.access_token is missing";
    TokenInvalid "token_invalid" InvalidRequest BAD_REQUEST None, "context.access_token is no token of this broker";
    TokenExpired "token_expired" InvalidRequest BAD_REQUEST None, "context.access_token has expired";
    SubjectMismatch "subject_mismatch" InvalidRequest BAD_REQUEST None, "the subject is not that of the token";
    ActionUnknown "action_unknown" InvalidScope BAD_REQUEST None, "it is no tool call, and no scope of the token's resource";
    InsufficientScope "insufficient_scope" InvalidScope BAD_REQUEST None, "the token lacks a scope that the action takes, which an exchange may give";
    ToolUnlisted "tool_unlisted" InvalidScope BAD_REQUEST Some(Half::Agent), "the resource does not list the tool";
    ToolNotLent "tool_not_lent" InvalidScope BAD_REQUEST Some(Half::Delegation), "the policy that the token rests on does not list the tool";
}

/// A refusal by an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthError {
    /// Why.
    pub reason: Reason,
    /// Scopes that were asked for and whose rights they lacked.
    pub denied: Vec<Denied>,
    /// Whether the caller sent an `Authorization` header of scheme `Basic`.
    pub used_basic: bool,
    /// What exactly is wrong, where the reason's own text leaves it open. Never what the caller sent.
    pub detail: Option<&'static str>,
}

impl From<Reason> for OAuthError {
    fn from(reason: Reason) -> Self {
        Self { reason, denied: vec![], used_basic: false, detail: None }
    }
}

/// RFC 6749, section 5.2, and what we add to it.
#[derive(Serialize)]
struct Body<'a> {
    error: ErrorCode,
    error_description: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    half: Option<Half>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    denied: &'a [Denied],
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a str>,
}

impl OAuthError {
    /// The body of the answer, JSON. `audit` is where the refusal is on record.
    pub fn body(&self, audit: Option<&str>) -> String {
        let Self { reason, denied, detail, .. } = self;
        let (error, error_description) = (reason.code(), detail.unwrap_or(reason.description()));
        let half = reason.half();
        let body = Body { error, error_description, reason: reason.as_str(), half, denied, audit };
        // There is nothing in it that JSON cannot say.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The `Retry-After` header, in seconds, which goes with 503.
    pub fn retry_after(&self) -> Option<u32> {
        (self.reason.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER)
    }

    /// The `WWW-Authenticate` header, which goes with 401. Clients that used `Basic` are owed that scheme (RFC 6749,
    /// section 5.2).
    pub fn challenge(&self) -> Option<&'static str> {
        let scheme = if self.used_basic { "Basic realm=\"deputy\"" } else { "Bearer realm=\"deputy\"" };
        (self.reason.status() == StatusCode::UNAUTHORIZED).then_some(scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::HashSet;

    #[test]
    fn every_reason_can_be_told_from_every_other_and_said() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let (word, text) = (reason.as_str(), reason.description());
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
            let sayable = |byte: u8| (0x20..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
            assert!(!text.is_empty() && text.bytes().all(sayable), "{word}: RFC 6749, section 5.2");
        }
    }

    #[test]
    fn codes_and_statuses_agree() {
        for reason in Reason::ALL {
            let expected = match (reason.code(), reason) {
                (ErrorCode::InvalidClient, _) => 401,
                (ErrorCode::TemporarilyUnavailable, _) => 503,
                (_, Reason::BodyTooLarge) => 413,
                (_, Reason::MethodNotAllowed) => 405,
                _ => 400,
            };
            assert_eq!(reason.status().as_u16(), expected, "{reason:?}");
        }
    }

    #[test]
    fn a_body_says_all_there_is_to_say_and_no_more() {
        let plain = OAuthError::from(Reason::Stale);
        let expected = json!({
            "error": "temporarily_unavailable", "reason": "stale", "error_description": Reason::Stale.description(),
        });
        assert_eq!(serde_json::from_str::<Value>(&plain.body(None)).unwrap(), expected);
        let denied = vec![Denied { scope: "read".parse().unwrap(), half: Half::User }];
        let full = OAuthError { denied, ..Reason::UserHalf.into() };
        let expected = json!({
            "error": "invalid_scope", "reason": "user_half", "error_description": Reason::UserHalf.description(),
            "half": "user", "denied": [{"scope": "read", "half": "user"}], "audit": "origin#7",
        });
        assert_eq!(serde_json::from_str::<Value>(&full.body(Some("origin#7"))).unwrap(), expected);
    }

    #[test]
    fn the_headers_go_with_the_status() {
        assert_eq!(OAuthError::from(Reason::Audit).retry_after(), Some(1));
        assert_eq!(OAuthError::from(Reason::ScopeRequired).retry_after(), None);
        let error = OAuthError::from(Reason::ClientAuthentication);
        assert_eq!(error.challenge(), Some("Bearer realm=\"deputy\""));
        assert_eq!(OAuthError { used_basic: true, ..error }.challenge(), Some("Basic realm=\"deputy\""));
        assert_eq!(OAuthError::from(Reason::Stale).challenge(), None);
    }
}
