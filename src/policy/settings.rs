//! What the platform team may widen, by chart values; the same for every agent.

use super::formats::{FormatError, Formats};
use crate::index::ReservedAudiences;
use std::collections::BTreeSet;

/// The installation's settings for admission.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Audiences of the API server.
    pub reserved: ReservedAudiences,
    /// Audiences any agent's pod may carry a token for without declaring it: those of a service mesh's sidecars.
    pub allowed_audiences: BTreeSet<String>,
    /// CSI drivers an agent's pod may use inline.
    pub allowed_csi_drivers: BTreeSet<String>,
    /// Kinds of sources known beyond the built-in ones.
    pub known: KnownKinds,
    /// Formats of keys that are refused in clear text.
    pub formats: Formats,
    /// The broker's issuer. With one, every agent's pod gets what leads to the broker: a token for it, the CA to trust, and
    /// the environment that says where.
    pub issuer: Option<String>,
}

/// Kinds that AI212 would refuse as unknown, and which the platform team knows to carry no credential.
#[derive(Clone, Debug, Default)]
pub struct KnownKinds {
    /// Keys under `spec.volumes[*]`.
    pub volumes: BTreeSet<String>,
    /// Keys under `spec.volumes[*].projected.sources[*]`.
    pub projections: BTreeSet<String>,
    /// Keys under `env[*].valueFrom`.
    pub env_sources: BTreeSet<String>,
    /// Keys under `envFrom[*]`.
    pub env_from_sources: BTreeSet<String>,
}

impl Settings {
    /// The settings of an installation that widens nothing, with the built-in formats.
    ///
    /// # Errors
    /// When the built-in format file is broken, which a test rules out.
    pub fn builtin(reserved: ReservedAudiences) -> Result<Self, FormatError> {
        Ok(Self { reserved, formats: Formats::builtin()?, ..Self::default() })
    }

    /// The same with the formats of a file beside the built-in ones.
    ///
    /// # Errors
    /// When the file is no format file, or a format is not within bounds.
    pub fn with_formats(reserved: ReservedAudiences, own: &str) -> Result<Self, FormatError> {
        Ok(Self { reserved, formats: Formats::builtin_and(own)?, ..Self::default() })
    }
}
