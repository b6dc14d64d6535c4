//! `view backfill` and its companions, as a person runs them.

use super::steps::{Shop, VIEWS};
use crate::{
    parked::{changefold, scripted},
    support::{self, call},
};
use changefold::{local::store_server::StoreServer, outcome::Answer, store::embedded::Embedded};
use serde_json::{Value, json};

fn views() -> std::path::PathBuf {
    let name = format!("changefold-backfill-{}.sql", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, VIEWS).unwrap();
    path
}

#[test]
fn a_table_is_backfilled_at_an_endpoint() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let shop = Shop::in_store(embedded.clone(), 50).await;
        let server = StoreServer::start(embedded).await.unwrap();
        let (url, views) = (server.url(), views());
        let run = async |arguments: &[&str]| {
            let end = ["--endpoint-url", &url, "--views", views.to_str().unwrap()];
            let arguments: Vec<String> =
                [&["view"], arguments, &end].concat().into_iter().map(str::to_owned).collect();
            let run = move || {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let tables = [
                    ("CHANGEFOLD_LEDGER_TABLE", "shop_ledger"),
                    ("CHANGEFOLD_VIEW_TABLE_PREFIX", "shop_"),
                    ("CHANGEFOLD_CONSUMER", "test"),
                ];
                changefold(&arguments, &tables)
            };
            tokio::task::spawn_blocking(run).await.unwrap()
        };
        let (code, told, said) = run(&["backfill", "--table", "orders"]).await;
        assert_eq!((code, &*told), (Some(2), ""), "{said}");
        for part in ["about 50 items", "$0.00", "for totals, open_orders", "hint: add --yes"] {
            assert!(said.contains(part), "no {part} in: {said}");
        }
        let (_, told, _) = run(&["status"]).await;
        assert!(told.contains("not backfilled"), "nothing was begun: {told}");

        let (code, told, said) = run(&["backfill", "--table", "orders", "--yes"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(told.contains("catching up") && said.contains("`view ready`"), "{told}{said}");
        let rows = support::table(&shop.function.work().rows(0, usize::MAX).await.unwrap());
        assert_eq!(rows, "EU 25 600; US 25 625");
        let ready = ["ready", "--table", "orders", "--format", "json"];
        let (code, told, _) = run(&ready).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((code, &told["runs"][0]["state"]), (Some(1), &json!("catching_up")));
        let (code, _, said) = run(&["stop", "--table", "clicks"]).await;
        assert_eq!(code, Some(2), "{said}");
        std::fs::remove_file(views).unwrap();
    });
}

/// A deployed function is asked once, and the command is at its end.
#[test]
fn a_chain_is_started_and_the_command_returns() {
    let (url, end) = scripted(|_, body| {
        let step = &body["changefold"]["backfill"];
        let run = json!({
            "source": "s", "run": "r", "state": "scanning", "segments": 8, "segments_done": 1,
            "items_expected": 9, "counts": {
                "scanned": 1, "added": 1, "known": 0, "quarantined": 0, "not_done": 0,
            },
            "not_done": [], "read_units": 1.0, "write_units": 1.0, "began_ms": 1, "now_ms": 2,
            "scan_end_ms": null, "ready_by_ms": null, "chain": {
                "link": 3, "link_max": 7, "taken_by": "x", "due_ms": 5, "idle": 0, "failed": 2,
                "failures": [{"code": "LinkDied", "reason": "it died", "count": 2, "link": 2}],
                "ended": null,
            },
        });
        let refused = |code: &str| json!({"code": code, "message": "link 1 is at work"});
        let chained = |refused| {
            json!({
                "link": 0, "next": 1, "refused": refused, "stopped": null, "read_units": 0.0,
                "write_units": 0.0, "chain": null, "counts": run["counts"],
            })
        };
        let answer = match step["chain"]["start"]["links_max"].as_u64() {
            Some(7) => chained(json!(null)),
            Some(8) => chained(refused("ChainRunning")),
            Some(_) => chained(refused("RunStopped")),
            None if step["status"].is_object() => json!({"views": [], "runs": [run]}),
            None if step["begin"].is_object() => {
                json!({"source": "s", "run": "r", "segments": 8, "state": "scanning"})
            }
            None => json!({
                "source": "s", "views": ["totals"], "items": 9, "bytes": 9, "has_stream": true,
                "read_units": 1.0, "write_units_min": 1.0, "write_units_max": 2.0,
            }),
        };
        (200, answer)
    });
    let environment = [("AWS_ENDPOINT_URL_LAMBDA", &*url)];
    let start = |links_max: &str| {
        let of = ["--function", "views:live", "--table", "orders", "--yes", "--chain"];
        let more = ["--links-max", links_max];
        changefold(&[&["view", "backfill"], &of[..], &more].concat(), &environment)
    };
    let (code, _, said) = start("7");
    assert_eq!(code, Some(0), "{said}");
    for part in ["goes on by itself", "`view status`", "`view stop --table orders`"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
    let (code, _, said) = start("8");
    assert!(code == Some(0) && said.contains("link 1 is at work"), "{said}");
    assert_eq!(start("9").0, Some(1));
    let (_, _, said) = changefold(&["view", "status", "--function", "views:live"], &environment);
    assert!(said.contains("link 3 of 7 at most") && said.contains("2 times"), "{said}");
    let asked = end();
    assert!(asked.iter().all(|(_, body)| body["changefold"]["backfill"]["work"].is_null()));
    let here = ["view", "backfill", "--state", "x", "--table", "orders", "--chain"];
    let (code, _, said) = changefold(&here, &[]);
    assert!(code == Some(2) && said.contains("cannot be used with"), "{said}");
}

/// The function itself behind Lambda's API.
#[test]
fn a_deployed_function_backfills_its_own_table() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut shop = None;
    let (url, end) = scripted(move |_, body| {
        let answer = runtime.block_on(async {
            if shop.is_none() {
                shop = Some(Shop::in_store(Embedded::open(None).unwrap(), 40).await);
            }
            let event = body.to_string().into_bytes();
            shop.as_ref().unwrap().function.invoke(&event, &call()).await
        });
        match answer {
            Ok(Answer::Operation(answer)) => (200, answer),
            other => panic!("{other:?}"),
        }
    });
    let environment = [("AWS_ENDPOINT_URL_LAMBDA", &*url)];
    let of = ["--function", "views:live", "--table", "orders"];
    let (code, told, said) = changefold(
        &[&["view", "backfill", "--yes", "--segments", "3"], &of[..]].concat(),
        &environment,
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains("catching up"), "{told}");
    let status = [&["view", "status", "--format", "json"], &of[..]].concat();
    let (_, told, _) = changefold(&status, &environment);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["runs"][0]["counts"]["added"], 40, "{told}");
    let steps = end();
    let worked = steps.iter().filter(|(_, body)| !body["changefold"]["backfill"]["work"].is_null());
    assert!(worked.count() >= 4, "a segment a call, and one that finds nothing left");
}
