//! STS: keys that end by themselves.
//!
//! Of several endpoints each is asked until one answers. Deliberately absent: taking back what it gives, which STS cannot.

use tresor_env::Timestamp;
use tresor_secret::SecretString;
use tresor_sigv4::Keys;
use tresor_sigv4::xml::Element;
use tresor_wire::time::parse_rfc3339;

use crate::query::{AwsError, Client, Endpoint, Form};

const VERSION: &str = "2011-06-15";

/// STS, as somebody asks it.
pub(crate) struct Sts {
    pub(crate) client: Client,
    /// In the order in which they are asked; there is one at least.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What keys may, at most.
#[derive(Default)]
pub(crate) struct Limits {
    /// An inline policy; empty: none.
    pub(crate) document: String,
    /// Managed policies.
    pub(crate) arns: Vec<String>,
}

/// A role to be assumed.
pub(crate) struct Assumed<'a> {
    pub(crate) arn: &'a str,
    pub(crate) session: &'a str,
    pub(crate) external_id: &'a str,
    pub(crate) tags: Vec<(&'a str, &'a str)>,
}

/// Keys that STS gave.
pub(crate) struct Session {
    pub(crate) keys: Keys,
    pub(crate) expires: Timestamp,
    /// Whose they are, where STS says it.
    pub(crate) arn: Option<String>,
}

fn session(answer: &Element, result: &str, whose: &[&str]) -> Result<Session, AwsError> {
    let part = |name| {
        let text = answer.text_at(&[result, "Credentials", name]).filter(|text| !text.is_empty());
        text.ok_or(AwsError::Unexpected("without keys"))
    };
    let keys = Keys {
        access_key: part("AccessKeyId")?.to_owned(),
        secret_key: SecretString::new(part("SecretAccessKey")?.to_owned()),
        session_token: Some(SecretString::new(part("SessionToken")?.to_owned())),
    };
    let expires = parse_rfc3339(part("Expiration")?).ok_or(AwsError::Unexpected("keys without an end"))?;
    let way: Vec<&str> = std::iter::once(result).chain(whose.iter().copied()).collect();
    Ok(Session { keys, expires, arn: answer.text_at(&way).map(str::to_owned) })
}

fn account(answer: &Element, result: &str) -> Result<String, AwsError> {
    let account = answer.text_at(&[result, "Account"]).filter(|text| !text.is_empty());
    account.map(str::to_owned).ok_or(AwsError::Unexpected("without an account"))
}

impl Sts {
    async fn ask(&self, form: Form) -> Result<Element, AwsError> {
        let mut unanswered = AwsError::Unexpected("nowhere");
        for endpoint in &self.endpoints {
            match self.client.ask(endpoint, &form).await {
                Err(error @ (AwsError::Unanswered(_) | AwsError::Refused { status: 500.., .. })) => unanswered = error,
                other => return other,
            }
        }
        Err(unanswered)
    }

    fn limited(form: Form, limits: &Limits) -> Form {
        let form = form.with_some("Policy", &limits.document);
        let numbered = limits.arns.iter().zip(1..);
        numbered.fold(form, |form, (arn, number)| form.with(&format!("PolicyArns.member.{number}.arn"), arn))
    }

    /// Whether the keys are any; this asks for no permission.
    pub(crate) async fn identity(&self) -> Result<(), AwsError> {
        self.ask(Form::new("GetCallerIdentity", VERSION)).await.map(drop)
    }

    /// The account that the keys are of; this asks for no permission, and is answered to keys that are any.
    pub(crate) async fn account(&self) -> Result<String, AwsError> {
        let answer = self.ask(Form::new("GetCallerIdentity", VERSION)).await?;
        account(&answer, "GetCallerIdentityResult")
    }

    /// The account that another access key is of, or was before it was deleted.
    pub(crate) async fn account_of(&self, access_key: &str) -> Result<String, AwsError> {
        let answer = self.ask(Form::new("GetAccessKeyInfo", VERSION).with("AccessKeyId", access_key)).await?;
        account(&answer, "GetAccessKeyInfoResult")
    }

    pub(crate) async fn assume_role(
        &self,
        role: &Assumed<'_>,
        limits: &Limits,
        seconds: Option<u64>,
    ) -> Result<Session, AwsError> {
        let form = Form::new("AssumeRole", VERSION).with("RoleArn", role.arn).with("RoleSessionName", role.session);
        let form = form.with_some("ExternalId", role.external_id);
        let form = form.with_some("DurationSeconds", &seconds.map(|seconds| seconds.to_string()).unwrap_or_default());
        let form = role.tags.iter().zip(1..).fold(form, |form, ((key, value), number)| {
            let at = |part| format!("Tags.member.{number}.{part}");
            form.with(&at("Key"), key).with(&at("Value"), value)
        });
        let answer = self.ask(Self::limited(form, limits)).await?;
        session(&answer, "AssumeRoleResult", &["AssumedRoleUser", "Arn"])
    }

    pub(crate) async fn federation_token(
        &self,
        name: &str,
        limits: &Limits,
        seconds: u64,
    ) -> Result<Session, AwsError> {
        let form = Form::new("GetFederationToken", VERSION).with("Name", name);
        let form = form.with("DurationSeconds", &seconds.to_string());
        let answer = self.ask(Self::limited(form, limits)).await?;
        session(&answer, "GetFederationTokenResult", &["FederatedUser", "Arn"])
    }

    pub(crate) async fn session_token(&self, serial: &str, code: &str, seconds: u64) -> Result<Session, AwsError> {
        let form = Form::new("GetSessionToken", VERSION).with("DurationSeconds", &seconds.to_string());
        let form = form.with_some("SerialNumber", serial).with_some("TokenCode", code);
        session(&self.ask(form).await?, "GetSessionTokenResult", &["no", "such"])
    }
}
