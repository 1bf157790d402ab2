//! Deputy's own tokens: the keys that sign them, and the signature. Pure: time and randomness come in.

mod keyset;
mod signer;

pub use keyset::{Algorithm, KeySet, Life, Next, SIGNING_KEYS_ENTRY, SigningKey, SigningKeyError};
pub use signer::{Published, Signer};
