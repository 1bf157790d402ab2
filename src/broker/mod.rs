//! The broker: an agent's token and a user's in, a narrower one out (RFC 8693).
//!
//! [`mod@router`] speaks HTTP; [`exchange`] goes through one exchange step by step. It asks [`actor`] who asks, [`rights`] what
//! the user may do, and `crate::policy::exchange` what follows from that; [`mint`] says it in claims and [`record`] in an
//! entry of the record, both pure.

pub mod actor;
mod exchange;
mod keys;
mod mint;
mod record;
pub mod rights;
mod router;

pub use exchange::Broker;
pub use keys::Keys;
pub use mint::Issuers;
pub use router::router;
