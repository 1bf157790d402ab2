//! Certificates and keys, made and read. Randomness comes in through the keys; time is an argument.

use super::plan::{CA_LIFE, LEAF_LIFE, Validity};
use k8s_openapi::jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What a certificate says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) validity: Validity,
    pub(super) names: Vec<String>,
}

/// Makes a CA. Its name holds the time, so that two CAs of one bundle are told apart.
pub(super) fn authority(now: Timestamp) -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("Deputy CA {}", now.as_second()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    dated(&mut params, Validity::from(now, CA_LIFE));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a serving certificate for `names`, signed by `authority`.
pub(super) fn serving(authority: &Pair, names: &[String], now: Timestamp) -> Result<Pair, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Deputy");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    dated(&mut params, Validity::from(now, LEAF_LIFE));
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn dated(params: &mut CertificateParams, validity: Validity) {
    let at = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(validity.not_before);
    params.not_after = at(validity.not_after);
}

/// Reads a PEM certificate; `None` if it is none.
pub(super) fn read(pem: &str) -> Option<Facts> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = parse_x509_certificate(&der).ok()?;
    let at = |second: i64| Timestamp::from_second(second).ok();
    let validity = Validity {
        not_before: at(certificate.validity().not_before.timestamp())?,
        not_after: at(certificate.validity().not_after.timestamp())?,
    };
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect(),
        _ => vec![],
    };
    Some(Facts { validity, names })
}

/// Whether a pair belongs together and can sign or serve.
pub(super) fn is_usable(pair: &Pair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pair.certificate.as_bytes()) else { return false };
    let (Ok(key), Ok((_, certificate))) = (KeyPair::from_pem(&pair.key), parse_x509_certificate(&der)) else {
        return false;
    };
    certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_back() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = authority(now).unwrap();
        assert_eq!(read(&authority.certificate).unwrap().validity, Validity::from(now, CA_LIFE));
        let names = vec!["deputy-webhook.deputy-system.svc".to_owned(), "deputy-webhook".to_owned()];
        let serving = serving(&authority, &names, now).unwrap();
        let facts = read(&serving.certificate).unwrap();
        assert_eq!(facts, Facts { validity: Validity::from(now, LEAF_LIFE), names });
        assert!(is_usable(&serving) && is_usable(&authority));
        let mixed = Pair { certificate: serving.certificate, key: authority.key };
        assert!(!is_usable(&mixed));
        assert_eq!(read("garbage"), None);
    }
}
