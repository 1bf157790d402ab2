//! Whom a user's token speaks of, and the judgement that it does.

use super::{json, jwks::KeySet, jws::Peeked};
use crate::{
    api::v1alpha1::{ScopeCeiling, UserTokenType},
    index::delegation::{AcceptedTokens, Issuer, Mapping},
    oauth::{Actor, Reason, SubjectTokenType},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt, time::Duration};

/// How far an issuer's clock may be ahead of ours. Behind it may not be: a token that has ended has ended.
const AHEAD: SignedDuration = SignedDuration::from_secs(30);
/// Most bytes of a user's or a group's name, with its prefix.
const NAME: usize = 256;
/// Most groups: each is asked about with every right.
const GROUPS: usize = 64;
/// What Kubernetes' own names begin with.
const SYSTEM: &str = "system:";
/// Characters of a lineage's name: 132 bits.
const LINEAGE: usize = 22;

type Claims = Map<String, Value>;

/// A user, as a token says that was verified. Nothing but [`Peeked::verify`] makes one. What it says is not shown.
pub struct VerifiedSubject {
    issuer_url: String,
    issuer_uid: String,
    issuer_generation: i64,
    username: String,
    groups: Vec<String>,
    ceiling: Option<BTreeSet<String>>,
    times: Times,
    auth_time: Option<Timestamp>,
    lineage_id: String,
    may_act: Option<MayAct>,
    /// The claims, as they came: to keep them read would cost several times as much.
    payload: Box<[u8]>,
}

impl fmt::Debug for VerifiedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedSubject({} of issuer {})", self.lineage_id, self.issuer_uid)
    }
}

impl VerifiedSubject {
    /// The issuer, by its URL.
    pub fn issuer_url(&self) -> &str {
        &self.issuer_url
    }

    /// Uid of the `TrustedIssuer`.
    pub fn issuer_uid(&self) -> &str {
        &self.issuer_uid
    }

    /// Generation of the `TrustedIssuer` it was verified under.
    pub fn issuer_generation(&self) -> i64 {
        self.issuer_generation
    }

    /// What the user is called here: prefix and claim. Never a name of Kubernetes' own.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// What the user's groups are called here, sorted, each once, at most 64. None of Kubernetes' own.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The token's own scopes, if they bound what may be lent.
    pub fn ceiling(&self) -> Option<&BTreeSet<String>> {
        self.ceiling.as_ref()
    }

    /// When the token was issued, in whole seconds.
    pub fn issued_at(&self) -> Timestamp {
        self.times.issued
    }

    /// When the token ends, in whole seconds.
    pub fn expires_at(&self) -> Timestamp {
        self.times.expires
    }

    /// When the user logged in, if the token says so (OpenID Connect Core, section 2).
    pub fn auth_time(&self) -> Option<Timestamp> {
        self.auth_time
    }

    /// The name under which this token, and what descends from it, can be revoked: the first 22 characters of
    /// base64url(SHA-256(`iss`, a zero byte, `jti`)). A token without `jti` is named by its signed part instead: whoever
    /// holds it can write an ECDSA signature another way, and would have it under another name.
    pub fn lineage_id(&self) -> &str {
        &self.lineage_id
    }

    /// The scopes that the token has in `claim`: a string with spaces between them, or an array of strings. None if it is
    /// not there or something else.
    pub fn scopes_in(&self, claim: &str) -> BTreeSet<String> {
        scopes(json::member(&self.payload, claim).as_ref())
    }

    /// Checks again what does not stay true: that it has not ended and is not too old for its `issuer`, and who may act.
    ///
    /// # Errors
    /// [`Reason::SubjectExpired`], [`Reason::SubjectEarly`], [`Reason::SubjectAge`], [`Reason::MayAct`].
    pub(super) fn still_stands(&self, issuer: &Issuer, actor: &Actor, now: Timestamp) -> Result<(), Reason> {
        self.times.check(issuer.max_token_age, now)?;
        MayAct::check(self.may_act.as_ref(), actor)
    }
}

