//! What `deputy scan -o sarif` writes, against OASIS' schema.

use deputy::{
    index::{Declarable, ReservedAudiences},
    policy::{Settings, rules},
    scan::{Inputs, Options, Unread, World, read, report},
};
use k8s_openapi::jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Value, json};

/// Says what in `value` a JSON schema (draft 4) does not allow. Knows the words that the schema in question uses, and fails
/// on any other, so that nothing goes unchecked.
struct Schema {
    root: Value,
}

impl Schema {
    fn check(&self, schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
        for (word, rule) in schema.as_object().unwrap() {
            let holds = match word.as_str() {
                "$ref" => {
                    let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    self.check(self.root.pointer(pointer).unwrap(), value, path, wrong);
                    true
                }
                "type" => match rule {
                    Value::Array(types) => types.iter().any(|one| is_of_type(one, value)),
                    one => is_of_type(one, value),
                },
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
                "minItems" => {
                    value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
                }
                "uniqueItems" => {
                    let items = value.as_array().map_or(&[][..], Vec::as_slice);
                    rule == false || items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))
                }
                "pattern" => {
                    let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
                    value.as_str().is_none_or(|text| pattern.is_match(text))
                }
                "format" => value.as_str().is_none_or(|text| is_of_format(rule.as_str().unwrap(), text)),
                "required" => value.as_object().is_none_or(|fields| {
                    rule.as_array().unwrap().iter().all(|name| fields.contains_key(name.as_str().unwrap()))
                }),
                "properties" => {
                    for (name, of_field) in rule.as_object().unwrap() {
                        if let Some(field) = value.get(name) {
                            self.check(of_field, field, &format!("{path}.{name}"), wrong);
                        }
                    }
                    true
                }
                "additionalProperties" => self.others(schema, rule, value, path, wrong),
                "items" => {
                    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{path}[{at}]"), wrong);
                    }
                    true
                }
                "anyOf" => self.holding(rule, value) > 0,
                "oneOf" => self.holding(rule, value) == 1,
                "$schema" | "id" | "title" | "description" | "default" | "definitions" => true,
                other => panic!("the schema says {other:?}, which this does not know"),
            };
            if !holds {
                wrong.push(format!("{path}: {word}"));
            }
        }
    }

    /// Fields without a schema of their own.
    fn others(
        &self,
        schema: &Value,
        rule: &Value,
        value: &Value,
        path: &str,
        wrong: &mut Vec<String>,
    ) -> bool {
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        let mut others =
            value.as_object().unwrap_or(&none).iter().filter(|(name, _)| !known.contains_key(*name));
        match rule {
            Value::Bool(allowed) => *allowed || others.next().is_none(),
            rule => {
                others.for_each(|(name, field)| self.check(rule, field, &format!("{path}.{name}"), wrong));
                true
            }
        }
    }

    fn holding(&self, schemas: &Value, value: &Value) -> usize {
        let holds = |schema: &&Value| {
            let mut wrong = vec![];
            self.check(schema, value, "", &mut wrong);
            wrong.is_empty()
        };
        schemas.as_array().unwrap().iter().filter(holds).count()
    }
}

fn is_of_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("no type is called {other:?}"),
    }
}

fn is_of_format(format: &str, text: &str) -> bool {
    let is_reference = !text.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']) && text.is_ascii();
    match format {
        "uri" => is_reference && text.contains(':'),
        "uri-reference" => is_reference,
        "date-time" => text.parse::<Timestamp>().is_ok(),
        other => panic!("no format is called {other:?}"),
    }
}

fn wrong(log: &Value) -> Vec<String> {
    let root: Value = serde_json::from_str(include_str!("../data/sarif-schema-2.1.0.json")).unwrap();
    let mut wrong = vec![];
    Schema { root: root.clone() }.check(&root, log, "", &mut wrong);
    wrong
}

/// The report on a pod that breaks two rules, and on something that cannot be read.
fn log() -> Value {
    let settings = Settings::builtin(ReservedAudiences::default()).unwrap();
    let declarable = Declarable::default();
    let now = Timestamp::UNIX_EPOCH;
    let options = Options { settings, declarable, namespace: "ns".to_owned(), assume_agents: true, now };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  hostPID: true\n  containers:\n  - name: app\n  \
               imagePullSecrets: [{name: s}]\n";
    let mut inputs = Inputs::default();
    inputs.add(&"./a dir/pod.yaml".into(), read(pod.as_bytes(), false).documents);
    let mut report = World::new(inputs, options).judge();
    report.unread.push(("b.yaml".into(), Unread::at(3, "this is not valid YAML")));
    report.unread.push(("c.yaml".into(), Unread::whole("permission denied")));
    serde_json::from_str(&report::sarif(&report)).unwrap()
}

#[test]
fn the_log_is_what_the_schema_allows() {
    let log = log();
    assert_eq!(wrong(&log), Vec::<String>::new());
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), rules().len());
    let results = run["results"].as_array().unwrap();
    let said: Vec<_> = results
        .iter()
        .map(|result| {
            let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
            assert_eq!(rule["id"], result["ruleId"]);
            let place = &result["locations"][0]["physicalLocation"];
            json!([
                result["ruleId"],
                result["level"],
                place["artifactLocation"]["uri"],
                place["region"]["startLine"]
            ])
        })
        .collect();
    assert_eq!(
        said,
        [
            json!(["AI401", "error", "a%20dir/pod.yaml", 5]),
            json!(["AI203", "warning", "a%20dir/pod.yaml", 8])
        ]
    );
    let notifications = &run["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(notifications.as_array().unwrap().len(), 2);
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
}

#[test]
fn the_check_sees_what_is_wrong() {
    for (pointer, value) in [
        ("/version", json!("2.0.0")),
        ("/runs/0/results/0/level", json!("fatal")),
        ("/runs/0/results/0/locations/0/physicalLocation/region/startLine", json!(0)),
        ("/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", json!("a dir/pod.yaml")),
        ("/runs/0/tool/driver/name", json!(1)),
        ("/runs/0/tool/driver/rules/0", json!({"name": "without id"})),
        ("/runs/0/invocations/0", json!({"executionSuccessful": true, "unknownField": 1})),
        ("/runs/0/tool/driver/rules/0/properties/tags", json!(["twice", "twice"])),
    ] {
        let mut log = log();
        *log.pointer_mut(pointer).unwrap() = value;
        assert!(!wrong(&log).is_empty(), "{pointer}");
    }
}
