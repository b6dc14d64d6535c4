//! Makes another generation of a view the one that readers are given.
//!
//! One transaction changes the registry and the view's row, at the revision of the registry that
//! was read and only while the generation is ready. A reader's one read of the row gives either the
//! former table or the new one, and both are fed. What it gives up: a reader that asks for a table
//! and reads it later may read the former one for so long.

use crate::{
    call::{Call, Halt},
    operation::generations::{Switch, Switched},
    store::rows::{Change, number, text, text_of},
    view::{
        building::{self, STATE, ViewState},
        registry,
        served::Served,
        source_item::LEDGER_KEY,
    },
};

impl Served {
    /// Makes a generation current.
    ///
    /// # Errors
    /// There is no such generation, or it is not ready; the ledger is another function's by now;
    /// or the store does not answer.
    pub(in crate::view) async fn switch(
        &self,
        switch: &Switch,
        call: &Call,
    ) -> Result<Switched, Halt> {
        let (store, table) = self.ledger_place();
        let deadline = call.deadline;
        loop {
            let mut registry = self.owned_registry(deadline).await?;
            let name = &switch.view;
            let number_of = switch.generation.or(registry.of(name).last().map(|(it, _)| it));
            let id = (name.clone(), number_of.unwrap_or_default());
            let known = registry.generations.get(&id).cloned().ok_or_else(|| no_such(&id))?;
            let from = registry.of(name).find(|(_, known)| known.is_current).map(|(it, _)| it);
            let told = Switched {
                view: name.clone(),
                from,
                generation: id.1,
                table: known.table.clone().unwrap_or_default(),
            };
            if known.is_current {
                return Ok(told);
            }
            let own_key = building::generation_key(name, id.1);
            let pointer_key = building::state_key(name);
            let keys = [own_key.clone(), pointer_key.clone()];
            let rows = store.batch_get(table, LEDGER_KEY, &keys, deadline).await;
            let rows = rows.map_err(|error| self.unanswered(error))?;
            let row = |key: &str| {
                let mut rows = rows.iter();
                rows.find(|row| text_of(row, LEDGER_KEY) == Some(key)).cloned()
            };
            let own = row(&own_key).unwrap_or_default();
            let is_ready = text_of(&own, STATE) == Some(ViewState::Ready.as_str());
            if !is_ready && !known.was_current {
                return Err(not_ready(&id, text_of(&own, STATE)));
            }
            let mut pointer = own.clone();
            pointer.extend([
                (LEDGER_KEY.to_owned(), text(&pointer_key)),
                ("view".to_owned(), text(name)),
                ("generation".to_owned(), number(id.1)),
                ("table".to_owned(), text(&told.table)),
            ]);
            let mut changes = vec![Change::put(table, pointer)];
            if is_ready {
                let own = Change::put(table, own).only_if("#s = :ready").name("#s", STATE);
                changes.push(own.value(":ready", text(ViewState::Ready.as_str())));
            }
            // The former first generation has no row of its own as long as it is current.
            if let (Some(1), Some(mut former)) = (from, row(&pointer_key)) {
                let key = text(building::generation_key(name, 1));
                former.insert(LEDGER_KEY.to_owned(), key);
                changes.push(Change::put(table, former));
            }
            for ((of, at), known) in &mut registry.generations {
                if of == name {
                    known.was_current |= known.is_current;
                    known.is_current = *at == id.1;
                }
            }
            let written = registry::wrote(store, table, (&registry, true), changes, deadline).await;
            if written.map_err(|error| self.unanswered(error))? {
                return Ok(told);
            }
        }
    }

    /// The registry as it is now, if the ledger is still this function's.
    pub(super) async fn owned_registry(
        &self,
        deadline: crate::record::Timestamp,
    ) -> Result<registry::Registry, Halt> {
        let (store, table) = self.ledger_place();
        Ok(registry::owned(store, table, &self.owner, deadline).await?)
    }
}

fn no_such((view, number): &registry::Id) -> Halt {
    let message = match number {
        0 => format!("no view {view} is registered: `view status` lists those that are"),
        _ => format!("view {view} has no generation {number}: `view status` lists those it has"),
    };
    Halt::new("GenerationUnknown", message)
}

fn not_ready((view, number): &registry::Id, state: Option<&str>) -> Halt {
    let state = state.unwrap_or("not backfilled");
    let message = format!(
        "generation {number} of view {view} is {state}: readers would miss items. `view backfill` \
         and `view ready` make it ready"
    );
    Halt::new("GenerationNotReady", message)
}
