//! What the conditions say of an identity's static credentials. Pure.

use super::claims::{Users, Verdict};
use crate::index::Credential;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// How long ahead the end of a credential is told.
const NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A credential that ends within the notice, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending<'a> {
    pub(super) name: &'a str,
    pub(super) secret: &'a str,
    pub(super) at: Timestamp,
    pub(super) is_over: bool,
}

/// The credentials that end within the notice or have ended.
pub(super) fn ending(credentials: &[Credential], now: Timestamp) -> impl Iterator<Item = Ending<'_>> {
    credentials.iter().filter(move |credential| credential.expiration.duration_since(now) <= NOTICE).map(
        move |credential| Ending {
            name: &credential.name,
            secret: &credential.secret,
            at: credential.expiration,
            is_over: credential.is_expired(now),
        },
    )
}

/// How long until something is to be said that is not to be said now.
pub(super) fn next_change(credentials: &[Credential], now: Timestamp) -> Option<Duration> {
    let changes = credentials.iter().flat_map(|credential| {
        let end = credential.expiration.duration_since(now);
        [end - NOTICE, end]
    });
    changes.filter(SignedDuration::is_positive).min().map(SignedDuration::unsigned_abs)
}

/// What the conditions are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Whether all that is declared is held; `None` if nothing is declared.
    pub(super) claimed: Option<Verdict>,
    /// What ends soon or has ended, and whether any has.
    pub(super) expiring: Option<(String, bool)>,
    /// How long until there is something else to say.
    pub(super) next_change: Option<Duration>,
}

impl Credentials {
    /// Of what is claimed, and what ends: with the pods that use what has ended.
    pub(super) fn new(
        claimed: Option<Verdict>,
        ends: &[(Ending<'_>, Option<Users>)],
        next_change: Option<Duration>,
    ) -> Self {
        let told = ends.iter().map(|(ending, users)| {
            let Ending { name, secret, at, is_over } = ending;
            let verb = if *is_over { "ended" } else { "ends" };
            let users = users.as_ref().filter(|users| !users.is_nobody());
            let users =
                users.map(|users| format!(", and these pods still use it: {users}")).unwrap_or_default();
            format!("credential {name:?} (Secret {secret:?}) {verb} at {at}{users}")
        });
        let told: Vec<_> = told.collect();
        let is_over = ends.iter().any(|(ending, _)| ending.is_over);
        Self { claimed, expiring: (!told.is_empty()).then(|| (told.join("; "), is_over)), next_change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Delivery;

    fn credential(name: &str, expiration: i64) -> Credential {
        Credential {
            name: name.into(),
            secret: format!("{name}-secret"),
            keys: vec!["k".into()],
            delivery: Delivery::File,
            expiration: at(expiration),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_end_is_told_a_fortnight_ahead_and_when_it_comes() {
        const DAY: i64 = 24 * 3600;
        let credentials = [credential("far", 100 * DAY), credential("near", 20 * DAY)];
        let told = |now: i64| {
            let ends: Vec<_> = ending(&credentials, at(now))
                .map(|ending| (ending.name.to_owned(), ending.is_over))
                .collect();
            (ends, next_change(&credentials, at(now)).map(|d| i64::try_from(d.as_secs()).unwrap()))
        };
        assert_eq!(told(0), (vec![], Some(6 * DAY)));
        assert_eq!(told(6 * DAY), (vec![("near".into(), false)], Some(14 * DAY)));
        assert_eq!(told(20 * DAY - 1), (vec![("near".into(), false)], Some(1)));
        assert_eq!(told(20 * DAY), (vec![("near".into(), true)], Some(66 * DAY)));
        assert_eq!(told(100 * DAY).1, None);
    }

    #[test]
    fn what_is_told_names_the_credential_and_its_end() {
        let credentials = [credential("db", 0)];
        let ends: Vec<_> =
            ending(&credentials, at(1)).map(|ending| (ending, Some(Users::default()))).collect();
        let (message, is_over) = Credentials::new(None, &ends, None).expiring.unwrap();
        assert_eq!(message, "credential \"db\" (Secret \"db-secret\") ended at 1970-01-01T00:00:00Z");
        assert!(is_over);
        assert_eq!(Credentials::new(None, &[], None), Credentials::default());
    }
}
