//! A backfill that continues itself: links in every order that asynchronous invocations come in.
//!
//! Lambda is a queue here, and time is virtual: each look at the clock takes a few milliseconds.

pub(super) mod lambda;
pub(super) mod shop;

use changefold::{operation::backfill::Begin, view::building::RunState};
use lambda::Deliveries;
use shop::{ChainShop, LINK_MS, Meddling};

/// A run that is limited enough to take many links.
fn slow() -> Begin {
    let units = Some(40);
    Begin { read_units_per_s: units, write_units_per_s: units, ..Begin::default() }
}

#[test]
fn a_chain_brings_a_table_in_link_by_link() {
    crate::support::block_on(async {
        let shop = ChainShop::open(400).await;
        shop.begin(slow()).await;
        let started = shop.start(None).await.unwrap();
        assert_eq!((started.link, started.next), (Some(0), Some(1)));
        let deliveries = shop.drain(1).await;
        deliveries.check();
        let last = deliveries.answers.last().unwrap();
        assert_eq!(last.chain.as_ref().unwrap().ended.as_ref().unwrap().code, "AllDone");
        assert!(deliveries.answers.len() > 5, "{} links", deliveries.answers.len());
        let added: u64 = deliveries.answers.iter().map(|told| told.counts.added).sum();
        assert_eq!(added, 400);
        let run = shop.run().await;
        assert_eq!((run.state, run.counts.added), (RunState::CatchingUp, 400));
        let chain = run.chain.unwrap();
        assert_eq!((chain.link, chain.failed), (deliveries.answers.len() as u64, 0));
        for took_ms in &deliveries.took_ms {
            assert!(*took_ms < LINK_MS, "a link ends before its deadline: {took_ms} ms");
        }
    });
}

#[test]
fn a_link_that_waits_does_not_spin() {
    crate::support::block_on(async {
        let shop = ChainShop::open(30).await;
        let units = Some(10);
        shop.begin(Begin { read_units_per_s: units, write_units_per_s: units, ..Begin::default() })
            .await;
        shop.start(None).await.unwrap();
        let before = shop.store_calls();
        let deliveries = shop.drain(1).await;
        deliveries.check();
        let links = deliveries.answers.len() as u64;
        let calls = (shop.store_calls() - before) / links;
        assert!(links > 10, "{links} links at ten units a second");
        assert!(calls < 60, "{calls} calls of the store in each link");
        assert_eq!(shop.run().await.counts.added, 30);
    });
}

/// The rates do not even pay for what each link looks up.
#[test]
fn a_chain_that_brings_nothing_forward_ends() {
    crate::support::block_on(async {
        let shop = ChainShop::open(30).await;
        let units = Some(1);
        shop.begin(Begin { read_units_per_s: units, write_units_per_s: units, ..Begin::default() })
            .await;
        shop.start(None).await.unwrap();
        let deliveries = shop.drain(1).await;
        deliveries.check();
        let run = shop.run().await;
        assert_eq!((run.counts.scanned, deliveries.answers.len()), (0, 50));
        assert_eq!(run.chain.unwrap().ended.unwrap().code, "NoProgress");
    });
}

#[test]
fn copies_of_links_do_nothing() {
    crate::support::block_on(async {
        let shop = ChainShop::open(400).await;
        shop.begin(slow()).await;
        shop.start(None).await.unwrap();
        let deliveries = shop.drain(3).await;
        deliveries.check();
        let refused = deliveries.answers.iter().filter_map(|told| told.refused.as_ref());
        let codes: Vec<&str> = refused.map(|reason| reason.code.as_str()).collect();
        assert!(codes.contains(&"LinkNotNext"), "{codes:?}");
        assert_eq!(shop.run().await.counts.scanned, 400, "no page is read twice");
        // All of them once more, after the end.
        for event in shop.lambda.all() {
            let told = shop.deliver(&event).await.unwrap();
            assert_eq!((told.link, told.next), (None, None), "{told:?}");
        }
    });
}

#[test]
fn late_links_of_a_stopped_run_do_nothing() {
    crate::support::block_on(async {
        let shop = ChainShop::open(400).await;
        shop.begin(slow()).await;
        shop.start(None).await.unwrap();
        for _ in 0..3 {
            shop.deliver(&shop.lambda.take().unwrap()).await.unwrap();
        }
        let late = shop.lambda.take().unwrap();
        shop.stop().await;
        let code = |told: &changefold::operation::backfill::chain::Chained| {
            told.refused.as_ref().map(|reason| reason.code.clone())
        };
        let told = shop.deliver(&late).await.unwrap();
        assert_eq!(code(&told).as_deref(), Some("RunStopped"));
        assert!(shop.keep_going().await.next.is_none(), "a schedule starts no stopped run");
        // The run goes on by other hands: the chain does not.
        shop.begin(slow()).await;
        let told = shop.deliver(&late).await.unwrap();
        assert_eq!((code(&told).as_deref(), told.link), (Some("RunStopped"), None));
        shop.start(None).await.unwrap();
        let told = shop.deliver(&late).await.unwrap();
        assert_eq!(code(&told).as_deref(), Some("LinkNotNext"));
        shop.drain(1).await.check();
        // A run of its own has a chain of its own.
        shop.begin(Begin { again: true, ..slow() }).await;
        let told = shop.deliver(&late).await.unwrap();
        assert_eq!(code(&told).as_deref(), Some("RunNotCurrent"));
        let run = shop.run().await;
        assert_eq!((run.counts.scanned, run.chain), (0, None));
    });
}

