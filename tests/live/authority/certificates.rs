//! Certificates of this test, in files.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// A folder of a test; it goes with it.
pub(crate) struct Folder(pub(crate) TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(TempDir::with_prefix("heartbeat-certificates-").unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that its owner alone may read: this user, or the one given.
    pub(crate) fn write(&self, name: &str, text: &str, owner: Option<(u32, u32)>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = owner {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write_pair(&self, name: &str, pair: &Pair, owner: Option<(u32, u32)>) -> (PathBuf, PathBuf) {
        let certificate = self.write(&format!("{name}.pem"), &pair.certificate, owner);
        (certificate, self.write(&format!("{name}.key"), &pair.key, owner))
    }
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// One that signs certificates.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Ca { issuer: Issuer::new(params, key), certificate }
    }

    /// Of a server or a client with this name or address, until this year.
    pub(crate) fn sign(&self, name: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// The year until which the certificates last that are not to expire.
pub(crate) const LATER: i32 = 2090;

/// The first half of a text, as a writer leaves it that was interrupted.
pub(crate) fn half(text: &str) -> &str {
    &text[..text.len() / 2]
}

/// A path as it stands in an error.
pub(crate) fn shown(path: &Path) -> String {
    format!("{path:?}")
}
