//! What `dev` is asked.

use crate::local::{
    cli::assignment,
    template::{StreamOfKinesis, Table},
};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::local::cli) struct DevArgs {
    /// The SAM template with the tables, the streams and their event source mappings
    /// [default: infra/template.yaml].
    #[arg(long, value_name = "PATH")]
    pub(super) template: Option<PathBuf>,
    /// The function whose event sources run, when the template has several.
    #[arg(long, value_name = "LOGICAL_ID")]
    pub(super) function: Option<String>,
    /// A table to make and read beside the template's: its name and its key.
    #[arg(long = "table", value_name = "NAME=KEY[:N][,SORT[:N]]", value_parser = table)]
    pub(super) tables: Vec<Table>,
    /// A Kinesis stream to make and read beside the template's.
    #[arg(long = "stream", value_name = "NAME[=SHARDS]", value_parser = stream)]
    pub(super) streams: Vec<StreamOfKinesis>,
    /// Overrides a parameter of every mapping, by AWS's own name.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    pub(super) assignments: Vec<(String, String)>,
    /// Keeps tables, streams and checkpoints in this directory.
    #[arg(long, value_name = "PATH")]
    pub(super) state: Option<PathBuf>,
    /// The port of DynamoDB and Kinesis on this machine; 0 is a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8787)]
    pub(super) port: u16,
    /// Uses DynamoDB here, DynamoDB Local for instance, instead of serving it.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint_url: Option<String>,
    /// Uses Kinesis here, kinesis-local for instance [default: as --endpoint-url].
    #[arg(long, value_name = "URL", requires = "endpoint_url")]
    pub(super) kinesis_endpoint_url: Option<String>,
    /// Reads the tables' and streams' records on AWS, which is not written to; what the
    /// function keeps is kept on this machine.
    #[arg(long, conflicts_with_all = ["endpoint_url", "kinesis_endpoint_url"])]
    pub(super) aws: bool,
    /// Writes every record that comes through into this file, which `replay` plays again; of
    /// several event sources each into one of its own, which is named.
    #[arg(long, value_name = "FILE.jsonl", value_parser = fixture)]
    pub(super) record: Option<PathBuf>,
    /// Beside the views, the template and the program: a file or directory whose change lets the
    /// function begin anew.
    #[arg(long, value_name = "PATH")]
    pub(super) watch: Vec<PathBuf>,
    /// Serves no page of what happens.
    #[arg(long)]
    pub(super) no_page: bool,
    /// Tells of no invocation.
    #[arg(long)]
    pub(super) quiet: bool,
}

fn fixture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_one = path.extension().is_some_and(|end| end == "jsonl");
    is_one.then_some(path).ok_or("expected a name that ends in .jsonl".to_owned())
}

/// `orders=customer,placed_at:N`.
fn table(text: &str) -> Result<Table, String> {
    let expected =
        || "expected a name and a key, as in orders=order_id or log=host,at:N".to_owned();
    let (name, key) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(expected)?;
    let attributes: Vec<(String, String)> = key
        .split(',')
        .map(|part| match part.split_once(':').unwrap_or((part, "S")) {
            ("", _) => Err(expected()),
            (name, kind @ ("S" | "N" | "B")) => Ok((name.to_owned(), kind.to_owned())),
            (name, kind) => Err(format!("{name} is of type {kind}, expected S, N or B")),
        })
        .collect::<Result<_, _>>()?;
    if attributes.len() > 2 {
        return Err(expected());
    }
    Ok(Table {
        logical_id: name.to_owned(),
        name: name.to_owned(),
        key: attributes.iter().map(|(name, _)| name.clone()).collect(),
        attributes,
        view_type: Some("NEW_AND_OLD_IMAGES".to_owned()),
        ttl: None,
        indexes: Vec::new(),
    })
}

/// `clicks=4`.
fn stream(text: &str) -> Result<StreamOfKinesis, String> {
    let (name, shards) = text.split_once('=').unwrap_or((text, "1"));
    let shards = shards.parse().ok().filter(|shards| *shards > 0);
    if name.is_empty() || shards.is_none() {
        return Err("expected a name, and perhaps a number of shards, as in clicks=4".to_owned());
    }
    Ok(StreamOfKinesis {
        logical_id: name.to_owned(),
        name: name.to_owned(),
        shards,
        retention_hours: None,
    })
}

#[cfg(test)]
mod tests {
    use super::{stream, table};

    #[test]
    fn a_table_is_its_name_and_its_key() {
        let found = table("log=host,at:N").unwrap();
        assert_eq!((&*found.name, found.key), ("log", vec!["host".to_owned(), "at".to_owned()]));
        assert_eq!(found.attributes[1], ("at".to_owned(), "N".to_owned()));
        for wrong in ["log", "=a", "log=", "log=a:X", "log=a,b,c"] {
            assert!(table(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stream_is_its_name_and_its_shards() {
        assert_eq!(stream("clicks").unwrap().shards, Some(1));
        assert_eq!(stream("clicks=4").unwrap().shards, Some(4));
        for wrong in ["", "clicks=", "clicks=0", "clicks=x", "=4"] {
            assert!(stream(wrong).is_err(), "{wrong}");
        }
    }
}
