//! Credentials and Region of the command line: found in profiles as the AWS CLI finds them, and
//! asked for again before they expire. The real program, in a home directory of its own, asks a
//! server of the test whose certificate it believes.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

/// A home directory, and the certificate that is believed there.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("changefold-home-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join(".aws")).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs the program with these variables and no others that AWS's tools look at.
    fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_changefold"))
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.0)
            .env("SSL_CERT_FILE", self.0.join("authority.pem"))
            // Else the machine would be asked, which costs seconds where it has no answer.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(variables.iter().copied())
            .output()
            .unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The heads of the requests that came.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    /// `Credential=…` of each request: key id, day, Region and service.
    fn signers(&self) -> Vec<String> {
        let heard = self.0.lock().unwrap();
        let signer = |request: &String| {
            let signer = request.split("Credential=").nth(1)?.split(',').next()?;
            let mut parts = signer.split('/');
            let (id, _day) = (parts.next()?, parts.next()?);
            Some(format!("{id} {} {}", parts.next()?, parts.next()?))
        };
        heard.iter().map(|request| signer(request).unwrap_or_default()).collect()
    }
}

/// Answers requests over TLS, one after another, and writes the authority of its certificate
/// into the home. Its URL.
fn serve(home: &Home, heard: &Heard, answers: Vec<String>) -> String {
    let (mut authority, server) =
        (CertificateParams::default(), CertificateParams::new(vec!["localhost".to_owned()]));
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    home.write("authority.pem", &pem);
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let certificate = server.unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let heard = heard.clone();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                assert_ne!(
                    reader.read_line(&mut request).unwrap(),
                    0,
                    "the client hung up: {request}"
                );
            }
            let length = request.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
            });
            reader.read_exact(&mut vec![0; length.unwrap_or_default()]).unwrap();
            heard.0.lock().unwrap().push(request);
            let stream = reader.get_mut();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
            stream.flush().unwrap();
        }
    });
    url
}

/// Two pages of an empty list, so that the command line asks twice.
fn two_pages() -> Vec<String> {
    [json!("further"), Value::Null]
        .map(|cursor| json!({"parked": [], "left": 0, "cursor": cursor}).to_string())
        .into()
}

/// A program that prints credentials good for `minutes`, with another key id at every run.
fn credential_process(home: &Home, minutes: u32) -> String {
    let runs = home.0.join("runs");
    home.write(
        "sign-in.sh",
        &format!(
            "echo x >> {runs}\n\
             until=$(date -u -d '+{minutes} minutes' +%Y-%m-%dT%H:%M:%SZ)\n\
             echo \"{{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"AKID$(wc -l < {runs})\\\",\
             \\\"SecretAccessKey\\\":\\\"s\\\",\\\"SessionToken\\\":\\\"t\\\",\
             \\\"Expiration\\\":\\\"$until\\\"}}\"\n",
            runs = runs.display()
        ),
    );
    format!("credential_process = sh {}", home.0.join("sign-in.sh").display())
}

