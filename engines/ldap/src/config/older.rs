//! The configuration as it was stored before.
//!
//! Deliberately absent: what any of it means; that is the newest one's.

use std::time::Duration;

use tresor_credential::Timing;
use tresor_model::Timestamp;
use tresor_record::Record;
use tresor_secret::SecretString;

use super::{Config, Schema};

/// The configuration when roles alone said how long accounts live.
#[derive(Record)]
#[record(kind = "ldap-config", version = 2, previous = ConfigV1)]
pub(super) struct ConfigV2 {
    number: u64,
    is_former: bool,
    url: String,
    bind_name: String,
    password: SecretString,
    last_password: Option<SecretString>,
    rotated: Option<Timestamp>,
    candidate: Option<SecretString>,
    schema: Schema,
    password_policy: String,
    length: u64,
    base: String,
    user_attribute: String,
    upn_domain: String,
    request_timeout: Duration,
    connection_timeout: Duration,
    start_tls: bool,
    insecure_tls: bool,
    authority: String,
    client_certificate: String,
    client_key: SecretString,
    tls_oldest: String,
    tls_newest: String,
    skip_import: bool,
    timing: Timing,
    is_rotation_disabled: bool,
    is_self_managed: bool,
}

impl From<ConfigV2> for Config {
    fn from(older: ConfigV2) -> Self {
        Self {
            number: older.number,
            is_former: older.is_former,
            url: older.url,
            bind_name: older.bind_name,
            password: older.password,
            last_password: older.last_password,
            rotated: older.rotated,
            candidate: older.candidate,
            schema: older.schema,
            password_policy: older.password_policy,
            length: older.length,
            base: older.base,
            user_attribute: older.user_attribute,
            upn_domain: older.upn_domain,
            request_timeout: older.request_timeout,
            connection_timeout: older.connection_timeout,
            start_tls: older.start_tls,
            insecure_tls: older.insecure_tls,
            authority: older.authority,
            client_certificate: older.client_certificate,
            client_key: older.client_key,
            tls_oldest: older.tls_oldest,
            tls_newest: older.tls_newest,
            skip_import: older.skip_import,
            timing: older.timing,
            is_rotation_disabled: older.is_rotation_disabled,
            is_self_managed: older.is_self_managed,
            ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
        }
    }
}

/// The configuration when there always was somebody who acts for others.
#[derive(Record)]
#[record(kind = "ldap-config", version = 1)]
pub(super) struct ConfigV1 {
    number: u64,
    is_former: bool,
    url: String,
    bind_name: String,
    password: SecretString,
    last_password: Option<SecretString>,
    rotated: Option<Timestamp>,
    candidate: Option<SecretString>,
    schema: Schema,
    password_policy: String,
    length: u64,
    base: String,
    user_attribute: String,
    upn_domain: String,
    request_timeout: Duration,
    connection_timeout: Duration,
    start_tls: bool,
    insecure_tls: bool,
    authority: String,
    client_certificate: String,
    client_key: SecretString,
    tls_oldest: String,
    tls_newest: String,
    skip_import: bool,
    timing: Timing,
    is_rotation_disabled: bool,
}

impl From<ConfigV1> for ConfigV2 {
    fn from(older: ConfigV1) -> Self {
        Self {
            number: older.number,
            is_former: older.is_former,
            url: older.url,
            bind_name: older.bind_name,
            password: older.password,
            last_password: older.last_password,
            rotated: older.rotated,
            candidate: older.candidate,
            schema: older.schema,
            password_policy: older.password_policy,
            length: older.length,
            base: older.base,
            user_attribute: older.user_attribute,
            upn_domain: older.upn_domain,
            request_timeout: older.request_timeout,
            connection_timeout: older.connection_timeout,
            start_tls: older.start_tls,
            insecure_tls: older.insecure_tls,
            authority: older.authority,
            client_certificate: older.client_certificate,
            client_key: older.client_key,
            tls_oldest: older.tls_oldest,
            tls_newest: older.tls_newest,
            skip_import: older.skip_import,
            timing: older.timing,
            is_rotation_disabled: older.is_rotation_disabled,
            is_self_managed: false,
        }
    }
}
