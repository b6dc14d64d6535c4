//! What is started as the function, and the environment it finds.
//!
//! The names and meanings are those of the Lambda developer guide, "Defined runtime
//! environment variables". The process inherits everything else from the desk, above all the
//! credentials, and what the caller adds goes before all of it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// AWS's own default for `MemorySize`, in MB. Nothing holds the process to it.
const MEMORY_MB: &str = "128";

/// A program that is a Lambda function.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    function_arn: String,
    variables: BTreeMap<OsString, OsString>,
    output: Option<File>,
}

impl Program {
    /// A program by its path, or by its name in `PATH`, as the function of this ARN.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, function_arn: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            function_arn: function_arn.into(),
            variables: BTreeMap::new(),
            output: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with_argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sends what the program writes, to stdout or stderr, to a file instead of our stderr.
    #[must_use]
    pub fn with_output(mut self, file: File) -> Self {
        self.output = Some(file);
        self
    }

    /// The program's path, as given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whom it is invoked as.
    #[must_use]
    pub fn function_arn(&self) -> &str {
        &self.function_arn
    }

    /// The command that starts it as the environment of this number.
    pub(super) fn command(&self, api: SocketAddr, number: u64) -> io::Result<Command> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(self.lambda_variables())
            .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("desk/[$LATEST]{number}"))
            .envs(&self.variables)
            .env("AWS_LAMBDA_RUNTIME_API", api.to_string())
            .stdin(Stdio::null())
            .stdout(self.stdio()?)
            .stderr(self.stdio()?);
        Ok(command)
    }

    fn stdio(&self) -> io::Result<Stdio> {
        Ok(match &self.output {
            // Never our stdout: that is data.
            None => Stdio::from(io::stderr()),
            Some(file) => Stdio::from(file.try_clone()?),
        })
    }

    fn lambda_variables(&self) -> Vec<(&'static str, OsString)> {
        let mut parts = self.function_arn.split(':');
        let region = parts.nth(3).unwrap_or_default();
        let name = parts.nth(2).unwrap_or_default();
        let handler = self.path.file_stem().unwrap_or(OsStr::new("bootstrap"));
        vec![
            ("AWS_DEFAULT_REGION", region.into()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB.into()),
            ("AWS_LAMBDA_FUNCTION_NAME", name.into()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}").into()),
            ("AWS_REGION", region.into()),
            ("LAMBDA_TASK_ROOT", self.task_root().into()),
            ("TZ", ":UTC".into()),
            ("_HANDLER", handler.into()),
        ]
    }

    /// Where the function's files are: beside the program, or where we are for one that is
    /// found in `PATH`.
    fn task_root(&self) -> PathBuf {
        let folder = self.path.parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new("."));
        std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Program;
    use std::{ffi::OsStr, path::Path};

    const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:Views";

    #[test]
    fn the_environment_is_lambdas() {
        let program = Program::new("/opt/views/bootstrap", ARN).with_variable("TZ", "CET");
        let command = program.command("127.0.0.1:9001".parse().unwrap(), 2).unwrap();
        let variable = |name: &str| {
            let mut variables = command.as_std().get_envs();
            variables.find(|(key, _)| *key == OsStr::new(name)).and_then(|(_, value)| value)
        };
        for (name, value) in [
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
            ("AWS_LAMBDA_FUNCTION_NAME", "Views"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/Views"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "desk/[$LATEST]2"),
            ("AWS_REGION", "eu-west-1"),
            ("LAMBDA_TASK_ROOT", "/opt/views"),
            ("_HANDLER", "bootstrap"),
            ("TZ", "CET"),
        ] {
            assert_eq!(variable(name), Some(OsStr::new(value)), "{name}");
        }
    }

    #[test]
    fn a_program_found_in_the_path_has_its_files_where_we_are() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Program::new("python3", ARN).task_root(), here);
        assert_eq!(Program::new("bin/f", ARN).task_root(), here.join(Path::new("bin")));
    }
}
