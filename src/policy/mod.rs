//! The decisions of admission: what a pod of an agent must look like, and how it gets there.
//!
//! * **Who asks for what.** A pod names an agent by label (`deputy.dev/agent`) or by account (`agent.<name>`). The
//!   agent's [`Identity`](crate::index::Identity) says which tokens it may have. Everything else that is a credential
//!   is refused.
//! * **Control flow.** [`mutate()`] makes label, account and tokens of a pod agree with its identity, or refuses.
//!   [`admit()`] then judges the pod as it stands, whoever wrote it: first the bytes become [`facts::PodFacts`], then
//!   one check per family of rules adds its findings, and all of them are reported together.
//! * **Templates.** [`admit_template()`] is the two in a row on the pod that a workload's template leads to.
//! * **Exceptions.** What the platform team lets pass, at one container or volume by name and until its end, is taken from
//!   the findings last, and named in the answer.
//! * **Default deny.** A pod's identity must be known, valid and own its account. A volume kind, projection or
//!   environment source that this version does not know is refused: it may be a credential.
//! * **Pure.** Raw JSON and one snapshot in, values out: no clock, no I/O. `serde_json::Value` and not typed pods,
//!   because typed decoding silently drops what a newer Kubernetes added, a new credential source included.
//!
//! What an agent may be given at other services is another question, and [`exchange`]'s.
//!
//! Each rule stands in one table ([`rules`]), from which messages, `deputy rules` and `docs/rules.md` are made.

mod admit;
mod checks;
mod declared;
mod exceptions;
pub mod exchange;
pub mod facts;
mod finding;
mod formats;
mod managed;
mod mount_path;
mod mutate;
mod node;
mod rule;
mod settings;
mod template;
mod walk;

pub use admit::{Admission, Subject, admit};
pub use declared::{contested, invalid_identity};
pub use exceptions::Used;
pub use finding::{Action, Finding, Place, Target};
pub use formats::{FormatError, Formats};
pub use mutate::{Mutation, mutate};
pub use node::Malformed;
pub use rule::{Engine, Exceptable, Rule, Severity, rules};
pub use settings::{KnownKinds, Settings};
pub use template::{Template, admit_foreign_template, admit_template};
