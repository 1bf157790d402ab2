//! The API server's own audiences and issuer, read from the token Kubernetes mounts into our pod.
//!
//! No API of Kubernetes tells them. Our own default token was issued for exactly them, so its `aud` claim is the
//! truth, whatever flags the API server was started with.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fs, io, path::Path};

/// Where Kubernetes mounts a pod's default token.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Why the audiences are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no token to read.
    #[error(
        "cannot read {path}; the pod needs its ServiceAccount token mounted (automountServiceAccountToken: true), or give --api-audience"
    )]
    NoToken {
        /// Where it should be.
        path: String,
        /// What the file system says.
        source: io::Error,
    },
    /// The file holds no token that says who issued it.
    #[error("{path} holds no JSON Web Token with an issuer")]
    NoIssuer {
        /// Where it is.
        path: String,
    },
    /// The file holds no token of the expected form.
    #[error("{path} holds no JSON Web Token with audiences; give --api-audience")]
    NoAudience {
        /// Where it is.
        path: String,
    },
}

/// Reads the audiences of the token at `path`.
///
/// # Errors
/// When there is no token, or none with audiences.
pub fn read(path: &Path) -> Result<Vec<String>, Error> {
    parse(&token(path)?).ok_or_else(|| Error::NoAudience { path: path.display().to_string() })
}

/// The cluster's issuer of ServiceAccount tokens: the `iss` claim of the token at `path`.
///
/// # Errors
/// When there is no token, or none with an issuer.
pub fn issuer(path: &Path) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    let claims = claims::<Claims>(&token(path)?);
    claims.map(|claims| claims.iss).ok_or_else(|| Error::NoIssuer { path: path.display().to_string() })
}

fn token(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::NoToken { path: path.display().to_string(), source })
}

/// Claims of a token, unverified: the token is our own.
fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// The `aud` claim of a token.
fn parse(token: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Deserialize)]
    struct Claims {
        aud: Audience,
    }
    let audiences = match claims::<Claims>(token)?.aud {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    };
    (!audiences.is_empty() && audiences.iter().all(|a| !a.is_empty())).then_some(audiences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("h.{}.s\n", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn audiences_are_a_list_or_one() {
        assert_eq!(parse(&token(r#"{"aud":["a","b"],"exp":1}"#)).unwrap(), ["a", "b"]);
        assert_eq!(parse(&token(r#"{"aud":"a"}"#)).unwrap(), ["a"]);
    }

    #[test]
    fn anything_else_is_no_answer() {
        for bad in [r#"{"aud":[]}"#, r#"{"aud":""}"#, r#"{"sub":"x"}"#, "no json"] {
            assert_eq!(parse(&token(bad)), None, "{bad}");
        }
        for bad in ["", "a", "a.!!.c"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_missing_token_says_what_to_do() {
        let error = read(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("automountServiceAccountToken: true"), "{error}");
    }
}
