//! The rules, a file a family. Each check looks at the facts and adds findings; none stops another.

pub(super) mod exposure;
pub(super) mod host;
pub(super) mod identity;
pub(super) mod literals;
pub(super) mod secrets;
pub(super) mod sources;
pub(super) mod tokens;
