//! Users' tokens: whose keys verify them, and whom they speak of.
//!
//! * **Control flow.** [`Verifier::verify`] peeks into a token, which says by whom it claims to be; the snapshot says
//!   whether that issuer is trusted; [`Issuers`] has the issuer's keys; [`Peeked::verify`] judges, and its [`VerifiedSubject`]
//!   is kept for as long as key and issuer stay what they are.
//! * **Pure and not.** `json`, `jwks`, `jws`, `subject` and `cache` decide, with the time as an argument. `issuers` and
//!   `fetch` alone reach out, and only to issuers that a snapshot has.
//! * **Default deny.** A key that is not wholly understood is no key; a claim of another shape than it should have is not
//!   there, or refuses the token.

mod cache;
mod fetch;
mod issuers;
mod json;
mod jwks;
mod jws;
mod subject;
#[cfg(test)]
mod testing;
mod verifier;

pub use issuers::{Bounds, Issuers};
pub use jwks::{InvalidKeySet, KeySet};
pub use jws::{Peeked, peek};
pub use subject::VerifiedSubject;
pub use verifier::Verifier;
