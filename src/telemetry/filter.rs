//! Which log events are written: the setting, within what is safe.
//!
//! Dependencies print what passes through them: AWS's SDK whole answers at TRACE and parts of
//! them in errors at DEBUG, its signer the headers, the HTTP client its frames. A payload must
//! not reach the log because somebody looks for a slow connection. So whatever the setting says,
//! [`HELD`] crates log at [`HELD_LEVEL`] at most, also where a directive names them; of what
//! they log there nothing is a body (looked through in the versions of `Cargo.lock`). A level
//! without a target holds at TRACE for this crate, and at DEBUG for those that are neither ours
//! nor held: for more, name yours.

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};

/// The most that a held crate logs.
pub const HELD_LEVEL: LevelFilter = LevelFilter::INFO;

/// What the targets of held crates begin with: every crate that we depend on and that logs (a
/// test holds this against `Cargo.lock`), and clients that a processor is likely to use.
pub const HELD: [&str; 24] = [
    "aws_",
    "dynoxide",
    "h2",
    "http",
    "hyper",
    "iana_time_zone",
    "jiff",
    "lambda_http",
    "lambda_runtime",
    "lapin",
    "metrics_cloudwatch_embedded",
    "mio",
    "mongodb",
    "rdkafka",
    "redis",
    "reqwest",
    "rustls",
    "sqlparser",
    "sqlx",
    "tokio",
    "tonic",
    "tower",
    "ureq",
    "want",
];

/// Ours.
const OWN: &str = "changefold";

/// Lambda's runtime logs a panic with its message; we have said that there was one.
const SILENCED: &str = "lambda_runtime::layers::panic";

/// The setting, within what is safe.
#[derive(Debug, Clone)]
pub struct Filter {
    /// What is written.
    pub targets: Targets,
    /// Whether the setting asks for more of a held crate.
    pub is_held: bool,
}

impl Filter {
    /// Reads a level, or `TARGET=LEVEL` with commas between.
    ///
    /// # Errors
    /// It is neither.
    pub fn of(setting: &str) -> Result<Self, ParseError> {
        let asked: Targets = setting.parse()?;
        let default = asked.default_level().unwrap_or(LevelFilter::OFF);
        let mut is_held = default > HELD_LEVEL;
        let mut targets =
            Targets::new().with_default(default.min(LevelFilter::DEBUG)).with_target(OWN, default);
        for held in HELD {
            targets = targets.with_target(held, asked_of(&asked, held).min(HELD_LEVEL));
        }
        for (target, level) in asked.iter().filter(|(target, _)| !target.starts_with(SILENCED)) {
            let is_of_held = HELD.iter().any(|held| target.starts_with(held));
            is_held |= is_of_held && level > HELD_LEVEL;
            let level = if is_of_held { level.min(HELD_LEVEL) } else { level };
            targets = targets.with_target(target, level);
        }
        Ok(Self { targets: targets.with_target(SILENCED, LevelFilter::OFF), is_held })
    }
}

/// The level of the directive that says most about a target.
fn asked_of(asked: &Targets, target: &str) -> LevelFilter {
    let directives = asked.iter().filter(|(prefix, _)| target.starts_with(prefix));
    let closest = directives.max_by_key(|(prefix, _)| prefix.len());
    closest.map(|(_, level)| level).or(asked.default_level()).unwrap_or(LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[track_caller]
    fn check(setting: &str, target: &str, most: Option<Level>) {
        let Filter { targets, .. } = Filter::of(setting).unwrap();
        let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        let found = levels.into_iter().find(|level| targets.would_enable(target, level));
        assert_eq!(found, most, "{setting}: {target}");
    }

    #[test]
    fn a_held_crate_stays_held_whatever_the_setting_says() {
        let bodies = "aws_smithy_runtime::client::orchestrator";
        for setting in [
            "trace",
            "debug",
            "aws_smithy_runtime=trace",
            "aws_smithy_runtime::client::orchestrator=trace",
            "aws=trace",
            "info,aws_smithy=debug",
            "warn,a=trace",
        ] {
            check(setting, bodies, Some(Level::INFO));
        }
        check("warn", bodies, Some(Level::WARN));
        check("trace,aws_smithy_runtime=off", bodies, None);
        check("orders=trace", bodies, None);
        check("trace,hyper=trace", "hyper::proto::h1", Some(Level::INFO));
    }

    #[test]
    fn others_log_what_the_setting_says() {
        check("trace", "changefold::batch", Some(Level::TRACE));
        check("trace,changefold=warn", "changefold::batch", Some(Level::WARN));
        check("info,changefold::view=debug", "changefold::view", Some(Level::DEBUG));
        check("debug", "orders", Some(Level::DEBUG));
        check("trace", "orders", Some(Level::DEBUG));
        check("info,orders=trace", "orders::ship", Some(Level::TRACE));
        check("info", "orders", Some(Level::INFO));
    }

    #[test]
    fn a_panics_message_is_silenced_also_where_it_is_asked_for() {
        check("trace", SILENCED, None);
        check("lambda_runtime::layers::panic=trace", SILENCED, None);
        check("lambda_runtime::layers::panic::catch=trace", SILENCED, None);
        check("trace", "lambda_runtime::runtime", Some(Level::INFO));
    }

    #[test]
    fn asking_for_more_is_noticed() {
        let is_held = |setting| Filter::of(setting).unwrap().is_held;
        assert!(is_held("trace") && is_held("debug") && is_held("info,hyper=debug"));
        assert!(!is_held("info") && !is_held("info,changefold=trace") && !is_held("hyper=warn"));
        assert!(Filter::of("a=b=c").is_err());
    }

    /// `Cargo.lock` names what each crate depends on; one that depends on a log writes to it.
    #[test]
    fn every_crate_that_logs_is_held() {
        let lock = include_str!("../../Cargo.lock");
        let mut logging = 0;
        for package in lock.split("[[package]]").skip(1) {
            let name = package.split('"').nth(1).unwrap().replace('-', "_");
            let depends = |on: &str| package.contains(&format!("\n \"{on}\""));
            let is_log = name.starts_with("tracing") || name.starts_with(OWN);
            if is_log || !(depends("tracing") || depends("log")) {
                continue;
            }
            logging += 1;
            assert!(HELD.iter().any(|held| name.starts_with(held)), "{name} is not held");
        }
        assert!(logging > 10, "the control: {logging}");
    }
}
