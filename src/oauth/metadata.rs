//! What the broker says about itself (RFC 8414), under both well-known names: some clients ask for the one of OpenID
//! Connect alone.

use super::token_exchange::GRANT_TYPE;
use serde::Serialize;

/// The document. There is no authorization endpoint, and none is named; lists that would be empty are left out
/// (RFC 8414, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metadata {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
    grant_types_supported: [&'static str; 1],
    /// Its actor token authenticates the agent, which is no method that has a name.
    token_endpoint_auth_methods_supported: [&'static str; 1],
    /// The MCP Go SDK refuses an authorization server that does not name it, also for an exchange.
    code_challenge_methods_supported: [&'static str; 1],
    /// go-oidc takes the algorithms of all tokens from here, and RS256 if there is nothing.
    id_token_signing_alg_values_supported: Vec<String>,
}

impl Metadata {
    /// The document of `issuer`, an `https` URL without a slash at its end, whose tokens are signed by one of
    /// `algorithms` (RFC 7518 names).
    pub fn new(issuer: &str, algorithms: &[&str]) -> Self {
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: format!("{issuer}/token"),
            jwks_uri: format!("{issuer}/jwks"),
            grant_types_supported: [GRANT_TYPE],
            token_endpoint_auth_methods_supported: ["none"],
            code_challenge_methods_supported: ["S256"],
            id_token_signing_alg_values_supported: algorithms.iter().map(|name| (*name).to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clients_find_what_they_need() {
        let found =
            serde_json::to_value(Metadata::new("https://deputy.example.com", &["ES256", "RS256"])).unwrap();
        let expected = json!({
            "issuer": "https://deputy.example.com", "token_endpoint": "https://deputy.example.com/token",
            "jwks_uri": "https://deputy.example.com/jwks",
            "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "token_endpoint_auth_methods_supported": ["none"], "code_challenge_methods_supported": ["S256"],
            "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        });
        assert_eq!(found, expected);
    }
}
