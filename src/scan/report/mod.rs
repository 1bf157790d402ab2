//! A report as text: for people, for scripts, for code hosts.

mod json;
mod sarif;
mod table;

pub use json::json;
pub use sarif::sarif;
pub use table::table;