impl Peeked<'_> {
    /// What its issuer says of tokens like it.
    ///
    /// # Errors
    /// [`Reason::SubjectTyp`] when such tokens do not count, or are marked otherwise.
    pub(super) fn accepted<'a>(
        &self,
        kind: SubjectTokenType,
        issuer: &'a Issuer,
    ) -> Result<&'a AcceptedTokens, Reason> {
        let kind = match kind {
            SubjectTokenType::AccessToken => UserTokenType::AccessToken,
            SubjectTokenType::IdToken => UserTokenType::IDToken,
        };
        let accepted = issuer.tokens.get(&kind);
        accepted
            .filter(|accepted| accepted.header_types.contains(&self.header_type))
            .ok_or(Reason::SubjectTyp)
    }

    /// Judges it: a token that the client calls a `kind`, of `issuer`, whose keys are `keys`, shown by `actor` at `now`.
    ///
    /// Times may have fractions (RFC 7519, section 2), which are cut off: it ends no later, and is no younger, than it
    /// says. `own_issuer` is Deputy's own `iss`.
    ///
    /// # Errors
    /// With the first reason, in this order: issuer, `typ`, key, signature, use, times, age, audience, required claims,
    /// names, groups, actors.
    pub fn verify(
        self,
        kind: SubjectTokenType,
        keys: &KeySet,
        issuer: &Issuer,
        own_issuer: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<VerifiedSubject, Reason> {
        if self.issuer != issuer.url {
            return Err(Reason::SubjectIssuer);
        }
        let accepted = self.accepted(kind, issuer)?;
        let key = keys.select(self.kid.as_deref(), self.algorithm)?;
        if !key.has_signed(self.algorithm, self.signed, self.signature) {
            return Err(Reason::SubjectSignature);
        }
        let claims = &self.claims;
        check_use(claims, kind)?;
        let times = Times::read(claims)?;
        times.check(issuer.max_token_age, now)?;
        check_audience(claims, issuer)?;
        let has = |(claim, value): (&String, &String)| claims.get(claim).is_some_and(|found| found == value);
        if !issuer.required_claims.iter().all(has) {
            return Err(Reason::SubjectClaims);
        }
        let username = username(claims, &issuer.username)?;
        let groups = issuer.groups.as_ref().map_or(Ok(vec![]), |mapping| groups(claims, mapping))?;
        if claims.contains_key("act") || self.issuer == own_issuer {
            return Err(Reason::NestedUnsupported);
        }
        let may_act = MayAct::read(claims)?;
        MayAct::check(may_act.as_ref(), actor)?;
        let is_bound = accepted.scope_ceiling == ScopeCeiling::Mapped;
        Ok(VerifiedSubject {
            issuer_url: issuer.url.clone(),
            issuer_uid: issuer.origin.uid.clone(),
            issuer_generation: issuer.origin.generation,
            username,
            groups,
            ceiling: is_bound.then(|| scopes(claims.get("scope"))),
            times,
            auth_time: claims.get("auth_time").and_then(numeric_date),
            lineage_id: lineage_id(&self),
            may_act,
            payload: self.payload.into(),
        })
    }
}

/// What its claims say a token is for. Security events (RFC 8417) have `events`, logout tokens that are not marked by `typ`
/// among them; Keycloak marks all tokens `JWT` and says in a claim which is which. A token that is bound to a key (RFC
/// 7800) would become one that is not.
fn check_use(claims: &Claims, kind: SubjectTokenType) -> Result<(), Reason> {
    let other = match kind {
        SubjectTokenType::AccessToken => "ID",
        SubjectTokenType::IdToken => "Bearer",
    };
    let is_other = |typ: &str| {
        [other, "Refresh", "Offline", "Logout"].iter().any(|refused| typ.eq_ignore_ascii_case(refused))
    };
    if claims.contains_key("events") || claims.get("typ").and_then(Value::as_str).is_some_and(is_other) {
        return Err(Reason::SubjectTyp);
    }
    if claims.contains_key("cnf") { Err(Reason::DpopUnsupported) } else { Ok(()) }
}

/// When a token counts.
struct Times {
    issued: Timestamp,
    expires: Timestamp,
    not_before: Option<Timestamp>,
}

impl Times {
    /// Both ends are required: without `exp` it never ends, and without `iat` nobody can say how old it is.
    fn read(claims: &Claims) -> Result<Self, Reason> {
        let time = |name| claims.get(name).and_then(numeric_date).ok_or(Reason::SubjectClaims);
        let (expires, issued) = (time("exp")?, time("iat")?);
        let not_before = claims.contains_key("nbf").then(|| time("nbf")).transpose()?;
        Ok(Self { issued, expires, not_before })
    }

    fn check(&self, max_age: Duration, now: Timestamp) -> Result<(), Reason> {
        let latest = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        if self.expires <= now {
            Err(Reason::SubjectExpired)
        } else if self.issued > latest || self.not_before.is_some_and(|begins| begins > latest) {
            Err(Reason::SubjectEarly)
        } else if self.issued.checked_add(max_age).is_ok_and(|end| end < now) {
            Err(Reason::SubjectAge)
        } else {
            Ok(())
        }
    }
}

