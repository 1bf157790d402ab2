//! The broker: an agent's token and a user's in, a narrower one out (RFC 8693).
//!
//! [`mod@router`] speaks HTTP; [`exchange`] goes through one exchange step by step, and [`evaluation`] through one question
//! whether what a token was given for may be done now. They ask [`actor`] and [`caller`] who asks ([`reviews`]: the API
//! server's word), [`rights`] what the user may do, [`presented`] what one of our own tokens says, and
//! `crate::policy::exchange` what follows from that; [`mint`] says it in claims and [`record`] in an entry of the record,
//! both pure. What they share is in [`service`]. [`mod@reading`] shows the record to those who may see
//! it.

mod actor;
mod caller;
mod evaluation;
mod exchange;
mod keys;
mod mint;
mod presented;
mod question;
pub mod reading;
mod record;
mod reviews;
pub mod rights;
mod router;
mod service;

pub use keys::Keys;
pub use mint::Issuers;
pub use presented::PresentedTokens;
pub use router::router;
pub use service::{Broker, Questions};
