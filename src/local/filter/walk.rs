//! A compiled pattern held against an event.
//!
//! The walk follows the pattern. Each of its nodes meets each value of its path once, so the
//! work is bounded by the number of nodes times the number of values of one path: linear in the
//! event for a given pattern, and in the pattern for a given event. Alternatives of `$or` are
//! tried where they stand and arrays are not multiplied out, as neither has to be.
//!
//! What is asked of several members of an object is asked of one object: in an array of
//! objects all of it has to be found in one element, as `event-ruler` does it. What it gives up:
//! `event-ruler` multiplies `$or` out before it looks at arrays, so alternatives that ask for
//! what is absent may each be absent from another element here, and not there.

use super::{
    compile::Node,
    event::{Event, Member, Place, Value},
    leaf::Leaf,
};

/// What the values of a path say to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    No,
    /// Only because something is not there. In an array that has to be so for all elements.
    ByAbsence,
    Yes,
}

/// Whether the event is what the node asks for, and in how many steps that was found.
pub(super) fn matches(node: &Node, event: &Event<'_>) -> (bool, u64) {
    let mut walk = Walk { event, steps: 0 };
    // The event is the object itself: nothing else has members to ask for.
    let object = matches!(event.value(Event::ROOT), Value::Object(_)).then_some(Event::ROOT);
    let answer = walk.object(node, object);
    (answer != Answer::No, walk.steps)
}

struct Walk<'e, 't> {
    event: &'e Event<'t>,
    /// Nodes and lists that met a value.
    steps: u64,
}

impl Walk<'_, '_> {
    /// What an object says, or the lack of one.
    fn object(&mut self, node: &Node, object: Option<Place>) -> Answer {
        self.steps += 1;
        let event = self.event;
        let members = match object.map(|object| event.value(object)) {
            Some(Value::Object(members)) => Some(members),
            _ => None,
        };
        // An object of which nothing is asked says nothing.
        let mut all = Answer::ByAbsence;
        for (key, inner) in &node.members {
            let member = members.and_then(|members| members.get(key.as_ref()));
            match self.member(inner, member) {
                Answer::No => return Answer::No,
                answer => all = all.max(answer),
            }
        }
        for alternatives in &node.alternatives {
            let mut best = Answer::No;
            for alternative in alternatives {
                best = best.max(self.object(alternative, object));
                if best == Answer::Yes {
                    break;
                }
            }
            if best == Answer::No {
                return Answer::No;
            }
            all = all.max(best);
        }
        all
    }

    /// What all that stands at one path says.
    fn member(&mut self, node: &Node, member: Option<&Member>) -> Answer {
        let (mut scalars, mut objects) = (Vec::new(), Vec::new());
        let mut left: Vec<Place> = Vec::new();
        if let Some(member) = member {
            objects.extend(member.object);
            left.extend(&member.others);
        }
        // Arrays in arrays are one array.
        while let Some(place) = left.pop() {
            match self.event.value(place) {
                Value::Array(elements) => left.extend(elements),
                Value::Object(_) => objects.push(place),
                _ => scalars.push(place),
            }
        }
        let mut all = Answer::ByAbsence;
        for leaf in &node.leaves {
            match self.leaf(leaf, &scalars) {
                Answer::No => return Answer::No,
                answer => all = all.max(answer),
            }
        }
        if node.members.is_empty() && node.alternatives.is_empty() {
            return all;
        }
        let mut worst = Answer::Yes;
        let mut best = Answer::No;
        if !scalars.is_empty() || objects.is_empty() {
            // What is no object has none of the members.
            let answer = self.object(node, None);
            (worst, best) = (answer, answer);
        }
        for object in objects {
            if best == Answer::Yes {
                break;
            }
            let answer = self.object(node, Some(object));
            (worst, best) = (worst.min(answer), best.max(answer));
        }
        match (best, worst) {
            (Answer::Yes, _) => Answer::Yes,
            (Answer::ByAbsence, Answer::ByAbsence) => all,
            _ => Answer::No,
        }
    }

    /// One of the values has to be taken. Objects are no values: recorded at AWS, `exists` does
    /// not see them, so that with `false` it takes them for absent.
    fn leaf(&mut self, leaf: &Leaf, scalars: &[Place]) -> Answer {
        for scalar in scalars {
            self.steps += 1;
            if leaf.takes(self.event.value(*scalar)) {
                return Answer::Yes;
            }
        }
        if leaf.is_absent && scalars.is_empty() { Answer::ByAbsence } else { Answer::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::filter::Pattern;

    /// The steps of lists of so many alternatives, which no element of so many meets.
    fn steps(lists: usize, alternatives: usize, elements: usize) -> u64 {
        let alternative = |at: usize| format!(r#"{{"a":["{at}"]}}"#);
        let list: Vec<String> = (0..alternatives).map(alternative).collect();
        let list = format!(r#""$or":[{}]"#, list.join(","));
        let pattern = format!(r#"{{"l":{{{}}}}}"#, vec![list; lists].join(","));
        let event = format!(r#"{{"l":[{}]}}"#, vec![r#"{"a":"x"}"#; elements].join(","));
        let (pattern, event) = (Pattern::parse(&pattern).unwrap(), Event::parse(&event).unwrap());
        let (is_match, steps) = matches(&pattern.root, &event);
        assert!(!is_match);
        steps
    }

    #[test]
    fn twice_the_pattern_or_twice_the_event_takes_twice_the_steps() {
        let base = steps(1, 20, 200);
        assert!(base >= 20 * 200, "every alternative meets every element: {base}");
        for twice in [steps(1, 40, 200), steps(1, 20, 400), steps(2, 20, 200)] {
            assert!(twice <= 2 * base, "{twice} steps, {base} for half of it");
        }
    }
}
