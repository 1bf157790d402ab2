use super::*;
use serde_json::json;

fn one(text: &str) -> Value {
    let mut documents = documents(text, 0).unwrap();
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).value
}

/// The line and the message.
fn refused(text: &str) -> (usize, String) {
    let unread = documents(text, 10).unwrap_err();
    (unread.line.unwrap() - 10, unread.message)
}

#[test]
fn values_are_what_kubectl_makes_of_them() {
    for (text, value) in [
        ("a: 1\nb: [x, 'yes', yes, \"1\", null]\n", json!({"a": 1, "b": ["x", "yes", true, "1", null]})),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", json!({"a": "x\ny\n", "b": "x y"})),
        ("a: !!str 1\nb: !custom x\n", json!({"a": "1", "b": "x"})),
        ("a:\nb: ~\n'': ''\n", json!({"a": null, "b": null, "": ""})),
        ("{\n\t\"a\": [1, 2.5, \"\\u00e9\\n\"],\n\t\"b\": {}\n}\n", json!({"a": [1, 2.5, "é\n"], "b": {}})),
        ("a: 1\r\nb:\r\n- x\r\n", json!({"a": 1, "b": ["x"]})),
        ("1: a\ntrue: b\n", json!({"1": "a", "true": "b"})),
        ("- a\n- b", json!(["a", "b"])),
    ] {
        assert_eq!(one(text), value, "{text}");
    }
    assert!(documents("---\n# nothing\n---\n...\n", 0).unwrap().is_empty());
    assert_eq!(documents("a: 1\n--- {b: 2}\n...\n---\nc: 3\n", 0).unwrap().len(), 3);
}

#[test]
fn anchors_and_merges_come_to_what_they_stand_for() {
    let text = "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\n\
                x:\n  <<: *base\n  b: 5\ny:\n  <<: [*base, *other]\nz: {'<<': 1}\nw: *base\nname: &n key\nmap: {*n : v}\n";
    let value = one(text);
    assert_eq!(value["x"], json!({"a": 1, "b": 5}));
    assert_eq!(value["y"], json!({"a": 1, "b": 2, "c": 4}));
    assert_eq!(value["z"], json!({"<<": 1}));
    assert_eq!(value["w"], json!({"a": 1, "b": 2}));
    assert_eq!(value["map"], json!({"key": "v"}));
}

#[test]
fn every_part_knows_its_line() {
    let text = "a: &a\n  b: 1\nc:\n- d: 2\n  e: |\n    x\n-\n  f: *a\n<<: {g: 3}\n";
    let document = documents(text, 100).unwrap().remove(0);
    for (path, line) in [
        ("a", 1),
        ("a.b", 2),
        ("c", 3),
        ("c[0]", 4),
        ("c[0].d", 4),
        ("c[0].e", 5),
        ("c[1].f", 8),
        ("c[1].f.b", 2),
        ("g", 9),
    ] {
        assert_eq!(document.lines.of(path), 100 + line, "{path}");
    }
}

#[test]
fn what_is_no_yaml_is_refused_by_line() {
    for (text, line, message) in [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML"),
        ("a: 1\n b: 2\n", 2, "not valid YAML"),
        ("a: *nobody\n", 1, "not valid YAML"),
        ("a: &a [*a]\n", 1, "inside of what it is an alias of"),
        ("a: 1\nb: 2\na: 3\n", 3, "a second time"),
        ("{\"a\": 1,\n\"a\": 2}\n", 2, "a second time"),
        ("<<: {}\n<<: {}\n", 2, "a second time"),
        ("<<: 1\n", 1, "neither a map nor a list of maps"),
        ("? [a]\n: 1\n", 1, "the key of a map is a list or a map"),
        ("a: &a {}\n*a : 1\n", 2, "no word"),
    ] {
        let (at, why) = refused(text);
        assert!(at == line && why.contains(message), "{text:?}: {at}: {why}");
    }
    let (_, why) = refused("a: 1\n'SECRETVALUE': 2\n'SECRETVALUE': 3\n");
    assert!(!why.contains("SECRET"), "{why}");
}

#[test]
fn bombs_do_not_go_off() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    let (line, why) = refused(&laughs);
    assert!((5..=8).contains(&line) && why.contains("with all its aliases"), "{line}: {why}");

    let long = format!("a: &a \"{}\"\n", "x".repeat(1 << 20)) + "b: [";
    let (line, why) = refused(&format!("{long}{}]\n", "*a, ".repeat(200)));
    assert!(line == 2 && why.contains("MiB of text"), "{line}: {why}");

    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        let (line, why) = refused(&deep);
        assert!(line == 1 && (why.contains("levels") || why.contains("not valid YAML")), "{line}: {why}");
    }
    assert_eq!(documents(&format!("{}{}", "[".repeat(90), "]".repeat(90)), 0).unwrap().len(), 1);
    // Anchors within one another are copied, and each copy counts once.
    let nested = (0..40).fold("x".to_owned(), |inner, n| format!("&a{n} [{inner}]"));
    assert_eq!(documents(&nested, 0).unwrap().len(), 1);
}
