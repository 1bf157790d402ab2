//! What the kubectl plugin says and decides: pure functions over what was read of the cluster. The asking is
//! `crate::cmd::plugin`'s.

pub mod can_i;
mod claims;
mod failure;
mod line;
mod name;
pub mod record;
mod status;
mod switch;
mod table;

pub use claims::{Holding, Holdings};
pub use failure::{Right, explain};
pub use line::{Line, escaped, escaped_json};
pub use name::object_name;
pub use status::{Agent, Identity, Report};
pub use switch::{Switch, Target, Whose};
