//! Fixtures with shards that continue others, as files; and what is refused of them.

use crate::oracle;
use changefold::local::source::Fixtures;
use std::{
    fmt::Write as _,
    io::Read as _,
    path::{Path, PathBuf},
};

/// A file of its own, gone at the end.
pub(super) struct File(PathBuf);

impl File {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let name = format!("changefold-lineage-{}-{name}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Two of the three shards of `flights-600`, and its views.
pub(super) struct TwoShards {
    file: File,
    pub(super) records: usize,
    pub(super) items: oracle::Items,
    pub(super) statements: Vec<String>,
}

impl TwoShards {
    pub(super) fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let packed = std::fs::File::open(root.join("fixtures/flights-600.jsonl.gz")).unwrap();
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(packed).read_to_string(&mut text).unwrap();
        let left_out = "\"shardId\":\"shardId-00000001356998400130-f4dea75d\"";
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(left_out)).collect();
        let file = File::new(name, &(lines.join("\n") + "\n"));
        let items = oracle::items(file.path());
        let views = std::fs::read_to_string(root.join("views/flights.sql")).unwrap();
        Self { records: lines.len(), file, items, statements: oracle::statements(&views) }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn open(&self) -> Fixtures {
        Fixtures::open(&[self.path().to_owned()]).unwrap()
    }
}

/// The fixture's records with the shards that they are in now, and lines that state these shards
/// or do not.
pub(super) fn written(
    two: &TwoShards,
    fixtures: &Fixtures,
    with_lines: bool,
    name: &str,
) -> Opened {
    let shards = fixtures.shards();
    let mut text = String::new();
    let mut stated = vec![false; shards.len()];
    let mut feed = fixtures.feed();
    let mut records = 0;
    for wanted in 0..shards.len() {
        while let Some(changefold::local::source::Fed { shard, entry, .. }) =
            feed.next(wanted, |_| true).unwrap()
        {
            if with_lines {
                state(fixtures, shard, &mut stated, &mut text);
            }
            let body = std::str::from_utf8(&entry.body).unwrap();
            let name = &shards[shard].shard_id;
            writeln!(text, "{{\"shardId\":\"{name}\",{}", &body[1..]).unwrap();
            records += 1;
        }
    }
    assert_eq!(records, two.records);
    let file = File::new(name, &text);
    let fixtures = Fixtures::open(&[file.path().to_owned()]).unwrap();
    Opened { fixtures, _file: file }
}

/// A fixture, and its file for as long as it is read.
pub(super) struct Opened {
    fixtures: Fixtures,
    _file: File,
}

impl std::ops::Deref for Opened {
    type Target = Fixtures;

    fn deref(&self) -> &Fixtures {
        &self.fixtures
    }
}

/// States a shard, and before it those it continues; once each.
fn state(fixtures: &Fixtures, shard: usize, stated: &mut [bool], text: &mut String) {
    if std::mem::replace(&mut stated[shard], true) {
        return;
    }
    let shards = fixtures.shards();
    let parents = &shards[shard].parents;
    for parent in parents {
        let at = shards.iter().position(|it| it.shard_id == *parent).unwrap();
        state(fixtures, at, stated, text);
    }
    let mut line = serde_json::json!({ "shardId": shards[shard].shard_id });
    for (name, parent) in ["parentShardId", "adjacentParentShardId"].iter().zip(parents) {
        line[name] = parent.as_str().into();
    }
    writeln!(text, "{line}").unwrap();
}

/// A record of a shard; its key is its number.
pub(super) fn record(shard: &str, number: u64) -> String {
    format!(
        r#"{{"shardId":"{shard}","eventSourceARN":"arn:aws:dynamodb:r:1:table/t/stream/l","dynamodb":{{"SequenceNumber":"{number}","ApproximateCreationDateTime":{number}.0,"Keys":{{"id":{{"N":"{number}"}}}}}}}}"#
    )
}

/// `c 5` is a record, `c<` states a shard, `c<a` a child, `c<ab` a merge.
pub(super) fn lines(text: &str) -> String {
    let line = |text: &str| match text.split_once('<') {
        None => {
            let (shard, number) = text.split_once(' ').unwrap();
            record(shard, number.parse().unwrap())
        }
        Some((shard, parents)) => {
            let mut line = serde_json::json!({ "shardId": shard });
            for (name, parent) in
                ["parentShardId", "adjacentParentShardId"].iter().zip(parents.chars())
            {
                line[name] = parent.to_string().into();
            }
            line.to_string()
        }
    };
    text.split(", ").map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_fixture_that_contradicts_itself_is_refused_with_its_line() {
    for (name, text, line, expected) in [
        ("child-first", "c<a, c 2, a 1", 1, "continues `a`, which does not stand before it"),
        ("unknown", "a 1, c<z, c 2", 2, "continues `z`, which does not stand before it"),
        ("of-itself", "a 1, c<c", 2, "continues `c`, which does not stand before it"),
        ("late", "a 1, c 2, c<a", 3, "`c` is stated behind its first record, or twice"),
        ("twice", "a 1, c<a, c<a", 3, "`c` is stated behind its first record, or twice"),
        ("parent-goes-on", "a 1, c<a, c 2, a 3", 4, "ended where its child is stated"),
        ("numbers", "a 5, c<a, c 4", 3, "4 of shard `c` does not come after 5"),
        ("same-number", "a 5, c<a, c 5", 3, "5 of shard `c` does not come after 5"),
        ("grandchild", "a 5, b<a, c<b, c 4", 4, "4 of shard `c` does not come after 5"),
        ("merged-numbers", "a 5, b 9, c<ab, c 7", 4, "7 of shard `c` does not come after 9"),
        ("one-parent-twice", "a 1, c<aa", 2, "the parents of shard `c` are none"),
        ("three", "a 1, b<a, c<a, d<a", 4, "which has its children already"),
        ("split-and-merged", "a 1, b 2, c<a, d<ab", 4, "which has its children already"),
        ("merged-and-split", "a 1, b 2, c<ab, d<b", 4, "which has its children already"),
    ] {
        let file = File::new(name, &lines(text));
        let error = Fixtures::open(&[file.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(&format!(".jsonl:{line}: ")), "{name}: {error}");
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_fixture_that_states_its_shards_is_not_resharded_by_a_seed() {
    let file = File::new("stated", &lines("a 1, c<a, c 2"));
    let fixtures = Fixtures::open(&[file.path().to_owned()]).unwrap();
    let error = fixtures.resharded(7).unwrap_err().to_string();
    assert!(error.contains("leave out --reshard"), "{error}");
}
