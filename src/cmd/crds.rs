//! `deputy crds`: the CustomResourceDefinitions, as a cluster takes them or as the chart carries them.

use crate::api::{crd, reference};
use clap::Args;

/// The CustomResourceDefinitions.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Print them as a template of the Helm chart
    #[arg(long)]
    helm: bool,
    /// Print the reference of their fields, in Markdown
    #[arg(long, conflicts_with = "helm")]
    markdown: bool,
}

/// Every definition as a YAML document, or the reference of all.
pub(super) fn text(options: &Options) -> anyhow::Result<String> {
    if options.markdown {
        return Ok(reference::markdown(&crd::all()));
    }
    let mut documents = vec![];
    for mut definition in crd::all() {
        if options.helm {
            let annotations = definition.metadata.annotations.get_or_insert_default();
            // Uninstalling Deputy must not delete people's objects with the kind.
            annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
        }
        documents.push(serde_saphyr::to_string(&definition)?);
    }
    let text = documents.join("---\n");
    if options.helm {
        // Helm would read braces in a description as its own.
        let text = text.replace("{{", "{{ \"{{\" }}");
        return Ok(format!("{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n"));
    }
    Ok(text)
}