/// Seconds since 1970 (RFC 7519, section 2), without their fraction. What is no time is none.
fn numeric_date(value: &Value) -> Option<Timestamp> {
    let seconds = match value.as_i64() {
        Some(seconds) => seconds,
        None => {
            let seconds = value.as_f64()?.floor();
            let is_in_range = (0.0..1e12).contains(&seconds);
            is_in_range.then_some(seconds as i64)?
        }
    };
    Timestamp::from_second(seconds).ok().filter(|time| *time >= Timestamp::UNIX_EPOCH)
}

/// RFC 7519, section 4.1.3: a string, or an array of strings. One of another shape names nobody.
fn check_audience(claims: &Claims, issuer: &Issuer) -> Result<(), Reason> {
    let named = claims.get("aud").and_then(strings).ok_or(Reason::SubjectAudience)?;
    let is_ours = named.iter().any(|audience| issuer.audiences.contains(*audience));
    if is_ours { Ok(()) } else { Err(Reason::SubjectAudience) }
}

/// A string, or an array of nothing but strings.
fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(one) => Some(vec![one]),
        Value::Array(all) => all.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn scopes(value: Option<&Value>) -> BTreeSet<String> {
    let texts = value.and_then(strings).unwrap_or_default();
    let is_array = value.is_some_and(Value::is_array);
    let words = texts.into_iter().flat_map(|text| {
        // A member of an array is one scope, whatever is in it.
        let separator = |c: char| c == ' ' && !is_array;
        text.split(separator)
    });
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn username(claims: &Claims, mapping: &Mapping) -> Result<String, Reason> {
    let is_unverified =
        mapping.claim == "email" && claims.get("email_verified").is_some_and(|verified| verified != true);
    let value = claims.get(&mapping.claim).and_then(Value::as_str).ok_or(Reason::SubjectMapping)?;
    if is_unverified { Err(Reason::SubjectMapping) } else { name(mapping, value) }
}

fn groups(claims: &Claims, mapping: &Mapping) -> Result<Vec<String>, Reason> {
    // OpenID Connect Core, section 5.6.2; Entra does so with more groups than it writes into a token.
    let is_elsewhere = claims.get("_claim_names").is_some_and(|names| {
        names
            .as_object()
            .is_none_or(|names| names.contains_key(&mapping.claim) || names.contains_key("groups"))
    });
    if is_elsewhere || claims.get("hasgroups").is_some_and(|has| has != false) {
        return Err(Reason::SubjectGroups);
    }
    let Some(value) = claims.get(&mapping.claim) else { return Ok(vec![]) };
    let listed = strings(value).filter(|all| all.len() <= GROUPS).ok_or(Reason::SubjectGroups)?;
    let names: BTreeSet<_> =
        listed.into_iter().map(|group| name(mapping, group)).collect::<Result<_, _>>()?;
    Ok(names.into_iter().collect())
}

/// A name here. The prefix was checked when the issuer was read; what they are together is checked again, because it is what
/// the API server is asked about.
fn name(mapping: &Mapping, value: &str) -> Result<String, Reason> {
    let name = format!("{}{value}", mapping.prefix);
    let is_sayable = !value.is_empty() && name.len() <= NAME && !name.contains(char::is_control);
    if is_sayable && !name.starts_with(SYSTEM) { Ok(name) } else { Err(Reason::SubjectMapping) }
}

/// Who may act for the user, if the token says so (RFC 8693, section 4.4).
struct MayAct {
    issuer: Option<String>,
    subject: String,
}

impl MayAct {
    fn read(claims: &Claims) -> Result<Option<Self>, Reason> {
        let Some(value) = claims.get("may_act") else { return Ok(None) };
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(Reason::MayAct);
        let subject = value.get("sub").map_or(Err(Reason::MayAct), text)?;
        Ok(Some(Self { issuer: value.get("iss").map(text).transpose()?, subject }))
    }

    fn check(only: Option<&Self>, actor: &Actor) -> Result<(), Reason> {
        let is_meant = |only: &Self| {
            only.subject == actor.sub && only.issuer.as_ref().is_none_or(|issuer| *issuer == actor.iss)
        };
        if only.is_none_or(is_meant) { Ok(()) } else { Err(Reason::MayAct) }
    }
}

fn lineage_id(token: &Peeked<'_>) -> String {
    let jti = token.claims.get("jti").and_then(Value::as_str).filter(|jti| !jti.is_empty());
    let named = [token.issuer.as_bytes(), &[0], jti.unwrap_or(token.signed).as_bytes()].concat();
    let mut id = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &named));
    id.truncate(LINEAGE);
    id
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
