//! Exports of tables and archives of streams in a bucket, read by the command line.

use super::config;
use crate::{
    archive,
    backfill::exported::{self, Folder, ORDERS, age_the_run, items_of, write_export},
    support::environment,
};
use std::{fs, path::Path};

async fn bucket(server: &str, name: &str) -> aws_sdk_s3::Client {
    let config = config!(aws_sdk_s3, server).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(config);
    s3.create_bucket().bucket(name).send().await.unwrap();
    s3
}

async fn put(s3: &aws_sdk_s3::Client, bucket: &str, key: &str, file: &Path) {
    let body = fs::read(file).unwrap().into();
    s3.put_object().bucket(bucket).key(key).body(body).send().await.unwrap();
}

/// Copies of objects that a command has left behind.
fn left_behind(name: &str) -> usize {
    let entries = fs::read_dir(std::env::temp_dir()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|it| it.starts_with("changefold-") && it.ends_with(name)).count()
}

#[test]
fn a_table_is_backfilled_from_an_export_in_a_bucket() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    exported::with_a_desk(async |shop, embedded, desk| {
        let s3 = bucket(&server, "exports").await;
        assert_eq!(desk.backfill(&["--export"]).0, Some(0));
        age_the_run(&embedded);
        let (folder, items) = (Folder::new(), items_of(&embedded));
        write_export(folder.path(), &items, ORDERS, &exported::now());
        for folder_of in ["", "data/"] {
            for entry in fs::read_dir(folder.path().join(folder_of)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let name = entry.file_name().into_string().unwrap();
                    let key = format!("daily/AWSDynamoDB/01/{folder_of}{name}");
                    put(&s3, "exports", &key, &entry.path()).await;
                }
            }
        }
        let run = |named: &str| {
            let start = ["backfill", "--table", "orders", "--yes", "--export", named];
            desk.run_with(&start, &[("AWS_ENDPOINT_URL_S3", &server)])
        };
        let (code, _, said) = run("s3://exports/daily/AWSDynamoDB/02");
        assert!(code == Some(2) && said.contains("not COMPLETED"), "{said}");
        let (code, told, said) = run("s3://exports/daily/AWSDynamoDB/01/");
        assert_eq!((code, told.contains("catching up")), (Some(0), true), "{said}{told}");
        assert_eq!(desk.counts()["added"], 50);
        exported::is_exact(&shop, &items).await;
        assert_eq!(left_behind("x7rmb4dsy5e3lfa6zsjrmgbxu.json.gz"), 0);
    });
}

#[test]
fn an_archive_in_a_bucket_is_applied_once() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    archive::with_a_desk(async |desk| {
        let s3 = bucket(&server, "archive").await;
        let records = archive::clicks(60);
        for (number, record) in records.iter().enumerate() {
            let file = desk.folder.path().join("one.jsonl");
            fs::write(&file, record.to_string()).unwrap();
            put(&s3, "archive", &format!("2026/{number:04}/clicks.jsonl"), &file).await;
        }
        let run =
            |archive: &str| desk.replay_with(archive, &[], &[("AWS_ENDPOINT_URL_S3", &server)]);
        let (code, counts, said) = run("s3://archive/2026/");
        assert_eq!((code, counts), (Some(0), (60, 0)), "{said}");
        assert_eq!(run("s3://archive/2026").1, (0, 60));
        assert_eq!(run("s3://archive/2026/0007/clicks.jsonl").1, (0, 1));
        desk.is_exact(0, &archive::items(&records, false)).await;
        assert_eq!(left_behind("clicks.jsonl"), 0);
    });
}
