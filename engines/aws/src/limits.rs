//! What keys that end by themselves may at most: the policies of a role, and those of its groups as they are now.
//!
//! Deliberately absent: judging policies, which AWS does.

use tresor_model::{Body, Map};
use tresor_wire::json::{self, JsonLimits};

use crate::iam::Iam;
use crate::query::AwsError;
use crate::sts::Limits;

/// The language of policies.
const LANGUAGE: &str = "2012-10-17";

/// The policies of a role with those of its groups.
pub(crate) async fn collect(iam: &Iam, document: &str, arns: &[String], groups: &[String]) -> Result<Limits, AwsError> {
    let mut limits = Limits { document: document.to_owned(), arns: arns.to_vec() };
    let mut documents = Vec::new();
    for group in groups {
        limits.arns.extend(iam.group_arns(group).await?);
        documents.extend(iam.group_documents(group).await?);
    }
    if !documents.is_empty() {
        documents.push(document.to_owned());
        limits.document = combined(&documents).ok_or(AwsError::Unexpected("a policy that cannot be read"))?;
    }
    Ok(limits)
}

/// One policy with the statements of all.
fn combined(documents: &[String]) -> Option<String> {
    let mut statements = Vec::new();
    for document in documents.iter().filter(|document| !document.is_empty()) {
        let mut policy = json::decode(document.as_bytes(), &JsonLimits::default()).ok()?;
        match policy.remove("Statement")? {
            Body::List(more) => statements.extend(more),
            one @ Body::Map(_) => statements.push(one),
            _ => return None,
        }
    }
    let mut out = Vec::new();
    json::encode_map(&Map::new().with("Version", LANGUAGE).with("Statement", statements), &mut out);
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_all_policies_are_in_one() {
        let one = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow"}}"#.to_owned();
        let many = r#"{"Statement":[{"Effect":"Deny"},{"Sid":"x"}]}"#.to_owned();
        let all = r#"{"Statement":[{"Effect":"Allow"},{"Effect":"Deny"},{"Sid":"x"}],"Version":"2012-10-17"}"#;
        assert_eq!(combined(&[one, String::new(), many]).as_deref(), Some(all));
        for wrong in ["{}", "x", r#"{"Statement":1}"#] {
            assert_eq!(combined(&[wrong.to_owned()]), None, "{wrong}");
        }
    }
}
