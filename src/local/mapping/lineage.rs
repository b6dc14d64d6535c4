//! Which shards of a stream may be read: no child before its parents are finished.
//!
//! A shard ends when it is split or merged, and its children hold what comes after its last
//! record. The order of a key survives that only if a child begins when every record of its
//! parents has met its fate, which is later than when the last one was read. A child of a merge
//! waits for both parents; children of one split run side by side. Source: Kinesis developer
//! guide, "After resharding"; the order recorded from AWS.
//!
//! A parent that the stream does not list any more was trimmed, with all its records: nothing
//! is left to wait for. So a listing has to be told as a whole, or a parent that stands on its
//! next page would be taken for one.

use std::collections::BTreeMap;

/// A shard as the stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The shard's own name.
    pub shard_id: String,
    /// The shards it continues: one after a split, two after a merge, none at the beginning.
    pub parents: Vec<String>,
}

/// The shards of one stream, and how far each has come.
#[derive(Debug, Default)]
pub struct Lineage {
    shards: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    parents: Vec<String>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Finished,
}

impl Lineage {
    /// Takes a whole listing of the stream; what it has told before does not change.
    pub fn learn(&mut self, listing: &[Listed]) {
        for Listed { shard_id, parents } in listing {
            self.shards
                .entry(shard_id.clone())
                .or_insert_with(|| Known { parents: parents.clone(), state: State::Waiting });
        }
    }

    /// The shards that may be read from now on, by name. Each is given out once.
    pub fn begin(&mut self) -> Vec<String> {
        let is_open = |known: &Known| {
            known.state == State::Waiting
                && known.parents.iter().all(|parent| {
                    self.shards.get(parent).is_none_or(|parent| parent.state == State::Finished)
                })
        };
        let open = self.shards.iter().filter(|(_, known)| is_open(known));
        let open: Vec<String> = open.map(|(shard_id, _)| shard_id.clone()).collect();
        for shard_id in &open {
            self.enter(shard_id, State::Begun);
        }
        open
    }

    /// Says that a shard was read to its end and every record of it has met its fate.
    pub fn finish(&mut self, shard_id: &str) {
        self.enter(shard_id, State::Finished);
    }

    /// Whether the shard has ended: another one that is listed continues it.
    #[must_use]
    pub fn is_continued(&self, shard_id: &str) -> bool {
        self.shards.values().any(|known| known.parents.iter().any(|parent| parent == shard_id))
    }

    /// Whether the shard is listed already.
    #[must_use]
    pub fn knows(&self, shard_id: &str) -> bool {
        self.shards.contains_key(shard_id)
    }

    fn enter(&mut self, shard_id: &str, state: State) {
        if let Some(known) = self.shards.get_mut(shard_id) {
            known.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Names are one letter; `c<ab` is a merge of `a` and `b`.
    fn listing(text: &str) -> Vec<Listed> {
        let shard = |text: &str| {
            let (shard_id, parents) = text.split_once('<').unwrap_or((text, ""));
            let parents = parents.chars().map(String::from).collect();
            Listed { shard_id: shard_id.to_owned(), parents }
        };
        text.split_whitespace().map(shard).collect()
    }

    #[track_caller]
    fn check(listed: &str, steps: &[(&str, &str)]) {
        let mut lineage = Lineage::default();
        lineage.learn(&listing(listed));
        for (finished, begun) in steps {
            finished.chars().for_each(|shard| lineage.finish(&shard.to_string()));
            assert_eq!(lineage.begin().concat(), *begun, "{listed}, after {finished}");
        }
    }

    #[test]
    fn children_begin_when_their_parents_are_finished() {
        check("a b<a c<a", &[("", "a"), ("", ""), ("a", "bc")]);
        check("a b c<ab", &[("", "ab"), ("a", ""), ("b", "c")]);
        check("b<a c<b", &[("", "b"), ("b", "c")]);
    }

    /// A child on the page before its parent's is no child of a trimmed shard.
    #[test]
    fn a_listing_has_no_order() {
        check("z<y y", &[("", "y"), ("y", "z")]);
    }

    /// Every lineage of up to five shards with up to two parents each, every subset of it
    /// known from the beginning, and every order in which shards can finish.
    // R28
    #[test]
    fn no_order_of_ends_lets_a_child_begin_before_its_parents_or_never() {
        let mut cases = 0;
        for size in 1..=5 {
            for parents in parents_of(size) {
                let names: Vec<String> = (0..size).map(|at| at.to_string()).collect();
                let listed: Vec<Listed> = (0..size)
                    .map(|at| Listed {
                        shard_id: names[at].clone(),
                        parents: parents[at].iter().map(ToString::to_string).collect(),
                    })
                    .collect();
                for known in 1..=size {
                    let mut lineage = Lineage::default();
                    lineage.learn(&listed[..known]);
                    let run = Run { parents: &parents, listed: &listed, cases: &mut cases };
                    run.explore(lineage, &BTreeSet::new(), &BTreeSet::new());
                }
            }
        }
        assert!(cases > 10_000, "{cases}");
    }

    /// For each shard the choice of none, one or two of those before it.
    fn parents_of(size: usize) -> Vec<Vec<Vec<usize>>> {
        let mut all = vec![Vec::new()];
        for at in 0..size {
            let mut choices = vec![Vec::new()];
            choices.extend((0..at).map(|one| vec![one]));
            choices.extend((0..at).flat_map(|one| (0..one).map(move |two| vec![two, one])));
            all = all
                .into_iter()
                .flat_map(|before: Vec<Vec<usize>>| {
                    choices
                        .iter()
                        .map(move |choice| before.iter().cloned().chain([choice.clone()]).collect())
                })
                .collect();
        }
        all
    }

    struct Run<'a> {
        parents: &'a [Vec<usize>],
        listed: &'a [Listed],
        cases: &'a mut usize,
    }

    impl Run<'_> {
        fn explore(self, mut lineage: Lineage, begun: &BTreeSet<usize>, ended: &BTreeSet<usize>) {
            let mut begun = begun.clone();
            for shard in lineage.begin() {
                let shard: usize = shard.parse().unwrap();
                assert!(begun.insert(shard), "shard {shard} began twice");
                let is_over = self.parents[shard].iter().all(|parent| ended.contains(parent));
                assert!(is_over, "shard {shard} of {:?} began after {ended:?}", self.parents);
            }
            let under_way: Vec<usize> = begun.difference(ended).copied().collect();
            if under_way.is_empty() {
                *self.cases += 1;
                assert_eq!(ended.len(), self.parents.len(), "{:?} came to a stop", self.parents);
            }
            for shard in under_way {
                let mut ended = ended.clone();
                ended.insert(shard);
                let mut next = lineage.again();
                next.finish(&shard.to_string());
                // What is new in the stream is listed when a shard has ended.
                next.learn(self.listed);
                let run = Run { cases: &mut *self.cases, ..self };
                run.explore(next, &begun, &ended);
            }
        }
    }

    impl Lineage {
        fn again(&self) -> Self {
            let again = |known: &Known| Known { parents: known.parents.clone(), ..*known };
            let shards = self.shards.iter().map(|(id, known)| (id.clone(), again(known)));
            Self { shards: shards.collect() }
        }
    }
}