#[test]
fn a_chain_whose_link_has_died_goes_on_when_it_is_asked_to() {
    crate::support::block_on(async {
        let shop = ChainShop::open(400).await;
        assert!(shop.keep_going().await.next.is_none(), "nothing was begun");
        shop.begin(slow()).await;
        assert!(shop.keep_going().await.next.is_none(), "nothing was started");
        shop.start(None).await.unwrap();
        let mut died = 0;
        for store_calls in [0, 1, 2, 5, 9, 14, 20, 27] {
            let event = shop.lambda.take().unwrap();
            let is_dead = shop.deliver_until(&event, store_calls).await.is_none();
            if !is_dead {
                continue;
            }
            died += 1;
            let told = shop.keep_going().await;
            // One that took its number is waited for until its deadline.
            if let Some(reason) = &told.refused {
                assert_eq!(reason.code, "ChainRunning", "after {store_calls} calls");
                shop.clock.pass(70_000);
                assert!(shop.keep_going().await.next.is_some(), "after {store_calls} calls");
            }
        }
        assert!(died > 4, "{died} died");
        let deliveries = shop.drain(1).await;
        deliveries.check();
        let run = shop.run().await;
        // What a link has brought in before it died without a word the next one knows.
        let all = run.counts.added + run.counts.known;
        assert_eq!((run.state, all), (RunState::CatchingUp, 400));
        let failures = run.chain.unwrap().failures;
        assert_eq!(failures[0].code, "LinkDied", "{failures:?}");
        assert!(shop.keep_going().await.next.is_none(), "it has ended");
        assert_eq!(shop.rows().await, "EU 200 39800; US 200 40000");
    });
}

#[test]
fn a_chain_that_cannot_be_invoked_says_so_and_starts_again() {
    crate::support::block_on(async {
        let shop = ChainShop::open(200).await;
        shop.begin(slow()).await;
        shop.start(None).await.unwrap();
        shop.lambda.refuse(true);
        let event = shop.lambda.take().unwrap();
        let halt = shop.deliver(&event).await.unwrap_err();
        assert_eq!(halt.code, "LinkUnsent", "{halt}");
        let chain = shop.run().await.chain.unwrap();
        let failure = &chain.failures[0];
        assert_eq!((&*failure.code, failure.count, failure.link), ("LinkUnsent", 1, 1));
        assert!(failure.reason.contains("403"), "{}", failure.reason);
        shop.lambda.refuse(false);
        shop.clock.pass(70_000);
        assert!(shop.start(None).await.unwrap().next.is_some());
        shop.drain(1).await.check();
        assert_eq!(shop.run().await.counts.added, 200);
    });
}

#[test]
fn a_chain_ends_at_its_maximum() {
    crate::support::block_on(async {
        let shop = ChainShop::open(400).await;
        shop.begin(slow()).await;
        assert_eq!(shop.start(Some(0)).await.unwrap_err().code, "BackfillInvalid");
        shop.start(Some(2)).await.unwrap();
        let deliveries = shop.drain(1).await;
        assert_eq!(deliveries.answers.len(), 2);
        let ended = |chain: changefold::operation::backfill::chain::ChainStatus| {
            chain.ended.map(|reason| reason.code)
        };
        let run = shop.run().await;
        assert_eq!(ended(run.chain.unwrap()).as_deref(), Some("LinksUsedUp"));
        let told = shop.deliver(&ChainShop::forged(&run.run, 3)).await.unwrap();
        assert_eq!((told.link, told.next), (None, None), "{told:?}");
        // Whoever starts it while it is at work disturbs nothing.
        shop.start(None).await.unwrap();
        shop.deliver(&shop.lambda.take().unwrap()).await.unwrap();
        let again = shop.start(None).await.unwrap();
        assert_eq!(again.refused.unwrap().code, "ChainRunning");
        shop.drain(1).await.check();
        assert_eq!(shop.run().await.counts.added, 400);
    });
}

/// The same check that the other tests make, without the rule that it checks.
#[test]
fn control_without_the_number_a_chain_runs_away() {
    crate::support::block_on(async {
        let shop = ChainShop::meddled(400, Meddling::NumberIgnored).await;
        shop.begin(slow()).await;
        shop.start(None).await.unwrap();
        let Deliveries { sent, numbers, .. } = shop.drain(2).await;
        assert!(sent > 3 * numbers, "{sent} links sent for {numbers} numbers: nobody ran away");
    });
}
