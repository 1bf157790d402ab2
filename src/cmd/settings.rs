//! What the platform team widens, by flags: the same for the webhook and for a scan.

use crate::{
    index::ReservedAudiences,
    policy::{FormatError, KnownKinds, Settings},
};
use clap::Args;

/// What is let pass that would be refused.
#[derive(Args, Debug)]
pub(super) struct Widened {
    /// An audience agents' pods may have tokens for without declaring it, such as a service mesh's
    #[arg(long = "allowed-audience", value_name = "AUDIENCE")]
    pub(super) allowed_audiences: Vec<String>,
    /// A CSI driver agents' pods may use inline
    #[arg(long = "allowed-csi-driver", value_name = "DRIVER")]
    allowed_csi_drivers: Vec<String>,
    /// A volume kind to accept although this version does not know it
    #[arg(long = "known-volume-kind", value_name = "KIND")]
    known_volumes: Vec<String>,
    /// A projected source to accept although this version does not know it
    #[arg(long = "known-projection-kind", value_name = "KIND")]
    known_projections: Vec<String>,
    /// A key of valueFrom to accept although this version does not know it
    #[arg(long = "known-env-source", value_name = "KIND")]
    known_env_sources: Vec<String>,
    /// A key of envFrom to accept although this version does not know it
    #[arg(long = "known-env-from-source", value_name = "KIND")]
    known_env_from_sources: Vec<String>,
}

impl Widened {
    /// The settings of admission, without a broker.
    pub(super) fn settings(&self, reserved: ReservedAudiences) -> Result<Settings, FormatError> {
        let set = |values: &[String]| values.iter().cloned().collect();
        let mut settings = Settings::builtin(reserved)?;
        settings.allowed_audiences = set(&self.allowed_audiences);
        settings.allowed_csi_drivers = set(&self.allowed_csi_drivers);
        settings.known = KnownKinds {
            volumes: set(&self.known_volumes),
            projections: set(&self.known_projections),
            env_sources: set(&self.known_env_sources),
            env_from_sources: set(&self.known_env_from_sources),
        };
        Ok(settings)
    }
}
