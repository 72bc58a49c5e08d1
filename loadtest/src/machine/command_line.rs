//! Our own command line for a result, which others may read.

use super::hash;

/// The headers whose values are not for others.
const SECRET_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// The arguments of this process without secrets.
pub(crate) fn own() -> Vec<String> {
    let program = std::iter::once("loadtest".to_owned());
    program.chain(std::env::args().skip(1).map(|argument| without_secret(&argument))).collect()
}

/// A header, or an option with one; two different secrets still differ.
pub(crate) fn without_secret(argument: &str) -> String {
    let Some((name, value)) = argument.split_once(':') else { return argument.to_owned() };
    let header = name.trim_start_matches("--header=").trim_start_matches("-H").trim();
    match SECRET_HEADERS.iter().any(|secret| header.eq_ignore_ascii_case(secret)) {
        true => format!("{name}: SHA-256 {}", hash::sha256(value.trim())),
        false => argument.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_they_are_given() {
        for argument in ["authorization: hunter2", "-HCookie:hunter2", "--header=X-API-Key: hunter2"] {
            let hidden = without_secret(argument);
            assert!(hidden.contains(": SHA-256 ") && !hidden.contains("hunter2"), "{hidden}");
        }
        assert_ne!(without_secret("Cookie: a"), without_secret("Cookie: b"));
        for plain in ["Accept: text/html", "http://localhost:80/", "-c"] {
            assert_eq!(without_secret(plain), plain);
        }
    }
}
