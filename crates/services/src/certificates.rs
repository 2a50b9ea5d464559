//! Certificates of servers: an authority of its own for each.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// What a server needs of them, in PEM.
pub(crate) struct Certificates {
    /// The authority's certificate.
    pub(crate) authority: String,
    /// The server's.
    pub(crate) own: String,
    /// The server's key.
    pub(crate) key: String,
}

impl Certificates {
    /// Those of a server of this name or address.
    pub(crate) fn of(name: &str) -> Result<Self, String> {
        let made = || -> Result<Self, rcgen::Error> {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer_key = KeyPair::generate()?;
            let authority = params.self_signed(&issuer_key)?.pem();
            let issuer = Issuer::new(params, issuer_key);
            let key = KeyPair::generate()?;
            let own = CertificateParams::new([name.to_owned()])?.signed_by(&key, &issuer)?.pem();
            Ok(Self { authority, own, key: key.serialize_pem() })
        };
        made().map_err(|error| error.to_string())
    }
}
