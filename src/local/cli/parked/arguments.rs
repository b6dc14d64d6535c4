//! The arguments of `parked`.

use crate::local::cli::{Format, PlaceArgs};
use clap::{Args, Subcommand};

/// Looks at parked records, redrives them, or gives them up.
#[derive(Debug, Args)]
pub(in crate::local::cli) struct ParkedArgs {
    #[command(subcommand)]
    pub(super) verb: ParkedVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum ParkedVerb {
    /// Lists the records that failed, with how many of their key queue behind.
    List(ListArgs),
    /// Prints whole envelopes: the failure, the attempts, the record.
    Show(ShowArgs),
    /// Processes parked records, each key's in order, and lifts the holds.
    Redrive(RedriveArgs),
    /// Gives records up for good; receipts of them stay.
    Drop(DropArgs),
}

#[derive(Debug, Args)]
pub(super) struct SelectionArgs {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    /// Only this key, as the list prints it; may be given several times.
    #[arg(long = "key", value_name = "KEY")]
    pub(super) keys: Vec<String>,
    /// Not this key; may be given several times.
    #[arg(long, value_name = "KEY")]
    pub(super) exclude: Vec<String>,
    /// Only records of this table or stream, by name or ARN.
    #[arg(long, value_name = "NAME|ARN")]
    pub(super) source: Option<String>,
    /// Only records that failed with this code; a redrive takes keys whose first record did.
    #[arg(long, value_name = "CODE")]
    pub(super) error_code: Option<String>,
    /// Only records parked at this moment or later, like 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "MOMENT")]
    pub(super) since: Option<String>,
    /// Only records parked before this moment.
    #[arg(long, value_name = "MOMENT")]
    pub(super) until: Option<String>,
    /// At most so many records.
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// How the list is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// Without the records themselves.
    #[arg(long)]
    pub(super) no_payload: bool,
}

#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// Reads and decodes the records, does not run them, and changes nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also records that a later one of their key has overtaken.
    #[arg(long)]
    pub(super) superseded: bool,
    /// Also records that ended the process at earlier redrives.
    #[arg(long)]
    pub(super) crashed: bool,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    /// Only this record of the key.
    #[arg(long, value_name = "NUMBER")]
    pub(super) sequence_number: Option<String>,
    /// Yes, give them up.
    #[arg(long)]
    pub(super) yes: bool,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    pub(super) format: Format,
}

impl ParkedArgs {
    pub(super) fn place(&self) -> &PlaceArgs {
        match &self.verb {
            ParkedVerb::List(arguments) => &arguments.selection.place,
            ParkedVerb::Show(arguments) => &arguments.selection.place,
            ParkedVerb::Redrive(arguments) => &arguments.selection.place,
            ParkedVerb::Drop(arguments) => &arguments.selection.place,
        }
    }
}
