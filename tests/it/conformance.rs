//! The suite for other emulators: what it says is what the desk does, and who cannot be asked is
//! told so. What ministack makes of it is shown by `tests/conformance.sh`.

use changefold::local::simulate::{Asked, simulate};
use std::{
    path::PathBuf,
    process::{Command, Output},
};

fn changefold(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_changefold")).args(arguments).output().unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], expected: &str) {
    let output = changefold(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(expected), "{stderr}");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), [].as_slice()));
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn what_the_suite_expects_is_what_the_desk_does() {
    let path = std::env::temp_dir().join(format!("changefold-suite-{}", std::process::id()));
    let directory = Directory(path);
    let output = changefold(&["conformance", "write", directory.0.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let cases = std::fs::read_to_string(directory.0.join("cases.jsonl")).unwrap();
    let mut differences = Vec::new();
    let check = Asked { check: true, ..Asked::default() };
    let summary = simulate(cases.as_bytes(), std::io::sink(), &check, |text| {
        differences.push(text.to_owned());
    });
    assert_eq!(differences, Vec::<String>::new());
    assert!(summary.unwrap().cases >= 15);
    let format = std::fs::read_to_string(directory.0.join("README.md")).unwrap();
    assert!(format.contains("MIT or Apache-2.0"), "{format}");
    // Another expectation is a difference.
    let cases = cases.replace("\"approximateInvokeCount\": 2", "\"approximateInvokeCount\": 3");
    simulate(cases.as_bytes(), std::io::sink(), &check, |text| differences.push(text.to_owned()))
        .unwrap();
    assert!(!differences.is_empty());
}

/// What a function is deployed with, in a language that others read.
#[test]
fn the_function_of_the_suite_is_python() {
    let path = "src/local/conformance/function.py";
    let program = format!("import ast; ast.parse(open({path:?}).read())");
    let output = Command::new("python3").args(["-c", &program]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn who_cannot_be_asked_is_told() {
    let run = |url| vec!["conformance", "run", "--endpoint-url", url];
    refused(&run("https://lambda.eu-west-1.amazonaws.com"), "is AWS itself");
    refused(&run("http://127.0.0.1:1"), "the emulator cannot be used");
    let mut unknown = run("http://127.0.0.1:1");
    unknown.extend(["--case", "no-such"]);
    refused(&unknown, "no case is called `no-such`");
}
