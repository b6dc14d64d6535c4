//! `examples/crashing.rs` in a process of its own.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Where the example is that this test run has built.
pub(crate) fn path() -> PathBuf {
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_changefold"));
    let path = programs.with_file_name("examples").join("crashing");
    assert!(path.exists(), "run `cargo test`, or `cargo build --all-features --examples` before");
    path
}

/// One that serves a store or an endpoint. It ends with its input, and so with this process.
pub(crate) struct Served {
    process: Child,
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut process = Command::new(path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }
}

impl Drop for Served {
    /// Kills it: the signal cannot be caught.
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
