use super::*;
use crate::audit::{Agent, Decision, Kind, Recovered, User};
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_500_000 + second).unwrap()
}

fn alice() -> User {
    User { pseudonym: "pUC7LM_Bx4UCAOqa2Mj9Hw".into(), kid: "1".into() }
}

fn exchange(second: i64) -> Entry {
    Entry {
        decision: Some(Decision::Deny),
        half: Some("user".into()),
        reason: Some("user_half".into()),
        agent: Some(Agent { ns: "research".into(), name: "a".into(), uid: "u".into(), pod: None }),
        user: Some(alice()),
        resource: Some("https://papers.example.com".into()),
        scopes: vec!["read".into(), "write".into()],
        ..Entry::new(Kind::TokenExchange, at(second))
    }
}

fn found(replica: &'static str, index: u64, entry: &Entry) -> Found {
    let origin = format!("{replica}-log");
    Source { replica, origin: &origin }.stored(index, &entry.to_bytes().unwrap()).unwrap()
}

#[test]
fn entries_are_in_the_order_of_time_and_of_their_log() {
    let mut all = vec![
        found("b", 1, &exchange(5)),
        found("a", 2, &exchange(5)),
        found("a", 1, &exchange(5)),
        found("b", 0, &exchange(1)),
        found("a", 3, &exchange(9)),
    ];
    merge(&mut all);
    let order: Vec<_> = all.iter().map(|found| (found.replica.as_str(), found.index)).collect();
    assert_eq!(order, [("b", 0), ("a", 1), ("a", 2), ("b", 1), ("a", 3)]);
}

#[test]
fn each_part_of_a_filter_must_hold() {
    let entry = exchange(5);
    let fits = Filter {
        agent: Some(("research".into(), "a".into())),
        user: Some(alice()),
        resource: Some("https://papers.example.com".into()),
        decision: Some(Decision::Deny),
        since: Some(at(5)),
        until: Some(at(5)),
    };
    assert!(fits.takes(&entry) && Filter::default().takes(&entry));
    let others = [
        Filter { agent: Some(("other".into(), "a".into())), ..fits.clone() },
        Filter { agent: Some(("research".into(), "b".into())), ..fits.clone() },
        Filter { user: Some(User { pseudonym: "x".into(), ..alice() }), ..fits.clone() },
        Filter { user: Some(User { kid: "2".into(), ..alice() }), ..fits.clone() },
        Filter { resource: Some("https://papers.example.com/".into()), ..fits.clone() },
        Filter { decision: Some(Decision::Permit), ..fits.clone() },
        Filter { since: Some(at(6)), ..fits.clone() },
        Filter { until: Some(at(4)), ..fits },
    ];
    for other in others {
        assert!(!other.takes(&entry), "{other:?}");
    }
    let opened = Entry::new(Kind::LogOpened, at(5));
    let of_time = Filter { since: Some(at(5)), ..Filter::default() };
    assert!(of_time.takes(&opened));
    assert!(!Filter { user: Some(alice()), ..of_time }.takes(&opened), "what is of nobody is not of alice");
}

#[test]
fn a_table_says_what_happened_and_names_whom_it_is_asked_about() {
    let resumed = Recovered { log: LogId([1; 8]), entries: 7, length: 0, torn: 9 };
    let mut noise = Entry::new(Kind::Unauthenticated, at(2));
    noise.counts = [("subject_expired".into(), 3)].into();
    let other = User { pseudonym: "kim".into(), kid: "1".into() };
    let all = [
        found("b-0", 7, &Entry::opened(&resumed, at(0))),
        found("b-0", 8, &noise),
        found("b-1", 1, &exchange(5)),
        found(
            "b-1",
            2,
            &Entry { user: Some(other), decision: Some(Decision::Permit), reason: None, ..exchange(6) },
        ),
    ];
    let user = alice();
    let table = Found::table(&all, Some((&user, "corp:alice")));
    let expected = "\
TIME                       REPLICA   INDEX   KIND                       DECISION   AGENT        USER         RESOURCE                     SCOPES       WHY
2026-11-24T06:00:00.000Z   b-0       7       log.resumed                -          -            -            -                            -            log 0101010101010101, after 7 entries, 9 torn bytes were cut
2026-11-24T06:00:02.000Z   b-0       8       requests.unauthenticated   -          -            -            -                            -            subject_expired 3
2026-11-24T06:00:05.000Z   b-1       1       token.exchange             deny       research/a   corp:alice   https://papers.example.com   read,write   user: user_half
2026-11-24T06:00:06.000Z   b-1       2       token.exchange             permit     research/a   kim          https://papers.example.com   read,write   -
";
    assert_eq!(table, expected);
    assert!(Found::table(&all, None).contains("pUC7LM_Bx4UCAOqa2Mj9Hw"));
}

#[test]
fn json_has_each_entry_as_it_is_stored() {
    let entry = exchange(5);
    let json: serde_json::Value = serde_json::from_str(&Found::json(&[found("b", 3, &entry)])).unwrap();
    let bytes = String::from_utf8(entry.to_bytes().unwrap()).unwrap();
    assert!(Found::json(&[found("b", 3, &entry), found("b", 4, &entry)]).contains(&bytes));
    let stored: serde_json::Value = serde_json::from_str(&bytes).unwrap();
    assert_eq!(json, json!({"entries": [{"replica": "b", "log": "b-log", "index": 3, "entry": stored}]}));
}

#[test]
fn what_is_no_entry_is_told() {
    let source = Source { replica: "b", origin: "o" };
    let line = String::from_utf8(exchange(1).to_bytes().unwrap()).unwrap();
    let found = source.line(&format!("{{\"index\":4,\"entry\":{line}}}")).unwrap();
    assert_eq!((found.index, found.stored.as_str()), (4, line.as_str()));
    for odd in ["<html>", "", "{\"index\":x,\"entry\":{}}", "{\"index\":1}", "{\"entry\":{},\"index\":1}"] {
        assert!(matches!(source.line(odd), Err(Unreadable::Line)), "{odd}");
    }
    let later = line.replace("token.exchange", "token.later");
    let unread = source.line(&format!("{{\"index\":4,\"entry\":{later}}}")).unwrap_err();
    assert!(unread.to_string().starts_with("entry 4 cannot be read by this version"), "{unread}");
    assert!(source.stored(5, b"torn").is_err());
}

#[test]
fn a_place_is_an_index_and_perhaps_its_log() {
    let place = |origin: Option<&str>| Ok(Place { origin: origin.map(str::to_owned), index: 17 });
    assert_eq!("17".parse::<Place>(), place(None));
    assert_eq!("00ff00ff00FF00ff#17".parse::<Place>(), place(Some("00ff00ff00ff00ff")));
    for text in ["", "#17", "17#", "x#17", "00ff00ff00ff00f#17", "00ff00ff00ff00fg#17", "-1", "a"] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}