#[track_caller]
fn check_done(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// Refused with exit code 2; what was said.
#[track_caller]
fn refused(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

const LIST: [&str; 6] = ["parked", "list", "--format", "json", "--function", "orders:live"];

#[test]
fn a_profiles_program_signs_and_its_region_is_taken() {
    let home = Home::new("profile");
    let process = credential_process(&home, 60);
    home.write(".aws/config", &format!("[profile shop]\nregion = eu-north-1\n{process}\n"));
    let heard = Heard::default();
    let url = serve(&home, &heard, two_pages());
    let variables = [("AWS_ENDPOINT_URL_LAMBDA", &*url), ("AWS_PROFILE", "shop")];
    check_done(&home.run(&variables, &LIST));
    let expected = "AKID1 eu-north-1 lambda";
    assert_eq!(heard.signers(), [expected, expected], "asked for once, good for an hour");
}

#[test]
fn credentials_about_to_expire_are_asked_for_again() {
    let home = Home::new("refresh");
    let process = credential_process(&home, 1);
    home.write(".aws/config", &format!("[default]\nregion = eu-north-1\n{process}\n"));
    let heard = Heard::default();
    let url = serve(&home, &heard, two_pages());
    check_done(&home.run(&[("AWS_ENDPOINT_URL_LAMBDA", &url)], &LIST));
    let signers = heard.signers();
    assert!(signers.len() == 2 && signers[0] < signers[1], "{signers:?}");
}

#[test]
fn the_environment_goes_before_all_profiles() {
    let home = Home::new("environment");
    home.write(
        ".aws/credentials",
        "[default]\naws_access_key_id = OFFILE\naws_secret_access_key = s\n",
    );
    home.write(".aws/config", "[default]\nregion = eu-north-1\n");
    for (variables, expected) in [
        (&[][..], "OFFILE eu-north-1 lambda"),
        (
            &[("AWS_ACCESS_KEY_ID", "OFENV"), ("AWS_SECRET_ACCESS_KEY", "s")],
            "OFENV eu-north-1 lambda",
        ),
        (&[("AWS_REGION", "eu-west-3")], "OFFILE eu-west-3 lambda"),
    ] {
        let heard = Heard::default();
        let url = serve(&home, &heard, two_pages());
        let variables = [variables, &[("AWS_ENDPOINT_URL_LAMBDA", &*url)]].concat();
        check_done(&home.run(&variables, &LIST));
        assert_eq!(heard.signers(), [expected, expected]);
    }
}

#[test]
fn a_role_is_assumed_with_the_credentials_of_another_profile() {
    let home = Home::new("role");
    home.write(
        ".aws/config",
        "[profile ops]\nregion = eu-west-1\nrole_arn = arn:aws:iam::123456789012:role/ops\n\
         source_profile = me\n[profile me]\naws_access_key_id = ME\naws_secret_access_key = s\n",
    );
    let heard = Heard::default();
    let assumed = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleResult><Credentials><AccessKeyId>ASSUMED</AccessKeyId>\
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
        <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>\
        </AssumeRoleResponse>";
    let answers = [vec![assumed.to_owned()], two_pages()].concat();
    let url = serve(&home, &heard, answers);
    check_done(&home.run(&[("AWS_ENDPOINT_URL", &url), ("AWS_PROFILE", "ops")], &LIST));
    let assumed = "ASSUMED eu-west-1 lambda";
    assert_eq!(heard.signers(), ["ME eu-west-1 sts", assumed, assumed]);
}

#[test]
fn without_credentials_it_is_said_how_to_sign_in() {
    let home = Home::new("nobody");
    let said = refused(&home.run(&[("AWS_REGION", "eu-west-1")], &LIST));
    assert!(said.starts_with("error: no AWS credentials found\nhint: "), "{said}");
    assert!(said.contains("aws sso login") && said.contains("AWS_PROFILE"), "{said}");
    let endpoint = ["--endpoint-url", "https://dynamodb.eu-west-1.amazonaws.com"];
    for command in [&["parked", "list"][..], &["replay", "fixtures/orders.jsonl"]] {
        let said = refused(&home.run(&[], &[command, &endpoint].concat()));
        assert!(said.contains("no AWS credentials found\nhint: "), "{said}");
    }
}

#[test]
fn credentials_that_a_profile_promises_and_cannot_give_are_said_with_the_reason() {
    let home = Home::new("broken");
    home.write(
        ".aws/config",
        "[profile sso]\nregion = eu-west-1\nsso_session = work\nsso_account_id = 123456789012\n\
         sso_role_name = ops\n[sso-session work]\nsso_region = eu-west-1\n\
         sso_start_url = https://work.awsapps.com/start\n\
         [profile failing]\nregion = eu-west-1\ncredential_process = false\n",
    );
    for profile in ["sso", "failing", "missing"] {
        let said = refused(&home.run(&[("AWS_PROFILE", profile)], &LIST));
        assert!(said.contains("no AWS credentials") && said.contains("\nhint: "), "{said}");
        assert!(said.contains("aws sso login"), "{said}");
    }
}

#[test]
fn a_region_that_nobody_says_is_asked_for() {
    let home = Home::new("region");
    home.write(
        ".aws/credentials",
        "[default]\naws_access_key_id = OFFILE\naws_secret_access_key = s\n",
    );
    let said = refused(&home.run(&[], &LIST));
    assert!(said.contains("no AWS Region is known\nhint: name the function by its ARN"), "{said}");
}

#[test]
fn a_server_of_ones_own_needs_no_credentials() {
    let home = Home::new("local");
    // A profile that cannot be had is none of its business.
    home.write(".aws/config", "[default]\ncredential_process = false\n");
    let said = refused(
        &home
            .run(&[], &["replay", "fixtures/orders.jsonl", "--endpoint-url", "http://127.0.0.1:1"]),
    );
    assert!(said.contains("is a DynamoDB endpoint up at http://127.0.0.1:1?"), "{said}");
    let output = home.run(&[], &["replay", "fixtures/orders.jsonl"]);
    check_done(&output);
}
