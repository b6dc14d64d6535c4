//! Which version or alias of a function its event source mappings invoke.
//!
//! A function's name alone is `$LATEST`, which in most deployments is not what processes the
//! stream: it may be older or newer code, with other settings. So a name without a qualifier is
//! looked up: whose mapping is there, of the name itself and of its aliases. AWS lists mappings
//! by the exact name they were made with, so each alias is asked for. What it gives up: a
//! mapping made with a version's number is not found; name it.
//!
//! Source: Lambda API reference, `ListEventSourceMappings` and `ListAliases`.

use super::Deployed;
use crate::{
    invoke::encoded,
    local::cli::{Complaint, talk},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// A mapping in these states invokes nothing.
const IDLE_STATES: [&str; 3] = ["Disabled", "Disabling", "Deleting"];

/// Pages of a list, before it is taken for endless.
const PAGES_MAX: usize = 100;

/// The version or alias in a function's name or ARN.
pub(super) fn qualifier_of(function: &str) -> Option<&str> {
    let name = function.rsplit_once("function:").map_or(function, |(_, name)| name);
    name.split_once(':').map(|(_, qualifier)| qualifier)
}

/// Why nothing is known of a function's mappings.
enum Unknown {
    /// Lambda refuses to say.
    Refused(u16),
    /// It cannot be asked.
    Failed(Complaint),
}

impl From<Complaint> for Unknown {
    fn from(complaint: Complaint) -> Self {
        Self::Failed(complaint)
    }
}

impl Deployed {
    /// Takes the version or alias that the function's mappings invoke, and says so.
    ///
    /// # Errors
    /// Lambda cannot be asked, or several are invoked.
    pub(super) async fn qualify(self) -> Result<Self, Complaint> {
        let function = &self.function;
        let mapped = match self.mapped().await {
            Ok(mapped) => mapped,
            Err(Unknown::Failed(complaint)) => return Err(complaint),
            Err(Unknown::Refused(status)) => {
                talk(format_args!(
                    "asking {function}:$LATEST: which version or alias its event source mapping \
                     invokes is not known (Lambda answered {status})\nhint: name it, as in \
                     --function NAME:ALIAS, or allow lambda:ListAliases and \
                     lambda:ListEventSourceMappings"
                ));
                return Ok(self);
            }
        };
        let mut qualifiers = mapped.into_iter();
        match (qualifiers.next(), qualifiers.next()) {
            (None, _) => {
                talk(format_args!(
                    "asking {function}:$LATEST: no event source mapping of it or its aliases is \
                     known\nhint: name a version or alias, as in --function NAME:ALIAS"
                ));
                Ok(self)
            }
            (Some((qualifier, source)), None) => {
                talk(format_args!(
                    "asking {function}:{qualifier}, which the event source mapping of {source} \
                     invokes"
                ));
                let function = format!("{function}:{qualifier}");
                Ok(if qualifier == LATEST { self } else { Self { function, ..self } })
            }
            (Some(first), Some(second)) => {
                let all = [first, second].into_iter().chain(qualifiers);
                let all: Vec<_> = all.map(|(it, source)| format!("{it} ({source})")).collect();
                Err(Complaint::new(format!(
                    "event source mappings invoke several versions or aliases of {function}: {}",
                    all.join(", ")
                ))
                .with_hint("each may park records of its own: name one, as in NAME:ALIAS"))
            }
        }
    }

    /// By version or alias, a source whose mapping invokes it.
    async fn mapped(&self) -> Result<BTreeMap<String, String>, Unknown> {
        let name = encoded(&self.function);
        let aliases = self.listed(&format!("functions/{name}/aliases?"), "Aliases").await?;
        let aliases = aliases.iter().filter_map(|it| it["Name"].as_str()).map(Some);
        let (mut active, mut idle) = (BTreeMap::new(), BTreeMap::new());
        for alias in std::iter::once(None).chain(aliases) {
            let name = alias.map_or_else(|| self.function.clone(), |it| self.of_alias(it));
            let path = format!("event-source-mappings/?FunctionName={}&", encoded(&name));
            for mapping in self.listed(&path, "EventSourceMappings").await? {
                let arn = mapping["FunctionArn"].as_str().unwrap_or_default();
                let qualifier = qualifier_of(arn).unwrap_or(LATEST).to_owned();
                let source = mapping["EventSourceArn"].as_str().unwrap_or("an unnamed source");
                let is_idle = IDLE_STATES.map(Some).contains(&mapping["State"].as_str());
                let found = if is_idle { &mut idle } else { &mut active };
                found.entry(qualifier).or_insert_with(|| source.to_owned());
            }
        }
        Ok(if active.is_empty() { idle } else { active })
    }

    fn of_alias(&self, alias: &str) -> String {
        format!("{}:{alias}", self.function)
    }

    /// All entries of a list, page by page.
    async fn listed(&self, path: &str, member: &str) -> Result<Vec<Value>, Unknown> {
        let (mut listed, mut marker) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let path = format!("{path}MaxItems=50{marker}");
            let mut answer = self.ask("GET", &path, Vec::new()).await?;
            if answer.status != 200 {
                return Err(Unknown::Refused(answer.status));
            }
            if let Value::Array(page) = answer.value[member].take() {
                listed.extend(page);
            }
            match answer.value["NextMarker"].as_str().filter(|marker| !marker.is_empty()) {
                None => break,
                Some(next) => marker = format!("&Marker={}", encoded(next)),
            }
        }
        Ok(listed)
    }
}

/// What a name without a qualifier is.
const LATEST: &str = "$LATEST";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualifier_is_found_in_every_form_of_a_name() {
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:orders";
        for (function, expected) in [
            ("orders", None),
            ("orders:live", Some("live")),
            ("123456789012:function:orders", None),
            ("123456789012:function:orders:7", Some("7")),
            (arn, None),
            (&format!("{arn}:$LATEST"), Some("$LATEST")),
        ] {
            assert_eq!(qualifier_of(function), expected, "{function}");
        }
    }
}
