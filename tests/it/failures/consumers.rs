//! Two consumers of one stream, which share their tables and know nothing of each other.
//!
//! Each has a mapping, a time and a checker of its own; what one does must never count for the
//! other. A turns lets them take turns in the middle of their invocations.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Waker},
};

/// The names of the two functions.
pub(crate) const NAMES: [&str; 2] = ["steps", "steps-too"];

/// One side of the turns.
#[derive(Clone)]
pub(crate) struct Turns {
    side: usize,
    sides: Rc<RefCell<[Side; 2]>>,
}

#[derive(Default)]
struct Side {
    waiting: Vec<Waker>,
    is_over: bool,
}

impl Turns {
    pub(crate) fn both() -> [Self; 2] {
        let sides = Rc::<RefCell<[Side; 2]>>::default();
        [0, 1].map(|side| Self { side, sides: Rc::clone(&sides) })
    }

    /// Whether it is the other's turn now. Whoever asks lets the other go on after that.
    pub(crate) fn is_with_the_other(&self, context: &Context<'_>, rng: &mut fastrand::Rng) -> bool {
        let mut sides = self.sides.borrow_mut();
        let (side, other) = (self.side, 1 - self.side);
        sides[other].waiting.drain(..).for_each(Waker::wake);
        let waits = !sides[other].is_over && rng.u8(..4) == 0;
        if waits {
            sides[side].waiting.push(context.waker().clone());
        }
        waits
    }

    /// This side has come to its end.
    pub(crate) fn end(&self) {
        let mut sides = self.sides.borrow_mut();
        sides[self.side].is_over = true;
        sides[1 - self.side].waiting.drain(..).for_each(Waker::wake);
    }
}
