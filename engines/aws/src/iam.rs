//! IAM: users, their keys, and what they may; each call is one action.
//!
//! Deliberately absent: retries (`query`), and in which order things are made and taken apart (`users`).

use tresor_secret::SecretString;
use tresor_sigv4::Keys;
use tresor_sigv4::xml::Element;
use tresor_wire::time::parse_rfc3339;

use crate::query::{AwsError, Client, Endpoint, Form};

const VERSION: &str = "2010-05-08";
/// How many pages of a list are asked for.
const PAGES_MAX: usize = 20;

/// IAM, as somebody asks it.
pub(crate) struct Iam {
    pub(crate) client: Client,
    pub(crate) endpoint: Endpoint,
}

/// A key of a user, as lists show it.
pub(crate) struct KnownKey {
    pub(crate) id: String,
    /// In seconds since 1970.
    pub(crate) created: i64,
}

/// A user, as AWS knows it.
pub(crate) struct KnownUser {
    pub(crate) name: String,
    /// What nobody else ever has, whatever the name becomes.
    pub(crate) id: String,
}

/// What belongs to a user and has to go before it does.
#[derive(Clone, Copy)]
pub(crate) struct Belonging {
    /// The action that lists it, and where the list is in its answer.
    list: &'static str,
    at: &'static str,
    /// The name of an entry within the list; empty: the entry itself.
    name: &'static str,
    /// The action that takes it away, and how that calls the name.
    delete: &'static str,
    parameter: &'static str,
}

/// What lets a user in, and what every user that is made here may have.
pub(crate) const USUAL: [Belonging; 4] = [
    Belonging {
        list: "ListAccessKeys",
        at: "AccessKeyMetadata",
        name: "AccessKeyId",
        delete: "DeleteAccessKey",
        parameter: "AccessKeyId",
    },
    Belonging {
        list: "ListAttachedUserPolicies",
        at: "AttachedPolicies",
        name: "PolicyArn",
        delete: "DetachUserPolicy",
        parameter: "PolicyArn",
    },
    Belonging {
        list: "ListUserPolicies",
        at: "PolicyNames",
        name: "",
        delete: "DeleteUserPolicy",
        parameter: "PolicyName",
    },
    Belonging {
        list: "ListGroupsForUser",
        at: "Groups",
        name: "GroupName",
        delete: "RemoveUserFromGroup",
        parameter: "GroupName",
    },
];

/// What a user may have got since, from itself or others.
pub(crate) const OTHERS: [Belonging; 4] = [
    Belonging {
        list: "ListMFADevices",
        at: "MFADevices",
        name: "SerialNumber",
        delete: "DeactivateMFADevice",
        parameter: "SerialNumber",
    },
    Belonging {
        list: "ListSigningCertificates",
        at: "Certificates",
        name: "CertificateId",
        delete: "DeleteSigningCertificate",
        parameter: "CertificateId",
    },
    Belonging {
        list: "ListSSHPublicKeys",
        at: "SSHPublicKeys",
        name: "SSHPublicKeyId",
        delete: "DeleteSSHPublicKey",
        parameter: "SSHPublicKeyId",
    },
    Belonging {
        list: "ListServiceSpecificCredentials",
        at: "ServiceSpecificCredentials",
        name: "ServiceSpecificCredentialId",
        delete: "DeleteServiceSpecificCredential",
        parameter: "ServiceSpecificCredentialId",
    },
];

fn form(action: &'static str) -> Form {
    Form::new(action, VERSION)
}

/// The text at a place where every answer has one.
fn there(answer: &Element, way: &[&str]) -> Result<String, AwsError> {
    let text = answer.text_at(way).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or(AwsError::Unexpected("without what was asked for"))
}

impl Iam {
    async fn ask(&self, form: Form) -> Result<Element, AwsError> {
        self.client.ask(&self.endpoint, &form).await
    }

    /// Does what is done when it was done before.
    async fn ensure(&self, form: Form) -> Result<(), AwsError> {
        self.ask(form).await.map(drop)
    }

    /// Takes away what is gone when it was gone before.
    async fn remove(&self, form: Form) -> Result<(), AwsError> {
        match self.ensure(form).await {
            Err(error) if error.is_absence() => Ok(()),
            other => other,
        }
    }

    /// All entries of a list, page by page.
    async fn list(
        &self,
        action: &'static str,
        whose: (&str, &str),
        at: &str,
        read: impl Fn(&Element) -> Option<String>,
    ) -> Result<Vec<String>, AwsError> {
        let result = format!("{action}Result");
        let mut entries = Vec::new();
        let mut marker = String::new();
        for _ in 0..PAGES_MAX {
            let page = form(action).with(whose.0, whose.1).with_some("Marker", &marker);
            let answer = self.ask(page).await?;
            for member in answer.members(&[&result, at]) {
                entries.push(read(member).ok_or(AwsError::Unexpected("a list without names"))?);
            }
            if answer.text_at(&[&result, "IsTruncated"]) != Some("true") {
                return Ok(entries);
            }
            marker = there(&answer, &[&result, "Marker"])?;
        }
        Err(AwsError::Unexpected("a list without an end"))
    }

    /// A user; without a name, who asks.
    pub(crate) async fn user(&self, name: &str) -> Result<KnownUser, AwsError> {
        let answer = self.ask(form("GetUser").with_some("UserName", name)).await?;
        let user = ["GetUserResult", "User"];
        let part = |name| there(&answer, &[user[0], user[1], name]);
        Ok(KnownUser { name: part("UserName")?, id: part("UserId")? })
    }

