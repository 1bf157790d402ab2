//! Subjects that were verified, so that the same token is not verified again while nothing has changed.

use super::{jwks::KeyId, subject::VerifiedSubject};
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

struct Entry {
    /// The key it was verified with.
    key: KeyId,
    subject: Arc<VerifiedSubject>,
}

/// Two halves: what is used stays in the young one, and when that is full it becomes the old one, whose rest goes.
#[derive(Default)]
struct Halves {
    young: HashMap<TokenId, Entry>,
    old: HashMap<TokenId, Entry>,
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

    /// Whom a token was found to speak of, if that was by this `key`, under this version of `issuer`. Time and actor are to
    /// be judged again.
    pub(super) fn get(&self, id: &TokenId, key: &KeyId, issuer: &Issuer) -> Option<Arc<VerifiedSubject>> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match halves.young.get(id) {
            Some(entry) => entry,
            None => {
                let entry = halves.old.remove(id)?;
                self.insert(&mut halves, *id, entry);
                halves.young.get(id)?
            }
        };
        let origin = &issuer.origin;
        let is_same = entry.key == *key
            && entry.subject.issuer_uid() == origin.uid
            && entry.subject.issuer_generation() == origin.generation;
        is_same.then(|| Arc::clone(&entry.subject))
    }

    /// A token was found to speak of `subject`, by `key`.
    pub(super) fn put(&self, id: TokenId, key: KeyId, subject: Arc<VerifiedSubject>) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut halves, id, Entry { key, subject });
    }

    fn insert(&self, halves: &mut Halves, id: TokenId, entry: Entry) {
        if halves.young.len() >= self.half {
            halves.old = mem::take(&mut halves.young);
        }
        halves.young.insert(id, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::{self, Pair};

    fn ids(count: u8) -> impl Iterator<Item = TokenId> {
        (0..count).map(|n| [n; 32])
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let (cache, issuer) = (Cache::of(20), testing::issuer());
        let subject = testing::subject(&Pair::es256(), &issuer);
        for id in ids(200) {
            cache.put(id, [1; 32], Arc::clone(&subject));
            assert!(cache.get(&[0; 32], &[1; 32], &issuer).is_some(), "used all along");
        }
        let held = ids(200).filter(|id| cache.get(id, &[1; 32], &issuer).is_some()).count();
        assert!((10..=20).contains(&held), "{held}");
    }

    #[test]
    fn an_entry_counts_for_one_key_one_kind_and_one_version_of_the_issuer() {
        let (cache, issuer) = (Cache::of(20), testing::issuer());
        let id = token_id("a.b.c", SubjectTokenType::AccessToken);
        assert_ne!(id, token_id("a.b.c", SubjectTokenType::IdToken));
        cache.put(id, [1; 32], testing::subject(&Pair::es256(), &issuer));
        assert!(cache.get(&id, &[1; 32], &issuer).is_some());
        assert!(cache.get(&id, &[2; 32], &issuer).is_none(), "another key of that name");
        let mut newer = issuer.clone();
        newer.origin.generation += 1;
        assert!(cache.get(&id, &[1; 32], &newer).is_none());
        let mut other = issuer;
        other.origin.uid = "other".into();
        assert!(cache.get(&id, &[1; 32], &other).is_none());
    }
}
