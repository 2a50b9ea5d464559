//! Where a server of AWS's customers finds its access keys: the configuration, a role that a token of somebody else's assumes, a
//! file that all of AWS's tools read, or what its container or machine is told.
//!
//! In that order, and anew each time, as most of them end by themselves. Deliberately absent: roles that are assumed by other keys,
//! and a memory of keys.

use std::path::PathBuf;
use std::sync::Arc;

use tresor_core::ServiceError;
use tresor_sigv4::web_identity::{self, NotAssumed};
use tresor_sigv4::{Keys, profile, told};

use super::Reach;
use crate::config::{AwsKeysConfig, KeyPlace};

/// Where access keys come from.
pub(crate) struct AwsKeys {
    config: AwsKeysConfig,
    reach: Arc<Reach>,
}

impl AwsKeys {
    pub(crate) const fn new(config: AwsKeysConfig, reach: Arc<Reach>) -> Self {
        Self { config, reach }
    }

    /// The keys of now.
    pub(crate) async fn find(&self) -> Result<Keys, ServiceError> {
        if let Some((access_key, secret, session)) = &self.config.own {
            let session = match session {
                Some(place) => Some(self.reach.secret(place).await?),
                None => None,
            };
            return Ok(Keys::new(access_key, self.reach.secret(secret).await?, session));
        }
        if let Some(web) = &self.config.web_identity {
            let token = self.reach.file(&web.token_file).await?;
            let found = web_identity::assume(&*self.reach.doors.outgoing, &web.endpoint, &web.role, token).await;
            return found.map_err(|why| not_assumed(&web.role.arn, &why));
        }
        if let Some(file) = &self.config.shared_file
            && (file.is_named || file.path.exists())
        {
            let text = self.reach.secret(&KeyPlace::File(file.path.clone())).await?;
            let (path, name) = (file.path.display(), &file.profile);
            let none = "there is no such profile";
            let found = profile::find(&text, name).and_then(|keys| keys.ok_or(none));
            return found.map_err(|why| ServiceError::Unprepared(format!("the profile `{name}` of `{path}`: {why}")));
        }
        match (&self.config.container, &self.config.machine) {
            (Some((uri, authorization)), _) => self.of_container(uri, authorization.as_ref()).await,
            (None, Some(machine)) => told::by_machine(&*self.reach.doors.outgoing, machine).await.map_err(untold),
            (None, None) => Err(ServiceError::Unprepared("there are no access keys of AWS".to_owned())),
        }
    }

    async fn of_container(&self, uri: &str, authorization: Option<&PathBuf>) -> Result<Keys, ServiceError> {
        let token = match authorization {
            Some(path) => Some(self.reach.file(path).await?),
            None => None,
        };
        told::by_container(&*self.reach.doors.outgoing, uri.to_owned(), token).await.map_err(untold)
    }
}

fn not_assumed(arn: &str, why: &NotAssumed) -> ServiceError {
    let text = format!("the role `{arn}` is not assumed: {why}");
    match why {
        NotAssumed::Unanswered(_) => ServiceError::Unanswered(text),
        NotAssumed::Overheard | NotAssumed::NoToken | NotAssumed::Refused(_) => ServiceError::Unprepared(text),
    }
}

fn untold(why: String) -> ServiceError {
    ServiceError::Unanswered(format!("who tells this machine its access keys of AWS: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;

    use tresor_env::doubles::TestDoors;
    use tresor_env::outgoing::{Ask, OutgoingRequest};
    use tresor_sigv4::web_identity::Role;

    use super::*;
    use crate::config::{ServiceTls, SharedFile, WebIdentity};

    const NOTHING: AwsKeysConfig =
        AwsKeysConfig { own: None, web_identity: None, shared_file: None, container: None, machine: None };

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
        assert!(found(&doors, of("none")).await.unwrap_err().ends_with("there is no such profile"));
        mode(0o644);
        assert!(found(&doors, of("default")).await.unwrap_err().contains("has the mode 0644"));
        std::fs::remove_file(&path).unwrap();
        assert!(found(&doors, of("default")).await.unwrap_err().contains("cannot be read"));
        let mut usual = of("default");
        usual.shared_file.as_mut().unwrap().is_named = false;
        assert_eq!(found(&doors, usual).await.unwrap_err(), "there are no access keys of AWS");
    }

    #[tokio::test]
    async fn a_role_is_assumed_by_the_token_that_is_in_the_file_now() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token_file = folder.path().join("token");
        // A fake of STS, which believes one token.
        doors.outgoing.answer(|request| {
            let Ask::Post(body) = &request.ask else { panic!("it is posted") };
            let body = String::from_utf8_lossy(body).into_owned();
            assert!(request.url == "https://sts.x.amazonaws.com/" && body.contains("RoleSessionName=own&"), "{body}");
            if !body.ends_with("WebIdentityToken=second") {
                let said = "<E><Error><Code>ExpiredTokenException</Code><Message>over</Message></Error></E>";
                return Ok((400, said.into()));
            }
            let keys = "<AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>";
            let name = "AssumeRoleWithWebIdentity";
            let said = format!(
                "<{name}Response><{name}Result><Credentials>{keys}</Credentials></{name}Result></{name}Response>"
            );
            Ok((200, said.into_bytes()))
        });
        let role = Role { arn: "arn:aws:iam::1:role/r".to_owned(), session: "own".to_owned() };
        let endpoint = web_identity::endpoint("x");
        let web = WebIdentity { role, token_file: token_file.clone(), endpoint };
        let of = || AwsKeysConfig { web_identity: Some(web.clone()), ..NOTHING };
        assert!(found(&doors, of()).await.unwrap_err().contains("cannot be read"));
        std::fs::write(&token_file, "first\n").unwrap();
        let refused = found(&doors, of()).await.unwrap_err();
        assert!(
            refused.ends_with("`arn:aws:iam::1:role/r` is not assumed: status 400 ExpiredTokenException: over"),
            "{refused}"
        );
        std::fs::write(&token_file, "second\n").unwrap();
        assert_eq!(found(&doors, of()).await.unwrap(), ["A", "S", "T"]);
    }

    #[tokio::test]
    async fn a_container_and_a_machine_are_told_their_keys() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        std::fs::write(&token, "of-the-pod\n").unwrap();
        doors.outgoing.answer(|request| {
            assert_eq!(
                (request.url.as_str(), header(request, "authorization").as_str()),
                ("http://127.0.0.1/keys", "of-the-pod")
            );
            Ok((200, ANSWER.to_vec()))
        });
        let container = Some(("http://127.0.0.1/keys".to_owned(), Some(token)));
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
        assert!(away.contains("it answered with status 404"), "{away}");
    }
}
