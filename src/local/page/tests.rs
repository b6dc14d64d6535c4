//! What the journal of a run gives to its page.

use super::*;
use crate::local::report::Results;

#[test]
fn what_a_producer_has_said_cannot_end_the_script() {
    let rows = vec![vec![Scalar::Text("</script><script>alert(1)</script>".to_owned())]];
    let view = ViewRows { name: "v".into(), columns: vec!["c".into()], rows, total: 1 };
    let results = Results { views: vec![view], ..Results::default() };
    let report = Report { results, ..Report::default() };
    let page = Journal::default().page("<b>", &report);
    assert_eq!(page.matches("</script>").count(), 2, "its own two");
    let data = page.split_once(r#"type="application/json">"#).unwrap().1;
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data["views"][0]["rows"][0][0], "</script><script>alert(1)</script>");
    assert_eq!(data["title"], "<b>");
}

#[test]
fn events_are_what_came_after_a_number() {
    let mut journal = Journal::default();
    assert_eq!(journal.events("-0-0-0"), None);
    let call = |journal: &mut Journal, records| {
        journal.invoked(&Invoked {
            shard: "s",
            records,
            first: None,
            last: None,
            at: 1,
            outcome: Outcome::Succeeded,
            took: 1,
            age: None,
            error: None,
        });
    };
    call(&mut journal, 5);
    let first = journal.events("").unwrap();
    assert!(first.starts_with("retry: 250\nid: -1-0-0-0-0\nevent: news\ndata: {"), "{first}");
    assert_eq!(first.lines().count(), 5, "{first}");
    assert_eq!(journal.events("-1-0-0-0-0"), None);
    call(&mut journal, 6);
    let next = journal.events("-1-0-0-0-0").unwrap();
    let news: Value = serde_json::from_str(next.split("data: ").nth(1).unwrap()).unwrap();
    assert_eq!((&news["calls"][0]["records"], &news["calls"][1]), (&6.into(), &Value::Null));
    assert_eq!(news["figures"]["records finished"], 11);
    for _ in 0..=CALLS_MAX {
        call(&mut journal, 1);
    }
    let news = journal.events("-2-0-0-0-0").unwrap();
    assert_eq!(news.matches("succeeded").count(), CALLS_MAX, "those that are kept");
    assert_eq!(journal.older["s"].calls, 3);
}

#[test]
fn a_page_with_another_title_is_drawn_anew() {
    let mut journal = Journal::new("ab".to_owned());
    let sources = json!({ "tables": [], "streams": ["clicks"] });
    journal.entitle("dev: clicks", sources.clone());
    let number = journal.number();
    journal.entitle("dev: clicks", sources);
    assert_eq!(journal.events(&number), None, "it is the same");
    journal.entitle("dev: clicks, views", json!({ "tables": [], "streams": ["clicks", "views"] }));
    assert!(journal.events(&number).unwrap().contains("event: other"));
    assert_eq!(journal.events(&journal.number()), None);
    let page = journal.live();
    assert!(page.contains(r#""title":"dev: clicks, views""#), "{page}");
    assert!(page.contains(r#""streams":["clicks","views"]"#), "{page}");
}

#[test]
fn a_page_of_another_run_is_told_to_begin_again() {
    let mut journal = Journal::new("ab".to_owned());
    let number = journal.number();
    assert_eq!(journal.events(&number), None);
    assert!(journal.events("cd-0-0-0-0-0").unwrap().contains("event: other"));
    journal.passed("s".to_owned(), &SequenceNumber::new("7").unwrap());
    let news = journal.events(&number).unwrap();
    assert!(news.contains(r#""standing":{"s":{"age":null,"checkpoint":"7"}}"#), "{news}");
    assert!(news.contains(r#""desk":null"#), "{news}");
    for number in 0..=NOTICES_MAX {
        journal.notice(format!("n{number}"));
    }
    assert_eq!(journal.desk.notices.len(), NOTICES_MAX);
    assert!(journal.events(&number).unwrap().contains("n50"));
}
