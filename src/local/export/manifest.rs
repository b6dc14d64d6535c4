//! The two manifests of an export.

use crate::operation::backfill::export::ExportMade;
use aws_smithy_types::date_time::{DateTime, Format};
use serde::Deserialize;

/// The file that says what the export is of.
pub(super) const SUMMARY: &str = "manifest-summary.json";
/// The file that names the data files, one a line.
pub(super) const FILES: &str = "manifest-files.json";

/// What a full export says of its type, and DynamoDB's JSON of its format.
const FULL: &str = "FULL_EXPORT";
const DYNAMODB_JSON: &str = "DYNAMODB_JSON";

const HOW_TO_EXPORT: &str = "export the table again with `--export-type FULL_EXPORT \
     --export-format DYNAMODB_JSON`";

/// What an export is of.
#[derive(Debug)]
pub(super) struct Summary {
    arn: String,
    table_arn: String,
    table_id: Option<String>,
    time_ms: i64,
    bytes: u64,
    items: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryText {
    export_arn: String,
    table_arn: String,
    #[serde(default)]
    table_id: Option<String>,
    /// An incremental export has none.
    #[serde(default)]
    export_time: Option<String>,
    #[serde(default)]
    export_type: Option<String>,
    #[serde(default)]
    output_format: Option<String>,
    #[serde(default)]
    billed_size_bytes: u64,
    item_count: u64,
}

impl Summary {
    /// Reads the summary; otherwise what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let read: SummaryText = serde_json::from_str(text)
            .map_err(|error| format!("it is not the summary of an export: {error}"))?;
        let kind = read.export_type.as_deref().unwrap_or(FULL);
        if kind != FULL || read.export_time.is_none() {
            let what = "the export is incremental: it has what changed, and not the whole table";
            return Err(format!("{what}; {HOW_TO_EXPORT}"));
        }
        let format = read.output_format.as_deref().unwrap_or(DYNAMODB_JSON);
        if format != DYNAMODB_JSON {
            return Err(format!("the export's format is {format}; {HOW_TO_EXPORT}"));
        }
        let time = read.export_time.unwrap_or_default();
        let moment = DateTime::from_str(&time, Format::DateTime).ok();
        let time_ms = moment.and_then(|moment| moment.to_millis().ok());
        let time_ms = time_ms.ok_or_else(|| format!("exportTime is no moment: {time}"))?;
        Ok(Self {
            arn: read.export_arn,
            table_arn: read.table_arn,
            table_id: read.table_id,
            time_ms,
            bytes: read.billed_size_bytes,
            items: read.item_count,
        })
    }

    pub(super) fn made(self, files: u32) -> ExportMade {
        let Self { arn, table_arn, table_id, time_ms, bytes, items } = self;
        ExportMade { arn, time_ms, table_arn, table_id, files, items, bytes }
    }
}

/// A data file.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    /// Its name in the folder of the data files.
    pub(super) name: String,
    pub(super) items: u64,
    /// Of the compressed file, in Base64.
    pub(super) md5: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataFileText {
    item_count: u64,
    #[serde(default)]
    md5_checksum: Option<String>,
    #[serde(rename = "dataFileS3Key")]
    key: String,
}

impl DataFile {
    /// Reads the list of data files, in the order of their names; otherwise what is wrong with it.
    pub(super) fn read_all(text: &str, summary: &Summary) -> Result<Vec<Self>, String> {
        let mut files = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = index + 1;
            let read: DataFileText = serde_json::from_str(line)
                .map_err(|error| format!("line {number} names no data file: {error}"))?;
            let name = read.key.rsplit('/').next().unwrap_or_default();
            if !name.ends_with(".json.gz") {
                return Err(format!("line {number}: {name} is not gzipped JSON; {HOW_TO_EXPORT}"));
            }
            let (items, md5) = (read.item_count, read.md5_checksum);
            files.push(Self { name: name.to_owned(), items, md5 });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let twice = files.windows(2).find(|pair| pair[0].name == pair[1].name);
        if let Some([file, _]) = twice {
            return Err(format!("{} is named twice", file.name));
        }
        let items: u64 = files.iter().map(|file| file.items).sum();
        if items != summary.items {
            let expected = summary.items;
            return Err(format!(
                "its files have {items} items, and the summary says {expected}: a part of it is \
                 missing; copy it again, or export the table again"
            ));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY_OF_AWS: &str = r#"{"version":"2020-06-30",
        "exportArn":"arn:aws:dynamodb:us-east-1:123456789012:table/ProductCatalog/export/01",
        "startTime":"2020-11-04T07:28:34.028Z","endTime":"2020-11-04T07:33:43.897Z",
        "tableArn":"arn:aws:dynamodb:us-east-1:123456789012:table/ProductCatalog",
        "tableId":"12345a12-abcd-123a-ab12-1234abc12345","exportTime":"2020-11-04T07:28:34.028Z",
        "s3Bucket":"ddb-productcatalog-export","s3Prefix":"2020-Nov","s3SseAlgorithm":"AES256",
        "s3SseKmsKeyId":null,"manifestFilesS3Key":"AWSDynamoDB/01/manifest-files.json",
        "billedSizeBytes":0,"itemCount":8,"outputFormat":"DYNAMODB_JSON"}"#;
    const FILE_OF_AWS: &str = r#"{"itemCount":8,"md5Checksum":"sQMSpEILNgoQmarvDFonGQ==",
        "etag":"af83d6f217c19b8b0fff8023d8ca4716-1",
        "dataFileS3Key":"AWSDynamoDB/01/data/asdl123dasas.json.gz"}"#;

    #[test]
    fn the_examples_of_the_developer_guide_are_read() {
        let summary = Summary::read(SUMMARY_OF_AWS).unwrap();
        let files = DataFile::read_all(&FILE_OF_AWS.replace('\n', ""), &summary).unwrap();
        assert_eq!((files[0].name.as_str(), files[0].items), ("asdl123dasas.json.gz", 8));
        let made = summary.made(1);
        assert_eq!((made.time_ms, made.items), (1_604_474_914_028, 8));
    }

    #[test]
    fn what_is_no_whole_table_in_json_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            assert!(SUMMARY_OF_AWS.contains(from), "{from}");
            Summary::read(&SUMMARY_OF_AWS.replace(from, to)).unwrap_err()
        };
        let incremental = refused("exportTime", "exportToTime");
        assert!(incremental.contains("incremental") && incremental.contains("FULL_EXPORT"));
        assert!(
            refused("itemCount", "exportType\":\"INCREMENTAL_EXPORT\",\"itemCount")
                .contains("incremental")
        );
        assert!(refused("DYNAMODB_JSON", "ION").contains("ION"));
        assert!(refused("exportArn", "arn").contains("exportArn"));
        assert!(refused("\"exportTime\":\"2020", "\"exportTime\":\"MMXX").contains("exportTime"));
        let summary = Summary::read(SUMMARY_OF_AWS).unwrap();
        let files = |text: &str| DataFile::read_all(text, &summary).unwrap_err();
        assert!(files("").contains("a part of it is missing"));
        assert!(files("{}").contains("line 1"));
        let line = FILE_OF_AWS.replace('\n', "");
        assert!(files(&format!("{line}\n{line}")).contains("twice"));
        assert!(files(&line.replace(".json.gz", ".ion.gz")).contains("export-format"));
    }
}