    pub(crate) async fn create_user(
        &self,
        name: &str,
        path: &str,
        boundary: &str,
        tags: impl Iterator<Item = (&str, &str)>,
    ) -> Result<(), AwsError> {
        let named = form("CreateUser").once().with("UserName", name).with_some("Path", path);
        let bounded = named.with_some("PermissionsBoundary", boundary);
        let tagged = tags.zip(1..).fold(bounded, |form, ((key, value), number)| {
            let at = |part| format!("Tags.member.{number}.{part}");
            form.with(&at("Key"), key).with(&at("Value"), value)
        });
        self.ensure(tagged).await
    }

    pub(crate) async fn attach_policy(&self, user: &str, arn: &str) -> Result<(), AwsError> {
        self.ensure(form("AttachUserPolicy").with("UserName", user).with("PolicyArn", arn)).await
    }

    pub(crate) async fn put_policy(&self, user: &str, name: &str, document: &str) -> Result<(), AwsError> {
        let named = form("PutUserPolicy").with("UserName", user).with("PolicyName", name);
        self.ensure(named.with("PolicyDocument", document)).await
    }

    pub(crate) async fn add_to_group(&self, user: &str, group: &str) -> Result<(), AwsError> {
        self.ensure(form("AddUserToGroup").with("UserName", user).with("GroupName", group)).await
    }

    pub(crate) async fn create_key(&self, user: &str) -> Result<Keys, AwsError> {
        let answer = self.ask(form("CreateAccessKey").once().with("UserName", user)).await?;
        let part = |name| there(&answer, &["CreateAccessKeyResult", "AccessKey", name]);
        let secret_key = SecretString::new(part("SecretAccessKey")?);
        Ok(Keys { access_key: part("AccessKeyId")?, secret_key, session_token: None })
    }

    pub(crate) async fn delete_key(&self, user: &str, id: &str) -> Result<(), AwsError> {
        self.remove(form("DeleteAccessKey").with("UserName", user).with("AccessKeyId", id)).await
    }

    /// The keys of a user, the oldest first.
    pub(crate) async fn keys(&self, user: &str) -> Result<Vec<KnownKey>, AwsError> {
        // A user has two at most, so one page has them all.
        let answer = self.ask(form("ListAccessKeys").with("UserName", user)).await?;
        let known = |member: &Element| {
            let created = parse_rfc3339(member.text_at(&["CreateDate"])?)?;
            Some(KnownKey { id: member.text_at(&["AccessKeyId"])?.to_owned(), created: created.seconds() })
        };
        let keys: Option<Vec<_>> = answer.members(&["ListAccessKeysResult", "AccessKeyMetadata"]).map(known).collect();
        let mut keys = keys.ok_or(AwsError::Unexpected("keys without a date"))?;
        keys.sort_by_key(|key| key.created);
        Ok(keys)
    }

    /// Takes away all that a user has of something; `NoSuchEntity` when there is no such user.
    pub(crate) async fn strip(&self, user: &str, of: Belonging) -> Result<(), AwsError> {
        let name = |member: &Element| {
            let way = [of.name];
            let text = if of.name.is_empty() { member.text_at(&[]) } else { member.text_at(&way) };
            text.map(str::to_owned)
        };
        for name in self.list(of.list, ("UserName", user), of.at, name).await? {
            self.remove(form(of.delete).with("UserName", user).with(of.parameter, &name)).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete_login(&self, user: &str) -> Result<(), AwsError> {
        self.remove(form("DeleteLoginProfile").with("UserName", user)).await
    }

    pub(crate) async fn delete_user(&self, user: &str) -> Result<(), AwsError> {
        self.remove(form("DeleteUser").with("UserName", user)).await
    }

    /// The managed policies of a group, by ARN.
    pub(crate) async fn group_arns(&self, group: &str) -> Result<Vec<String>, AwsError> {
        let arn = |member: &Element| member.text_at(&["PolicyArn"]).map(str::to_owned);
        self.list("ListAttachedGroupPolicies", ("GroupName", group), "AttachedPolicies", arn).await
    }

    /// The inline policies of a group, as documents.
    pub(crate) async fn group_documents(&self, group: &str) -> Result<Vec<String>, AwsError> {
        let name = |member: &Element| member.text_at(&[]).map(str::to_owned);
        let names = self.list("ListGroupPolicies", ("GroupName", group), "PolicyNames", name).await?;
        let mut documents = Vec::with_capacity(names.len());
        for name in names {
            let answer = self.ask(form("GetGroupPolicy").with("GroupName", group).with("PolicyName", &name)).await?;
            let document = there(&answer, &["GetGroupPolicyResult", "PolicyDocument"])?;
            documents.push(unescaped(&document).ok_or(AwsError::Unexpected("a policy that cannot be read"))?);
        }
        Ok(documents)
    }
}

/// A text whose bytes were spelled as in a form.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (pair, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
                rest = after;
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_out_of_its_spelling() {
        assert_eq!(unescaped("%7B%22a%22%3A+%22%C3%BC%22%7D").as_deref(), Some(r#"{"a": "ü"}"#));
        for wrong in ["%", "%7", "%zz", "%ff"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
