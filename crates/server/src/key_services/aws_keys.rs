//! Where a server of AWS's customers finds its access keys: the configuration, the environment, a role that a token of somebody
//! else's assumes, a profile of the files that all of AWS's tools read, or what its container or machine is told.
//!
//! In that order, and anew each time, as most of them end by themselves. Deliberately absent: what profiles mean
//! (`tresor-sigv4`), and a memory of keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tresor_core::ServiceError;
use tresor_env::tasks::run_blocking;
use tresor_sigv4::assumed;
use tresor_sigv4::chain::{Chain, Source, Wrong};
use tresor_sigv4::profile::{self, Shared};
use tresor_sigv4::sts::NotAssumed;
use tresor_sigv4::{Keys, told, web_identity};
use zeroize::Zeroizing;

use super::Reach;
use crate::config::{AccessKeys, AwsKeysConfig, KeyPlace, Said, SharedFile, SharedFiles, WebIdentity};

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
        let AwsKeysConfig { own, environment, web_identity, shared, container, machine, .. } = &self.config;
        if let Some(own) = own {
            return self.spelled(own).await;
        }
        if let Some(keys) = environment.as_ref().filter(|_| self.config.environment_counts) {
            // Whoever names a profile whose role the environment's keys assume means that role.
            return match self.of_environment().await {
                Some((files, chain)) => self.follow(files, chain).await,
                None => self.spelled(keys).await,
            };
        }
        if let Some(web) = web_identity {
            return self.of_web_identity(web).await;
        }
        if let Some(files) = shared
            && let Some(chain) = self.chain(files).await?
        {
            return self.follow(files, chain).await;
        }
        match (container, machine) {
            (Some(container), _) => self.of_container(container).await,
            (None, Some(machine)) => self.of_machine(machine).await,
            (None, None) => Err(ServiceError::Unprepared("there are no access keys of AWS".to_owned())),
        }
    }

    async fn spelled(&self, (access_key, secret, session): &AccessKeys) -> Result<Keys, ServiceError> {
        let session = match session {
            Some(place) => Some(self.reach.secret(place).await?),
            None => None,
        };
        Ok(Keys::new(access_key, self.reach.secret(secret).await?, session))
    }

    async fn of_web_identity(&self, web: &WebIdentity) -> Result<Keys, ServiceError> {
        let token = self.reach.file(&web.token_file).await?;
        let found = web_identity::assume(&*self.reach.doors.outgoing, &web.endpoint, &web.role, token).await;
        found.map_err(|why| not_assumed(&web.role.arn, &why))
    }

    /// What the profile that counts says about keys; `None` where other places are to be asked.
    async fn chain(&self, files: &SharedFiles) -> Result<Option<Chain>, ServiceError> {
        let (config, credentials) = (self.configuration(files).await?, self.credentials(files).await?);
        let is_any = config.is_some() || credentials.is_some();
        let shared = Shared::read(&config.unwrap_or_default(), &credentials.unwrap_or_default());
        let name = &files.profile;
        let of_files = |why: &Wrong| ServiceError::Unprepared(format!("the files of AWS's tools: {why}"));
        let chain = shared.chain(name).map_err(|why| of_files(&why))?;
        let is_meant = files.profile_said == Said::Here || files.credentials.as_ref().is_some_and(|file| file.is_named);
        match chain {
            None if shared.has(name) && is_meant => Err(of_files(&Wrong::NoKeys(name.clone()))),
            None if !shared.has(name) && (is_meant || is_any && files.profile_said == Said::Around) => {
                let paths: Vec<String> = [&files.config, &files.credentials]
                    .into_iter()
                    .flatten()
                    .map(|file| format!("`{}`", file.path.display()))
                    .collect();
                let paths = paths.join(" or ");
                Err(ServiceError::Unprepared(format!("the profile `{name}` of {paths}: there is no such profile")))
            }
            chain => Ok(chain),
        }
    }

    /// The file with what leads to keys. Others may read it, unless it has keys itself.
    async fn configuration(&self, files: &SharedFiles) -> Result<Option<Zeroizing<String>>, ServiceError> {
        let Some(file) = self.there(files.config.as_ref()).await? else { return Ok(None) };
        let text = self.reach.file(file).await?;
        if profile::has_secrets(&text) {
            return self.reach.secret(&KeyPlace::File(file.to_owned())).await.map(Some);
        }
        Ok(Some(text))
    }

    /// The file with keys, which others must not be able to read.
    async fn credentials(&self, files: &SharedFiles) -> Result<Option<Zeroizing<String>>, ServiceError> {
        let Some(file) = self.there(files.credentials.as_ref()).await? else { return Ok(None) };
        self.reach.secret(&KeyPlace::File(file.to_owned())).await.map(Some)
    }

    /// Where a file is that has to be there, or is.
    async fn there<'f>(&self, file: Option<&'f SharedFile>) -> Result<Option<&'f Path>, ServiceError> {
        let Some(file) = file else { return Ok(None) };
        let path = file.path.clone();
        let is_there = run_blocking(&*self.reach.doors.workers, move || path.exists()).await;
        let is_there = is_there.map_err(|panicked| ServiceError::Unprepared(panicked.to_string()))?;
        Ok((file.is_named || is_there).then_some(file.path.as_path()))
    }

    /// The profile that is named, if it begins with the keys of the environment.
    async fn of_environment(&self) -> Option<(&SharedFiles, Chain)> {
        let files = self.config.shared.as_ref().filter(|files| files.profile_said != Said::Nowhere)?;
        let chain = self.chain(files).await.ok().flatten()?;
        matches!(chain.source, Source::Environment).then_some((files, chain))
    }

    /// The keys that a profile leads to.
    async fn follow(&self, files: &SharedFiles, chain: Chain) -> Result<Keys, ServiceError> {
        let AwsKeysConfig { environment, container, machine, .. } = &self.config;
        let first = match (chain.source, environment, container, machine) {
            (Source::Keys(keys), ..) => keys,
            (Source::Environment, Some(keys), ..) => self.spelled(keys).await?,
            (Source::Container, _, Some(container), _) => self.of_container(container).await?,
            (Source::Machine, _, _, Some(machine)) => self.of_machine(machine).await?,
            (Source::WebIdentity { role, token_file }, ..) => {
                let endpoint = files.sts.endpoint.clone();
                self.of_web_identity(&WebIdentity { role, token_file: PathBuf::from(token_file), endpoint }).await?
            }
            (Source::Environment | Source::Container | Source::Machine, ..) => {
                let text = format!("the profile `{}`: its `credential_source` has no access keys here", files.profile);
                return Err(ServiceError::Unprepared(text));
            }
        };
        let doors = &self.reach.doors;
        let found = assumed::through(&*doors.outgoing, &files.sts, first, &chain.roles, doors.clock.wall()).await;
        found.map_err(|stopped| not_assumed(&stopped.arn, &stopped.why))
    }

    async fn of_machine(&self, base: &str) -> Result<Keys, ServiceError> {
        told::by_machine(&*self.reach.doors.outgoing, base).await.map_err(untold)
    }

    async fn of_container(&self, (uri, authorization): &(String, Option<PathBuf>)) -> Result<Keys, ServiceError> {
        let token = match authorization {
            Some(path) => Some(self.reach.file(path).await?),
            None => None,
        };
        told::by_container(&*self.reach.doors.outgoing, uri.clone(), token).await.map_err(untold)
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
    use tresor_sigv4::assumed::Sts;
    use tresor_sigv4::sts;
    use tresor_sigv4::web_identity::Role;

    use super::*;
    use crate::config::ServiceTls;

    const NOTHING: AwsKeysConfig = AwsKeysConfig::NOTHING;

    /// The files below a folder, as if somebody had said where they are.
    fn files(folder: &Path, profile: &str, profile_said: Said) -> SharedFiles {
        let file = |name: &str| Some(SharedFile { path: folder.join(name), is_named: true });
        let (credentials, config) = (file("credentials"), file("config").filter(|file| file.path.exists()));
        SharedFiles { credentials, config, profile: profile.to_owned(), profile_said, sts: Sts::of("x", None) }
    }

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
            let shared = Some(files(folder.path(), profile, Said::Nowhere));
            AwsKeysConfig { shared, ..NOTHING }
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
        usual.shared.as_mut().unwrap().credentials.as_mut().unwrap().is_named = false;
        assert_eq!(found(&doors, usual.clone()).await.unwrap_err(), "there are no access keys of AWS");
        // Whoever says in the stanza which profile counts means it.
        usual.shared.as_mut().unwrap().profile_said = Said::Here;
        assert!(found(&doors, usual).await.unwrap_err().ends_with("there is no such profile"));
    }

    #[tokio::test]
    async fn a_role_of_a_profile_is_assumed_by_the_keys_that_it_names() {
        let (doors, folder) = (TestDoors::new(1), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let config = "[default]\nregion = x\n[profile app]\nrole_arn = app\nsource_profile = between\n\
                      [profile between]\nrole_arn = between\nsource_profile = base\n\
                      [profile around]\nrole_arn = app\ncredential_source = Environment\n\
                      [profile machine]\nrole_arn = app\ncredential_source = Ec2InstanceMetadata\n\
                      [profile closed]\nrole_arn = closed\nsource_profile = base\n\
                      [profile program]\ncredential_process = canary\n";
        write("config", config, 0o644);
        write("credentials", "[base]\naws_access_key_id = BASE\naws_secret_access_key = canary\n", 0o600);
        // A fake of STS, which names keys after who asked and for what.
        doors.outgoing.answer(|request| {
            let Ask::Post(body) = &request.ask else { return Ok((200, b"role".to_vec())) };
            assert_eq!(request.url, "https://sts.x.amazonaws.com/");
            let signed = header(request, "authorization");
            let by = signed.split_once("Credential=").unwrap().1.split_once('/').unwrap().0;
            let form = String::from_utf8_lossy(body).into_owned();
            let name = form.split_once("&RoleArn=").unwrap().1.split_once('&').unwrap().0;
            if name == "closed" {
                return Ok((403, b"<E><Error><Code>AccessDenied</Code></Error></E>".to_vec()));
            }
            let keys = format!(
                "<AccessKeyId>{by}-{name}</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>"
            );
            let said = format!("<AssumeRoleResult><Credentials>{keys}</Credentials></AssumeRoleResult>");
            Ok((200, format!("<AssumeRoleResponse>{said}</AssumeRoleResponse>").into_bytes()))
        });
        let literal = |text: &str| KeyPlace::Literal(Arc::new(tresor_secret::SecretString::new(text.to_owned())));
        let environment = || Some(("ENV".to_owned(), literal("canary"), None));
        let of = |profile: &str, said| {
            let shared = Some(files(folder.path(), profile, said));
            AwsKeysConfig { shared, ..NOTHING }
        };
        let key = async |config: AwsKeysConfig| match found(&doors, config).await {
            Ok([key, ..]) => key,
            Err(error) => error,
        };
        assert_eq!(key(of("app", Said::Here)).await, "BASE-between-app");
        // Keys of the environment count before a profile, unless that is named and wants them for its role.
        let with = |profile: &str, said| AwsKeysConfig { environment: environment(), ..of(profile, said) };
        assert_eq!(key(with("app", Said::Around)).await, "ENV");
        assert_eq!(key(with("around", Said::Around)).await, "ENV-app");
        assert_eq!(key(with("around", Said::Nowhere)).await, "ENV");
        assert_eq!(
            key(AwsKeysConfig { environment_counts: false, ..with("app", Said::Here) }).await,
            "BASE-between-app"
        );
        for (profile, words) in [
            ("around", "the profile `around`: its `credential_source` has no access keys here"),
            ("machine", "the profile `machine`: its `credential_source` has no access keys here"),
            ("closed", "the role `closed` is not assumed: status 403 AccessDenied"),
            ("program", "says `credential_process`, which is not available: no programs are started"),
            ("default", "the profile `default` has neither keys nor a way to some"),
        ] {
            let error = key(of(profile, Said::Here)).await;
            assert!(error.contains(words) && !error.contains("canary"), "{error}");
        }
        // A configuration without keys is everybody's to read; one with keys is not.
        write("config", "[profile own]\naws_access_key_id = OWN\naws_secret_access_key = canary\n", 0o644);
        assert!(key(of("own", Said::Here)).await.contains("has the mode 0644"));
        write("config", "[profile own]\naws_access_key_id = OWN\naws_secret_access_key = canary\n", 0o600);
        assert_eq!(key(of("own", Said::Here)).await, "OWN");
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
        let endpoint = sts::endpoint("x");
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
