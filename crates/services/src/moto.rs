//! A server that stands for AWS, and checks signatures and policies: moto.
//!
//! By itself it takes every signature. Told to, it begins to check after so many calls, by which its first user is made.

use std::path::Path;

use crate::process::{Home, Process, free_port};
use crate::talk;

/// How it is told that the calls that make the first user are not checked.
const UNCHECKED: (&str, &str) = ("INITIAL_NO_AUTH_ACTION_COUNT", "3");
/// Says which service is asked, and nothing else: these calls are not checked.
const IAM: &str = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
/// Lets the first user do everything.
const ALL: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
                   %22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";

/// A server that stands for AWS, until it is dropped.
pub struct Moto {
    // Ended before its directory goes.
    _server: Process,
    home: Home,
    port: u16,
    /// The key of its first user, who may do everything.
    pub access_key: String,
    /// The secret of that key.
    pub secret_key: String,
}

impl Moto {
    /// Starts one by the interpreter of an environment that has it, with a first user of that name.
    ///
    /// # Errors
    /// Text that says what is not there or did not work.
    pub fn start(python: &Path, name: &str) -> Result<Self, String> {
        let port = free_port()?;
        // The environment is that of who runs the tests.
        let home = Home::of_ours()?;
        let mut command = home.command(&python.with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).env(UNCHECKED.0, UNCHECKED.1);
        command.env("HOME", home.path()).stderr(home.log()?);
        let server = Process::start(&mut command, "KILL", || talk::ask(port, "GET", "/moto-api/", &[], "").is_some());
        let server = server.map_err(|why| format!("moto_server: {why}: {}", home.said()))?;
        let mut moto = Self { _server: server, home, port, access_key: String::new(), secret_key: String::new() };
        moto.prepare(&format!("Action=CreateUser&UserName={name}"))?;
        moto.prepare(&format!("Action=PutUserPolicy&UserName={name}&PolicyName=all&PolicyDocument={ALL}"))?;
        let key = moto.prepare(&format!("Action=CreateAccessKey&UserName={name}"))?;
        let between = |name: &str| {
            let after = key.split_once(&format!("<{name}>")).map(|(_, after)| after);
            after.and_then(|after| after.split_once('<')).map(|(inside, _)| inside.to_owned())
        };
        let without = || format!("a key without its parts: {key}");
        moto.access_key = between("AccessKeyId").ok_or_else(without)?;
        moto.secret_key = between("SecretAccessKey").ok_or_else(without)?;
        Ok(moto)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn prepare(&self, form: &str) -> Result<String, String> {
        let media = ("content-type", "application/x-www-form-urlencoded".to_owned());
        let headers = [("authorization", IAM.to_owned()), media];
        match talk::ask(self.port, "POST", "/", &headers, &format!("{form}&Version=2010-05-08")) {
            Some((200, said)) => Ok(said),
            other => Err(format!("{form}: {other:?}: {}", self.home.said())),
        }
    }
}
