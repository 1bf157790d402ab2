//! Who: the names a principal has. Plain data and parsers; no I/O.

mod account;
mod principal;
mod resource;

pub use account::{account_name, account_username, agent_of_account};
pub use principal::{InvalidTrustDomain, TrustDomain};
pub use resource::{InvalidIdentifier, ResourceIdentifier};
