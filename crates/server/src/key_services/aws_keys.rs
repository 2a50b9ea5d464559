//! Where a server of AWS's customers finds its access keys: the configuration, a file that all of AWS's tools read, or what its
//! container or machine is told.
//!
//! In that order, and anew each time, as most of them end by themselves. Deliberately absent: roles that are assumed by other keys,
//! and a memory of keys.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use tresor_core::ServiceError;
use tresor_env::outgoing::Ask;
use tresor_model::Map;
use tresor_secret::SecretString;
use tresor_sigv4::Keys;
use zeroize::Zeroizing;

use super::Reach;
use crate::config::{AwsKeysConfig, KeyPlace};

/// Where a machine is told about itself, below its address.
const TOKEN: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Where access keys come from.
pub(super) struct AwsKeys {
    config: AwsKeysConfig,
    reach: Arc<Reach>,
}

type Headers = Vec<(Cow<'static, str>, Zeroizing<String>)>;

impl AwsKeys {
    pub(super) const fn new(config: AwsKeysConfig, reach: Arc<Reach>) -> Self {
        Self { config, reach }
    }

    /// The keys of now.
    pub(super) async fn find(&self) -> Result<Keys, ServiceError> {
        if let Some((access_key, secret, session)) = &self.config.own {
            let session_token = match session {
                Some(place) => Some(own(&self.reach.secret(place).await?)),
                None => None,
            };
            let secret_key = own(&self.reach.secret(secret).await?);
            return Ok(Keys { access_key: access_key.clone(), secret_key, session_token });
        }
        if let Some(file) = &self.config.shared_file
            && (file.is_named || file.path.exists())
        {
            let text = self.reach.secret(&KeyPlace::File(file.path.clone())).await?;
            let found = of_profile(&text, &file.profile);
            return found.ok_or_else(|| {
                let (path, profile) = (file.path.display(), &file.profile);
                ServiceError::Unprepared(format!("`{path}` has no access key of the profile `{profile}`"))
            });
        }
        match (&self.config.container, &self.config.machine) {
            (Some((uri, authorization)), _) => self.of_container(uri, authorization.as_ref()).await,
            (None, Some(machine)) => self.of_machine(machine).await,
            (None, None) => Err(ServiceError::Unprepared("there are no access keys of AWS".to_owned())),
        }
    }

    async fn of_container(&self, uri: &str, authorization: Option<&PathBuf>) -> Result<Keys, ServiceError> {
        let mut headers = Headers::new();
        if let Some(path) = authorization {
            headers.push((Cow::Borrowed("authorization"), self.reach.file(path).await?));
        }
        self.told(Ask::Get, uri.to_owned(), headers).await.and_then(|(answer, _)| keys_in(&answer))
    }

    async fn of_machine(&self, machine: &str) -> Result<Keys, ServiceError> {
        let lives = Zeroizing::new("60".to_owned());
        let headers = vec![(Cow::Borrowed("x-aws-ec2-metadata-token-ttl-seconds"), lives)];
        let (_, token) = self.told(Ask::Put(Zeroizing::default()), format!("{machine}{TOKEN}"), headers).await?;
        let headers = || vec![(Cow::Borrowed("x-aws-ec2-metadata-token"), token.clone())];
        let (_, roles) = self.told(Ask::Get, format!("{machine}{ROLES}"), headers()).await?;
        let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
        let none = || ServiceError::Unprepared("this machine has no role of AWS".to_owned());
        let role = tresor_env::outgoing::escaped(role.ok_or_else(none)?);
        self.told(Ask::Get, format!("{machine}{ROLES}{role}"), headers()).await.and_then(|(answer, _)| keys_in(&answer))
    }

    async fn told(&self, ask: Ask, url: String, headers: Headers) -> Result<(Map, Zeroizing<String>), ServiceError> {
        let answer = self.reach.ask(ask, url, headers).await.map_err(|error| {
            ServiceError::Unanswered(format!("who tells this machine its access keys of AWS: {error}"))
        })?;
        if answer.status != 200 {
            let text = format!("who tells this machine its access keys of AWS answers with status {}", answer.status);
            return Err(ServiceError::Unanswered(text));
        }
        let text = std::str::from_utf8(&answer.bytes).map(str::trim).unwrap_or_default();
        Ok((answer.body, Zeroizing::new(text.to_owned())))
    }
}

fn own(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

/// The keys that a machine or a container is told.
fn keys_in(answer: &Map) -> Result<Keys, ServiceError> {
    let text = |name: &str| answer.text(name).filter(|text| !text.is_empty());
    match (text("AccessKeyId"), text("SecretAccessKey")) {
        (Some(access_key), Some(secret)) => Ok(Keys {
            access_key: access_key.to_owned(),
            secret_key: own(secret),
            session_token: text("Token").map(own),
        }),
        _ => Err(ServiceError::Unexpected("without access keys")),
    }
}

/// The keys of a profile in the file that all of AWS's tools read.
fn of_profile(text: &str, profile: &str) -> Option<Keys> {
    let mut is_inside = false;
    let [mut access_key, mut secret_key, mut session_token] = [const { None }; 3];
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_inside = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_inside) {
            match name.trim() {
                "aws_access_key_id" => access_key = Some(value.trim()),
                "aws_secret_access_key" => secret_key = Some(value.trim()),
                "aws_session_token" => session_token = Some(value.trim()),
                _ => {}
            }
        }
    }
    let (access_key, secret_key) = (access_key?.to_owned(), own(secret_key?));
    Some(Keys { access_key, secret_key, session_token: session_token.map(own) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;

    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::OutgoingRequest;

    use super::*;
    use crate::config::{ServiceTls, SharedFile};

    const NOTHING: AwsKeysConfig = AwsKeysConfig { own: None, shared_file: None, container: None, machine: None };

    fn header(request: &OutgoingRequest, name: &str) -> String {
        let found = request.headers.iter().find(|(known, _)| *known == name);
        found.map_or(String::new(), |(_, value)| value.as_str().to_owned())
    }

    async fn found(doors: &TestDoors, config: AwsKeysConfig) -> Result<[String; 3], String> {
        let reach = Reach { doors: doors.doors.clone(), tls: ServiceTls::default(), host: String::new() };
        let keys = AwsKeys::new(config, Arc::new(reach)).find().await.map_err(|error| error.to_string())?;
        let session = keys.session_token.map(|token| token.expose().clone()).unwrap_or_default();
        Ok([keys.access_key, keys.secret_key.expose().clone(), session])
    }

    const ANSWER: &[u8] = br#"{"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "x"}"#;

    #[tokio::test]
    async fn keys_come_from_a_file_of_profiles_that_nobody_else_reads() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let path = folder.path().join("credentials");
        let text = "[default]\naws_access_key_id = A1\naws_secret_access_key=S1\n# a word\n\n[other]\n\
                    aws_access_key_id=A2\naws_secret_access_key = S2=\naws_session_token = T2\nregion = x\n";
        std::fs::write(&path, text).unwrap();
        let mode = |mode: u32| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let of = |profile: &str| {
            let file = SharedFile { path: path.clone(), profile: profile.to_owned(), is_named: true };
            AwsKeysConfig { shared_file: Some(file), ..NOTHING }
        };
        mode(0o600);
        assert_eq!(found(&doors, of("default")).await.unwrap(), ["A1", "S1", ""]);
        assert_eq!(found(&doors, of("other")).await.unwrap(), ["A2", "S2=", "T2"]);
        assert!(found(&doors, of("none")).await.unwrap_err().ends_with("has no access key of the profile `none`"));
        mode(0o644);
        assert!(found(&doors, of("default")).await.unwrap_err().contains("has the mode 0644"));
        std::fs::remove_file(&path).unwrap();
        assert!(found(&doors, of("default")).await.unwrap_err().contains("cannot be read"));
        let mut usual = of("default");
        usual.shared_file.as_mut().unwrap().is_named = false;
        assert_eq!(found(&doors, usual).await.unwrap_err(), "there are no access keys of AWS");
    }

    #[tokio::test]
    async fn a_container_and_a_machine_are_told_their_keys() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        std::fs::write(&token, "of-the-pod\n").unwrap();
        doors.outgoing.answer(|request| {
            assert_eq!(
                (request.url.as_str(), header(request, "authorization").as_str()),
                ("http://a/keys", "of-the-pod")
            );
            Ok((200, ANSWER.to_vec()))
        });
        let container = Some(("http://a/keys".to_owned(), Some(token)));
        assert_eq!(found(&doors, AwsKeysConfig { container, ..NOTHING }).await.unwrap(), ["A", "S", "T"]);

        doors.outgoing.answer(|request| match (&request.ask, request.url.as_str()) {
            (Ask::Put(_), "http://m/latest/api/token") => Ok((200, b"session".to_vec())),
            (Ask::Get, url) => {
                assert_eq!(header(request, "x-aws-ec2-metadata-token"), "session");
                match url.strip_prefix("http://m/latest/meta-data/iam/security-credentials/") {
                    Some("") => Ok((200, b"role one\n".to_vec())),
                    Some("role%20one") => Ok((200, ANSWER.to_vec())),
                    _ => Ok((404, Vec::new())),
                }
            }
            _ => Ok((404, Vec::new())),
        });
        let of = |machine: &str| AwsKeysConfig { machine: Some(machine.to_owned()), ..NOTHING };
        assert_eq!(found(&doors, of("http://m")).await.unwrap(), ["A", "S", "T"]);
        let away = found(&doors, of("http://n")).await.unwrap_err();
        assert!(away.contains("answers with status 404"), "{away}");
    }
}
