//! Whatever somebody sends: nothing panics, and nothing verifies that its issuer did not sign.

use crate::verify::{
    KeySet,
    testing::{Pair, claims, encoded, issuer, now, verify, with},
};
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;

/// A pair, its keys and a good token of it.
static GOOD: LazyLock<(Pair, KeySet, String)> = LazyLock::new(|| {
    let pair = Pair::es256();
    let (keys, token) = (pair.key_set("k"), pair.good(&claims()));
    (pair, keys, token)
});

proptest! {
    #[test]
    fn no_bytes_verify(bytes in prop::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let (_, keys, good) = &*GOOD;
        let text = String::from_utf8_lossy(&bytes);
        let (head, _) = good.split_once('.').unwrap();
        let token = if header { format!("{head}.{}.{}", encoded(&bytes), encoded(&bytes)) } else { text.into_owned() };
        prop_assert!(verify(&token, keys, &issuer()).is_err());
    }

    #[test]
    fn no_changed_token_verifies(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f, cut in any::<bool>()) {
        let (_, keys, good) = &*GOOD;
        let at = at.index(good.len());
        let mut token = good.clone().into_bytes();
        if cut {
            token.truncate(at);
        } else {
            token[at] = byte;
        }
        let token = String::from_utf8(token).unwrap();
        prop_assume!(token != *good);
        prop_assert!(verify(&token, keys, &issuer()).is_err());
    }

    #[test]
    fn no_claim_of_another_shape_panics(name in "(iss|aud|exp|iat|nbf|sub|groups|act|may_act|scope|typ|_claim_names)",
                                        value in "(null|-?[0-9]{1,25}|-?1e[0-9]{1,3}|\"[ -~&&[^\"\\\\]]{0,9}\"|\\[\\]|\\{\\}|\\[\\[1\\]\\]|true)") {
        let (pair, keys, _) = &*GOOD;
        let mut claims = with(&name, &Value::Null).to_string();
        claims = claims.replacen('{', &format!("{{\"{name}\":{value},"), 1);
        let token = pair.token(&pair.header("at+jwt").to_string(), &claims);
        if let Ok(subject) = verify(&token, keys, &issuer()) {
            prop_assert!(subject.username().starts_with("corp:") && subject.expires_at() > now());
        }
    }
}
