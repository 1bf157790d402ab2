//! What the binary is built from: every crate's licence is one that `deny.toml` allows, and comes from the registry.

use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};
use std::process::Command;

#[test]
fn every_crate_is_under_a_licence_we_allow() {
    let table: toml::Table = toml::from_str(include_str!("../../deny.toml")).unwrap();
    let allowed: Vec<_> = table["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| Licensee::parse(id.as_str().unwrap()).unwrap())
        .collect();
    let packages = metadata()["packages"].take();
    let packages = packages.as_array().unwrap();
    assert!(packages.len() > 100, "{} crates", packages.len());
    for package in packages {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        // Older crates write a slash for OR.
        let expression = Expression::parse_mode(
            licence,
            ParseMode { allow_slash_as_or_operator: true, ..ParseMode::STRICT },
        )
        .unwrap_or_else(|error| panic!("{name}: {error}"));
        let is_met = expression.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)));
        assert!(is_met, "{name} is under {licence}, which deny.toml does not allow");
    }
}

#[test]
fn every_crate_comes_from_the_registry() {
    for package in metadata()["packages"].as_array().unwrap() {
        let ours = package["name"] == env!("CARGO_PKG_NAME");
        let source = package["source"].as_str().unwrap_or_default();
        assert!(ours || source.starts_with("registry+"), "{} comes from {source:?}", package["name"]);
    }
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
