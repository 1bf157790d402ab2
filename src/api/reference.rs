//! The reference of the API, for people: each kind with every field, its bounds and what it means, from the definitions
//! themselves.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use std::fmt::Write as _;

/// The page: Markdown.
pub fn markdown(definitions: &[CustomResourceDefinition]) -> String {
    let mut page = String::from(
        "# API\n\nMade from the definitions in `crds/` by `make generate`. Every kind is of the group `deputy.dev`, version \
         `v1alpha1`, and of the category `deputy` (`kubectl get deputy`).\n\n| kind | short | scope |\n|---|---|---|\n",
    );
    for definition in definitions {
        let names = &definition.spec.names;
        let short = names.short_names.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let kind = &names.kind;
        // Writing to a string does not fail, here and below.
        _ = writeln!(page, "| [{kind}](#{}) | {short} | {} |", kind.to_lowercase(), definition.spec.scope);
    }
    for definition in definitions {
        section(definition, &mut page);
    }
    page
}

fn section(definition: &CustomResourceDefinition, page: &mut String) {
    let version = definition.spec.versions.first();
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let Some(schema) = schema else { return };
    let described = schema.properties.as_ref().and_then(|all| all.get("spec")?.description.as_deref());
    let description = described.or(schema.description.as_deref()).unwrap_or_default();
    _ = write!(page, "\n## {}\n\n{}\n", definition.spec.names.kind, prose(description));
    for part in ["spec", "status"] {
        let Some(of) = schema.properties.as_ref().and_then(|all| all.get(part)) else { continue };
        let mut rows = String::new();
        fields(of, part, &mut rows);
        if !rows.is_empty() {
            _ = write!(page, "\n| field | type | meaning |\n|---|---|---|\n{rows}");
        }
        let rules = of.x_kubernetes_validations.iter().flatten().filter_map(|rule| rule.message.as_ref());
        for (n, message) in rules.enumerate() {
            _ = writeln!(page, "{}* {}", if n == 0 { "\n" } else { "" }, cell(message));
        }
    }
}

fn fields(schema: &JSONSchemaProps, at: &str, rows: &mut String) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{at}.{name}");
        let needed = if required.contains(name) { ", required" } else { "" };
        let meaning = cell(field.description.as_deref().unwrap_or_default());
        _ = writeln!(rows, "| `{path}` | {}{needed} | {meaning} |", kind(field));
        // Conditions are Kubernetes' own.
        if name != "conditions" {
            match items(field) {
                Some(item) => fields(item, &format!("{path}[]"), rows),
                None => fields(field, &path, rows),
            }
        }
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(item) => Some(item),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// What a value is, and its bounds.
fn kind(schema: &JSONSchemaProps) -> String {
    let mut text = match (schema.type_.as_deref(), items(schema)) {
        (Some("array"), Some(item)) => format!("list of {}", kind(item)),
        (Some("string"), _) if schema.format.as_deref() == Some("date-time") => "time".to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, _) => "any".to_owned(),
    };
    if let Some(values) = &schema.enum_ {
        let values = values.iter().map(|value| value.0.as_str().map_or("null", |value| value));
        text = values.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let bounds = [
        schema.minimum.map(|least| format!("at least {least}")),
        schema.maximum.map(|most| format!("at most {most}")),
        schema.max_length.map(|most| format!("at most {most} characters")),
        schema.max_items.map(|most| format!("at most {most}")),
        schema.default.as_ref().map(|value| format!("default `{}`", value.0)),
    ];
    for bound in bounds.into_iter().flatten() {
        _ = write!(text, ", {bound}");
    }
    text
}

/// A description as a paragraph.
fn prose(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A description in a cell of a table.
fn cell(text: &str) -> String {
    prose(text).replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::crd;

    #[test]
    fn every_kind_and_every_field_is_there_and_says_something() {
        let page = markdown(&crd::all());
        for kind in
            ["AgentIdentity", "AgentSuspension", "DelegationPolicy", "ProtectedResource", "TrustedIssuer"]
        {
            assert!(page.contains(&format!("\n## {kind}\n")), "{kind}");
        }
        for row in page.lines().filter(|line| line.starts_with("| `spec.")) {
            let meaning = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            assert!(meaning.ends_with(['.', ':', ')']) && meaning.len() > 3, "{row}");
        }
        assert!(
            page.contains("| `spec.tokens[].expirationSeconds` | integer, at least 600, at most 3600"),
            "{page}"
        );
    }
}
