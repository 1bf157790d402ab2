//! The CustomResourceDefinitions, made from the Rust types.

use super::v1alpha1::{
    AgentException, AgentIdentity, AgentSuspension, CredentialClaim, DelegationPolicy, ProtectedResource,
    TrustedIssuer,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

/// Every kind of Deputy, in alphabetical order.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        AgentException::crd(),
        AgentIdentity::crd(),
        AgentSuspension::crd(),
        CredentialClaim::crd(),
        DelegationPolicy::crd(),
        ProtectedResource::crd(),
        TrustedIssuer::crd(),
    ];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            bound_conditions(schema);
        }
    }
    all
}

/// Sizes the strings of metav1 Conditions, as Kubernetes' own kubebuilder markers do: their Rust type carries none,
/// and an unsized string makes CEL rules over it too costly to be accepted.
fn bound_conditions(schema: &mut JSONSchemaProps) {
    for (name, property) in schema.properties.iter_mut().flatten() {
        let Some(JSONSchemaPropsOrArray::Schema(item)) = property.items.as_mut() else {
            bound_conditions(property);
            continue;
        };
        if name != "conditions" {
            bound_conditions(item);
            continue;
        }
        for (name, size) in [("message", 32768), ("reason", 1024), ("type", 316)] {
            if let Some(property) = item.properties.as_mut().and_then(|p| p.get_mut(name)) {
                property.max_length = Some(size);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrBool;

    /// Walks a schema and collects every string without a bound and every list without one.
    fn unbounded(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        let sized = schema.max_length.is_some() || schema.enum_.is_some() || schema.format.is_some();
        match schema.type_.as_deref() {
            Some("string") if !sized => found.push(path.to_owned()),
            Some("array") if schema.max_items.is_none() => found.push(path.to_owned()),
            _ => {}
        }
        for (name, property) in schema.properties.iter().flatten() {
            unbounded(&format!("{path}.{name}"), property, found);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
            unbounded(&format!("{path}{{}}"), value, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            unbounded(&format!("{path}[]"), item, found);
        }
    }

    #[test]
    fn every_list_and_string_is_bounded() {
        for crd in all() {
            for version in &crd.spec.versions {
                let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
                let mut found = vec![];
                unbounded("", schema, &mut found);
                found.retain(|path| !path.ends_with(".conditions[].status"));
                assert_eq!(found, Vec::<String>::new(), "{}", crd.spec.names.kind);
            }
        }
    }

    #[test]
    fn every_field_is_described() {
        fn undescribed(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
            for (name, property) in schema.properties.iter().flatten() {
                let path = format!("{path}.{name}");
                if property.description.is_none() {
                    found.push(path.clone());
                }
                undescribed(&path, property, found);
            }
            if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
                undescribed(&format!("{path}[]"), item, found);
            }
        }
        for crd in all() {
            for version in &crd.spec.versions {
                let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
                let mut found = vec![];
                undescribed("", schema, &mut found);
                assert_eq!(found, Vec::<String>::new(), "{}", crd.spec.names.kind);
            }
        }
    }
}
