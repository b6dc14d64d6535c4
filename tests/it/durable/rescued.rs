//! Records that the mapping gave up, and later ones of their key that may be finished.

use super::*;
use changefold::operation::Listing;

/// What an operator and a mapping do, one after another.
enum Act {
    /// Delivers records of the key `a` by their numbers.
    Deliver(&'static [u32]),
    /// The mapping has given this one up, and it is rescued.
    Rescue(u32),
}

/// Plays these acts, in which the first record never works; then it would. Gives back whether
/// the first record is told to be superseded, and the effects of a redrive, without and with the
/// operator's word.
fn play(acts: &[Act]) -> (String, [Vec<String>; 2]) {
    block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let (is_fixed, effects) = (Cell::new(false), RefCell::new(Vec::new()));
        let processor = processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| {
            let number = at.sequence_number().to_string();
            if number == "1" && !is_fixed.get() {
                return Err(Failure::retry("not yet"));
            }
            effects.borrow_mut().push(number);
            Ok(())
        });
        let function = function(parking(&store(&embedded), OnPark::Hold), processor).await;
        let record = |at: &u32| order(*at, "INSERT", "a", None);
        for act in acts {
            match act {
                Act::Deliver(numbers) => {
                    ask(&function, batch(&numbers.iter().map(record).collect::<Vec<_>>())).await;
                }
                Act::Rescue(number) => {
                    assert_eq!(rescue(&function, &[record(number)]).await, [Outcome::Parked]);
                }
            }
        }
        is_fixed.set(true);
        effects.borrow_mut().clear();
        let listed = ask(&function, operation::event(Operation::List(Selection::default()))).await;
        let listed: Listing = serde_json::from_value(listed).unwrap();
        redrive(&function).await;
        let by_default = effects.take();
        let all_the_same = Redrive { superseded: true, ..Redrive::default() };
        ask(&function, operation::event(Operation::Redrive(all_the_same))).await;
        (listed.parked[0].superseded.clone(), [by_default, effects.take()])
    })
}

#[track_caller]
fn check(acts: &[Act], superseded: &str, by_default: &[&str], all_the_same: &[&str]) {
    let (told, [first, second]) = play(acts);
    assert_eq!(told, superseded);
    assert_eq!((first, second), (owned(by_default), owned(all_the_same)));
}

fn owned(numbers: &[&str]) -> Vec<String> {
    numbers.iter().map(|number| (*number).to_owned()).collect()
}

#[test]
fn a_rescued_record_that_a_later_one_may_have_overtaken_is_not_run_last() {
    // A later one of its key was finished, and nobody took note.
    check(&[Act::Deliver(&[2]), Act::Rescue(1)], "unknown", &[], &["1"]);
    // The same for all that a filter left out, or another sub-lane finished.
    check(&[Act::Rescue(1)], "unknown", &[], &["1"]);
}

#[test]
fn of_a_key_near_a_failure_it_is_known_what_later_ones_did() {
    check(&[Act::Deliver(&[1]), Act::Rescue(1)], "no", &["1"], &[]);
    check(&[Act::Deliver(&[1, 2]), Act::Rescue(1)], "no", &["1"], &[]);
    check(&[Act::Deliver(&[1]), Act::Deliver(&[2, 3]), Act::Rescue(1)], "yes", &[], &["1"]);
    // What comes after the rescue queues behind it.
    check(&[Act::Deliver(&[1]), Act::Rescue(1), Act::Deliver(&[2])], "no", &["1", "2"], &[]);
}

/// Rows of holds as text.
fn holds(embedded: &Embedded) -> String {
    rows(embedded, "S#").iter().map(Value::to_string).collect()
}

#[test]
fn a_key_is_watched_until_its_record_is_finished_and_few_are() {
    block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let is_down = Cell::new(true);
        let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
            if is_down.get() { Err(Failure::retry("down").with_code("Down")) } else { Ok(()) }
        });
        let function = function(parking(&store(&embedded), OnPark::Hold), processor).await;
        let record = |at: u32| order(at, "INSERT", &format!("k{at}"), None);
        let event = batch(&(1..=200).map(record).collect::<Vec<_>>());
        ask(&function, event.clone()).await;
        assert_eq!(holds(&embedded).matches("watched ").count(), 64);
        let listed = ask(&function, operation::event(Operation::List(Selection::default()))).await;
        assert_eq!(listed["parked"], json!([]), "nothing is parked");
        is_down.set(false);
        ask(&function, event).await;
        assert_eq!(holds(&embedded).matches("watched ").count(), 0);
    });
}
