//! Certificates of servers, an authority of its own for each; and authorities for those who want to vouch themselves.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

/// Who vouches for others.
pub struct Authority {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: String,
}

impl Authority {
    /// One that nobody knows yet.
    ///
    /// # Errors
    /// What the library says.
    pub fn new() -> Result<Self, String> {
        let made = || -> Result<Self, rcgen::Error> {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::OrganizationName, "Accounts");
            let key = KeyPair::generate()?;
            Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
        };
        made().map_err(|error| error.to_string())
    }
}

/// What a server needs of them, in PEM.
pub(crate) struct Certificates {
    /// The authority's certificate.
    pub(crate) authority: String,
    /// The server's.
    pub(crate) own: String,
    /// The server's key.
    pub(crate) key: String,
    /// Of somebody whom the authority vouches for, and who may show it as a client.
    pub(crate) client: Shown,
}

/// What a client shows, in PEM.
pub struct Shown {
    /// Its certificate.
    pub certificate: String,
    /// The key of that.
    pub key: String,
}

impl Certificates {
    /// Those of a server of this name or address.
    pub(crate) fn of(name: &str) -> Result<Self, String> {
        Self::made(name, false)
    }

    /// The same, of which the server's was valid once.
    pub(crate) fn expired(name: &str) -> Result<Self, String> {
        Self::made(name, true)
    }

    fn made(name: &str, is_over: bool) -> Result<Self, String> {
        let made = || -> Result<Self, rcgen::Error> {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer_key = KeyPair::generate()?;
            let authority = params.self_signed(&issuer_key)?.pem();
            let issuer = Issuer::new(params, issuer_key);
            let key = KeyPair::generate()?;
            let mut own = CertificateParams::new([name.to_owned()])?;
            own.distinguished_name.push(DnType::CommonName, name);
            if is_over {
                (own.not_before, own.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
            }
            let own = own.signed_by(&key, &issuer)?.pem();
            let client_key = KeyPair::generate()?;
            let mut client = CertificateParams::default();
            // Without a name of its own it has the authority's, and is taken for one that vouches for itself.
            client.distinguished_name.push(DnType::CommonName, "a client");
            client.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
            let certificate = client.signed_by(&client_key, &issuer)?.pem();
            let client = Shown { certificate, key: client_key.serialize_pem() };
            Ok(Self { authority, own, key: key.serialize_pem(), client })
        };
        made().map_err(|error| error.to_string())
    }
}
