//! A token's form (RFC 7515, RFC 7519) and what its header may say, before anybody is believed.

use super::{json, jwks::Algorithm, jwks::KID};
use crate::{
    api::v1alpha1::TokenHeaderType,
    index::delegation::{Delegation, Issuer},
    oauth::Reason,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// Most bytes of a token.
const BYTES: usize = 16 * 1024;
/// Members of a header that would have us do something else than we do, or with another key than the issuer's (RFC 7515,
/// section 4.1; RFC 7797).
const FORBIDDEN: [&str; 6] = ["crit", "jku", "jwk", "x5u", "x5c", "b64"];

/// A token that has been looked at and not been believed. What it says is not shown.
pub struct Peeked<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) header_type: TokenHeaderType,
    pub(super) issuer: String,
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The claims as they came.
    pub(super) payload: Vec<u8>,
    /// Header and payload, as they are signed.
    pub(super) signed: &'t str,
    pub(super) signature: &'t str,
}

impl fmt::Debug for Peeked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peeked({:?}, {} bytes)", self.algorithm, self.signed.len())
    }
}

/// Looks into `token`: whose it claims to be, and which key it claims to be signed with.
///
/// # Errors
/// With the first reason: size, form of the header, `alg`, forbidden members of the header, `typ`, form of the payload,
/// `iss`, `kid`.
pub fn peek(token: &str) -> Result<Peeked<'_>, Reason> {
    if token.len() > BYTES {
        return Err(Reason::TokenTooLarge);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Reason::SubjectMalformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Reason::SubjectMalformed)?;
    let (header, _) = part(header)?;
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::named);
    let algorithm = algorithm.ok_or(Reason::SubjectAlg)?;
    if FORBIDDEN.iter().any(|member| header.contains_key(*member)) {
        return Err(Reason::SubjectHeader);
    }
    let header_type = header_type(header.get("typ"))?;
    let (claims, payload) = part(payload)?;
    let issuer = claims.get("iss").and_then(Value::as_str).ok_or(Reason::SubjectIssuer)?.to_owned();
    let kid = match header.get("kid") {
        None => None,
        Some(kid) => {
            let kid = kid.as_str().filter(|kid| kid.len() <= KID && !kid.contains(char::is_control));
            Some(kid.ok_or(Reason::SubjectKey)?.to_owned())
        }
    };
    Ok(Peeked { algorithm, header_type, issuer, kid, claims, payload, signed, signature })
}

fn part(encoded: &str) -> Result<(Map<String, Value>, Vec<u8>), Reason> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Reason::SubjectMalformed)?;
    let object = json::object(&bytes).ok_or(Reason::SubjectMalformed)?;
    Ok((object, bytes))
}

/// RFC 7515, section 4.1.9: a media type, whose `application/` may be left out. The list is closed: a logout token
/// (`logout+jwt`) or a security event (`secevent+jwt`) says nothing of who somebody is.
fn header_type(typ: Option<&Value>) -> Result<TokenHeaderType, Reason> {
    let Some(typ) = typ else { return Ok(TokenHeaderType::Absent) };
    let lower = typ.as_str().ok_or(Reason::SubjectTyp)?.to_ascii_lowercase();
    match lower.strip_prefix("application/").unwrap_or(&lower) {
        "jwt" => Ok(TokenHeaderType::Jwt),
        "at+jwt" => Ok(TokenHeaderType::AtJwt),
        _ => Err(Reason::SubjectTyp),
    }
}

impl Peeked<'_> {
    /// The issuer it claims to be of, if that is one that counts: nobody else's keys are even asked for.
    ///
    /// # Errors
    /// [`Reason::NestedUnsupported`] for a token of our own, [`Reason::SubjectIssuer`] for one of a stranger.
    pub fn trusted<'a>(
        &self,
        delegation: &'a Delegation,
        own_issuer: &str,
    ) -> Result<&'a Arc<Issuer>, Reason> {
        if self.issuer == own_issuer {
            return Err(Reason::NestedUnsupported);
        }
        delegation.issuer(&self.issuer).ok_or(Reason::SubjectIssuer)
    }

    /// The name of the key it claims to be signed with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}
