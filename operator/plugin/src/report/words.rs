//! Which names are names of secrets.

/// Parts of names of secrets, in lower case without `-`, `_` and dots.
const PARTS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "jwt",
    "bearer",
    "dockerconfig",
    "signature",
    "apikey",
    "accesskey",
    "privatekey",
    "sessionkey",
    "keydata",
];

/// Whole names of secrets.
const NAMES: &[&str] = &["pass", "pw", "auth", "pin"];

/// Ends of names that only tell of a secret: where it is, how long it lasts.
const ABOUT: &[&str] = &[
    "name", "ref", "file", "path", "seconds", "period", "ttl", "enabled", "required", "count", "bytes",
    "type", "mode", "policy",
];

/// Names that end in `key` and are none.
const NO_KEYS: &[&str] = &["key", "topologykey", "publickey"];

/// Whether what goes by this name is secret.
pub(super) fn looks_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|one| one.is_ascii_alphanumeric()).map(|one| one.to_ascii_lowercase()).collect();
    if ABOUT.iter().any(|end| plain.ends_with(end)) {
        return false;
    }
    NAMES.contains(&plain.as_str())
        || PARTS.iter().any(|part| plain.contains(part))
        || (plain.ends_with("key") && !NO_KEYS.contains(&plain.as_str()))
}

/// Whether what goes by this name in a URL's query is secret: shorter names are used there.
pub(super) fn looks_secret_in_query(name: &str) -> bool {
    looks_secret(name)
        || matches!(name.to_ascii_lowercase().as_str(), "key" | "sig" | "code" | "hash" | "sign" | "session")
}

/// Whether all that follows on the line belongs to it: headers with several words.
pub(super) fn takes_the_line(name: &str) -> bool {
    let plain = name.to_ascii_lowercase();
    plain.ends_with("authorization") || plain.ends_with("cookie")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "password",
            "storePassword",
            "STORE_PASSWORD",
            "admin_token",
            "adminToken",
            "--admin-token",
            "cluster_key",
            "clusterKey",
            "jwtSecretKey",
            "X-Api-Key",
            "example.com/api-token",
            "Authorization",
            "srt.passphrase",
            ".dockerconfigjson",
            "AWS_SECRET_ACCESS_KEY",
            "streamKey",
            "licenceKey",
            "passwordHash",
            "auth",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "name",
            "key",
            "secretName",
            "cluster_key_file",
            "topologyKey",
            "SLUICE_ADMIN_TOKEN_FILE",
            "tokenExpirationSeconds",
            "replicas",
            "image",
            "author",
            "keyframes",
            "bypass",
            "spinning",
            "monkeys",
            "publicKey",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
