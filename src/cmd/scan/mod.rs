//! `deputy scan`: manifests in, a report out.

mod files;

use super::{print, settings::Widened};
use crate::{
    index::Declarable,
    plugin::escaped,
    runtime::clock,
    scan::{self, Inputs, Report, Unread, World, report},
};
use clap::{Args, ValueEnum};
use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

/// Manifests, judged as the webhook would judge them.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// A file, a directory with all below it, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Take every pod for an agent's whose identity exists and declares nothing
    #[arg(long)]
    assume_agents: bool,
    /// An audience of the API server
    #[arg(
        long = "api-audience",
        value_name = "AUDIENCE",
        default_value = "https://kubernetes.default.svc.cluster.local"
    )]
    api_audiences: Vec<String>,
    /// An annotation by which an identity's account may be mapped to a role of a cloud
    #[arg(
        long = "cloud-role-annotation",
        value_name = "KEY",
        default_values = [
            "azure.workload.identity/client-id",
            "eks.amazonaws.com/role-arn",
            "iam.gke.io/gcp-service-account",
        ]
    )]
    cloud_role_annotations: Vec<String>,
    #[command(flatten)]
    widened: Widened,
    /// What makes the exit code 1
    #[arg(long, value_enum, default_value_t = FailOn::Deny)]
    fail_on: FailOn,
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What makes a scan fail.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    /// Something would be refused
    Deny,
    /// Something would be refused, or warned of
    Warn,
    /// Nothing that is found
    Never,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For scripts
    Json,
    /// For code hosts: SARIF 2.1.0
    Sarif,
}

/// Scans, prints, and says how the process should end: 2 if something of the input could not be read, 1 if something fails, 0
/// otherwise.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let report = options.scan()?;
    let mut err = io::stderr();
    for (source, Unread { line, message }) in &report.unread {
        let at = line.map_or_else(String::new, |line| format!(":{line}"));
        // Standard error may be closed.
        _ = writeln!(err, "{}{at}: {}", escaped(source), escaped(message));
    }
    print(&match options.output {
        Output::Table => report::table(&report, io::stdout().is_terminal()),
        Output::Json => report::json(&report),
        Output::Sarif => report::sarif(&report),
    })?;
    Ok(ExitCode::from(options.code(&report)))
}

impl Options {
    fn scan(&self) -> anyhow::Result<Report> {
        let reserved: crate::index::ReservedAudiences = self.api_audiences.iter().cloned().collect();
        let declarable = Declarable {
            reserved: reserved.clone(),
            cloud_role_annotations: Arc::new(self.cloud_role_annotations.iter().cloned().collect()),
            issuer: None,
        };
        let options = scan::Options {
            settings: self.widened.settings(reserved)?,
            declarable,
            namespace: self.namespace.clone(),
            assume_agents: self.assume_agents,
            now: clock::now(),
        };
        let (mut inputs, mut unread) = (Inputs::default(), vec![]);
        for path in &self.files {
            files::visit(path, &mut |source| {
                let name: Arc<str> = source.name.into();
                let contents = match source.content {
                    Ok(bytes) => scan::read(&bytes, source.of_chart),
                    Err(error) => return unread.push((name, error)),
                };
                inputs.add(&name, contents.documents);
                unread.extend(contents.unread.into_iter().map(|error| (Arc::clone(&name), error)));
            });
        }
        let mut report = World::new(inputs, options).judge();
        unread.append(&mut report.unread);
        Ok(Report { unread, ..report })
    }

    fn code(&self, report: &Report) -> u8 {
        let fails = match self.fail_on {
            FailOn::Deny => report.denied() > 0,
            FailOn::Warn => report.denied() + report.warned() > 0,
            FailOn::Never => false,
        };
        if report.unread.is_empty() { u8::from(fails) } else { 2 }
    }
}
