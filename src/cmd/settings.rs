//! What the platform team widens or adds, by flags: the same for the webhook and for a scan.

use crate::{
    index::ReservedAudiences,
    policy::{KnownKinds, Settings},
};
use anyhow::Context as _;
use clap::Args;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// What is let pass that would be refused, and what is refused besides.
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
    /// A file of formats of keys that are refused besides those Deputy knows, in TOML or JSON
    #[arg(long, value_name = "FILE")]
    formats: Option<PathBuf>,
}

/// Bytes of a format file.
const MOST_FORMAT_BYTES: u64 = 1 << 20;

/// The text of a format file, bounded.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(MOST_FORMAT_BYTES + 1).read_to_string(&mut text)?;
    anyhow::ensure!(length as u64 <= MOST_FORMAT_BYTES, "it is larger than 1 MiB");
    Ok(text)
}

impl Widened {
    /// The settings of admission, without a broker.
    pub(super) fn settings(&self, reserved: ReservedAudiences) -> anyhow::Result<Settings> {
        let set = |values: &[String]| values.iter().cloned().collect();
        let mut settings = match &self.formats {
            None => Settings::builtin(reserved)?,
            Some(path) => read(path)
                .and_then(|own| Ok(Settings::with_formats(reserved, &own)?))
                .with_context(|| format!("--formats {} (chart value admission.formats)", path.display()))?,
        };
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
