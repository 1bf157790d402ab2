//! Token exchange (RFC 8693): the request, and the answer to one that is granted.

use super::{Denied, OAuthError, Reason, ScopeSet, form::Form};
use crate::identity::ResourceIdentifier;
use http::{HeaderMap, header::AUTHORIZATION};
use serde::Serialize;
use std::fmt;

/// `grant_type` of a token exchange.
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Most bytes of a token.
const TOKEN: usize = 16 * 1024;

/// A token. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl Token {
    /// What to verify.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

/// What a subject token is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectTokenType {
    /// An access token.
    AccessToken,
    /// An ID token (OpenID Connect).
    IdToken,
}

/// Who asks, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parties {
    /// An agent, for a user.
    OnBehalfOfUser {
        /// The user's.
        subject_token: Token,
        /// What that is.
        subject_token_type: SubjectTokenType,
        /// The agent's.
        actor_token: Token,
    },
    /// An agent, for itself.
    OnOwnBehalf {
        /// The agent's.
        actor_token: Token,
    },
}

/// A request to the token endpoint, well-formed. No token in it has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenExchange {
    /// Who asks, and for whom.
    pub parties: Parties,
    /// For which resource.
    pub resource: ResourceIdentifier,
    /// For which scopes.
    pub scopes: ScopeSet,
    /// The client, if it said which it is: to be held against the actor.
    pub client_id: Option<String>,
}

impl TokenExchange {
    /// Reads a request: `body`, of which the caller has seen to the media type and the size, and what matters of
    /// `headers`.
    ///
    /// # Errors
    /// With the first reason, in the order of RFC 6749's and RFC 8693's parameters: grant type, client, tokens, target,
    /// scope.
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, OAuthError> {
        let mut form = Form::parse(body)?;
        if ["subject_token", "actor_token"]
            .iter()
            .any(|name| form.get(name).is_some_and(|token| token.len() > TOKEN))
        {
            return Err(Reason::TokenTooLarge.into());
        }
        match form.get("grant_type") {
            None => return Err(Reason::GrantTypeRequired.into()),
            Some(GRANT_TYPE) => {}
            Some(_) => return Err(Reason::GrantTypeUnsupported.into()),
        }
        check_client(headers, &form)?;
        if headers.contains_key("dpop") {
            return Err(Reason::DpopUnsupported.into());
        }
        let parties = parties(&mut form)?;
        let resource = resource(&mut form)?;
        let scopes = form.take("scope").ok_or(Reason::ScopeRequired)?.parse()?;
        Ok(Self { parties, resource, scopes, client_id: form.take("client_id") })
    }
}

/// An agent is authenticated by its actor token alone. Some clients send an empty `Basic` when they have nothing to say.
fn check_client(headers: &HeaderMap, form: &Form) -> Result<(), OAuthError> {
    let is_basic = |value: &[u8]| value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"));
    let is_empty =
        |value: &[u8]| is_basic(value) && value.get(5..).unwrap_or_default().trim_ascii() == b"Og==";
    let mut credentials = headers.get_all(AUTHORIZATION).iter().map(|value| value.as_bytes());
    if let Some(used) = credentials.find(|value| !is_empty(value)) {
        return Err(OAuthError { used_basic: is_basic(used), ..Reason::ClientAuthentication.into() });
    }
    if ["client_secret", "client_assertion", "client_assertion_type"]
        .iter()
        .any(|name| form.get(name).is_some())
    {
        return Err(Reason::ClientAuthentication.into());
    }
    Ok(())
}

fn parties(form: &mut Form) -> Result<Parties, Reason> {
    let subject_token = Token(form.take("subject_token").ok_or(Reason::SubjectTokenRequired)?);
    let subject_type = form.take("subject_token_type").ok_or(Reason::SubjectTokenTypeRequired)?;
    let parties = match (form.take("actor_token"), form.take("actor_token_type")) {
        (Some(_), None) => return Err(Reason::ActorTokenTypeRequired),
        (None, Some(_)) => return Err(Reason::ActorTokenRequired),
        (Some(actor_token), Some(actor_type)) => {
            let subject_token_type = match subject_type.as_str() {
                ACCESS_TOKEN => SubjectTokenType::AccessToken,
                ID_TOKEN => SubjectTokenType::IdToken,
                _ => return Err(Reason::SubjectTokenTypeUnsupported),
            };
            if actor_type != JWT {
                return Err(Reason::ActorTokenTypeUnsupported);
            }
            Parties::OnBehalfOfUser { subject_token, subject_token_type, actor_token: Token(actor_token) }
        }
        (None, None) if subject_type == JWT => Parties::OnOwnBehalf { actor_token: subject_token },
        (None, None) => return Err(Reason::SubjectTokenTypeUnsupported),
    };
    match form.take("requested_token_type").as_deref() {
        None | Some(ACCESS_TOKEN) => Ok(parties),
        Some(_) => Err(Reason::RequestedTokenTypeUnsupported),
    }
}

fn resource(form: &mut Form) -> Result<ResourceIdentifier, Reason> {
    let identifier =
        |text: &String| text.parse::<ResourceIdentifier>().map_err(|_| Reason::ResourceMalformed);
    let (resources, audiences) = (form.take_all("resource"), form.take_all("audience"));
    let resource = match &resources[..] {
        [] => return Err(Reason::ResourceRequired),
        [resource] => identifier(resource)?,
        _ => return Err(Reason::ResourceRepeated),
    };
    match &audiences[..] {
        [] => Ok(resource),
        [audience] if identifier(audience).as_ref() == Ok(&resource) => Ok(resource),
        [_] => Err(Reason::AudienceMismatch),
        _ => Err(Reason::ResourceRepeated),
    }
}

/// The answer to a request that is granted (RFC 8693, section 2.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenResponse {
    /// The token.
    pub access_token: Token,
    /// For how many seconds it is good.
    pub expires_in: u64,
    /// What it is good for.
    pub scopes: ScopeSet,
    /// What it is not good for, though it was asked for.
    pub denied: Vec<Denied>,
    /// Where it is on record: origin and index.
    pub audit: String,
}

#[derive(Serialize)]
struct Body<'a> {
    access_token: &'a str,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    denied: &'a [Denied],
    audit: &'a str,
}

impl TokenResponse {
    /// The body of the answer, JSON.
    pub fn body(&self) -> String {
        let body = Body {
            access_token: self.access_token.as_str(),
            issued_token_type: ACCESS_TOKEN,
            token_type: "Bearer",
            expires_in: self.expires_in,
            scope: self.scopes.to_string(),
            denied: &self.denied,
            audit: &self.audit,
        };
        // There is nothing in it that JSON cannot say.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
