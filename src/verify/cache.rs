//! Subjects that were verified, so that the same token is not verified again while nothing has changed.

use super::{
    jwks::{Algorithm, KeyId},
    subject::VerifiedSubject,
};
use crate::{index::delegation::Issuer, oauth::SubjectTokenType};
use aws_lc_rs::digest::{Context, SHA256};
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// Most subjects: with tokens of ordinary size some 25 MB, and never more than 300.
const SUBJECTS: usize = 10_000;

/// A token, and what the client calls it, by a hash over both: tokens themselves are not kept.
pub(super) type TokenId = [u8; 32];

/// By what `token` is found again.
pub(super) fn token_id(token: &str, kind: SubjectTokenType) -> TokenId {
    let mut context = Context::new(&SHA256);
    context.update(match kind {
        SubjectTokenType::AccessToken => b"access_token ",
        SubjectTokenType::IdToken => b"id_token ",
    });
    context.update(token.as_bytes());
    let mut id = TokenId::default();
    id.copy_from_slice(context.finish().as_ref());
    id
}

/// Whom a token was found to speak of, and what that rests on.
pub(super) struct Known {
    /// The name of the key that it was verified with, as the token has it.
    pub kid: Option<String>,
    /// What it was verified by.
    pub algorithm: Algorithm,
    /// The key.
    pub key: KeyId,
    /// Whom it speaks of.
    pub subject: Arc<VerifiedSubject>,
}

impl Known {
    /// Whether it rests on this `key` and this version of `issuer`. Time and actor are to be judged again.
    pub(super) fn rests_on(&self, key: &KeyId, issuer: &Issuer) -> bool {
        let origin = &issuer.origin;
        self.key == *key
            && self.subject.issuer_uid() == origin.uid
            && self.subject.issuer_generation() == origin.generation
    }
}

/// Two halves: what is used stays in the young one, and when that is full it becomes the old one, whose rest goes.
#[derive(Default)]
struct Halves {
    young: HashMap<TokenId, Arc<Known>>,
    old: HashMap<TokenId, Arc<Known>>,
}

/// The subjects that were verified. Those alone: nobody fills it without as many good tokens.
pub(super) struct Cache {
    halves: Mutex<Halves>,
    half: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self::of(SUBJECTS)
    }
}

impl Cache {
    /// One that holds `subjects`.
    fn of(subjects: usize) -> Self {
        Self { halves: Mutex::default(), half: subjects / 2 }
    }

    /// What was found of a token.
    pub(super) fn get(&self, id: &TokenId) -> Option<Arc<Known>> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = halves.young.get(id) {
            return Some(Arc::clone(known));
        }
        let known = halves.old.remove(id)?;
        self.insert(&mut halves, *id, Arc::clone(&known));
        Some(known)
    }

    /// This was found of a token.
    pub(super) fn put(&self, id: TokenId, known: Known) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut halves, id, Arc::new(known));
    }

    fn insert(&self, halves: &mut Halves, id: TokenId, known: Arc<Known>) {
        if halves.young.len() >= self.half {
            halves.old = mem::take(&mut halves.young);
        }
        halves.young.insert(id, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{self, Pair};

    fn known(subject: &Arc<VerifiedSubject>) -> Known {
        let (kid, algorithm, subject) = (Some("k".to_owned()), Algorithm::Es256, Arc::clone(subject));
        Known { kid, algorithm, key: [1; 32], subject }
    }

    fn ids(count: u8) -> impl Iterator<Item = TokenId> {
        (0..count).map(|n| [n; 32])
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let (cache, issuer) = (Cache::of(20), testing::issuer());
        let subject = testing::subject(&Pair::es256(), &issuer);
        for id in ids(200) {
            cache.put(id, known(&subject));
            assert!(cache.get(&[0; 32]).is_some(), "used all along");
        }
        let held = ids(200).filter(|id| cache.get(id).is_some()).count();
        assert!((10..=20).contains(&held), "{held}");
    }

    #[test]
    fn an_entry_counts_for_one_key_one_kind_and_one_version_of_the_issuer() {
        let (cache, issuer) = (Cache::of(20), testing::issuer());
        let id = token_id("a.b.c", SubjectTokenType::AccessToken);
        assert_ne!(id, token_id("a.b.c", SubjectTokenType::IdToken));
        cache.put(id, known(&testing::subject(&Pair::es256(), &issuer)));
        let known = cache.get(&id).unwrap();
        assert!(known.rests_on(&[1; 32], &issuer));
        assert!(!known.rests_on(&[2; 32], &issuer), "another key of that name");
        let mut newer = issuer.clone();
        newer.origin.generation += 1;
        assert!(!known.rests_on(&[1; 32], &newer));
        let mut other = issuer;
        other.origin.uid = "other".into();
        assert!(!known.rests_on(&[1; 32], &other));
    }
}
