//! TLS to the database: what is encrypted on one side, what is plain on the other, and no I/O.

mod certificates;

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};

use super::error::{Error, Kind};
use super::trust::Trust;

/// The most that one record of TLS has in it.
const RECORD_BYTES: usize = 16 * 1024;

/// How connections are encrypted, and whom they are for.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the file of `roots` now, and not for each connection.
    ///
    /// # Errors
    /// What is wrong with it, or that it is needed.
    pub(super) fn new(trust: Trust, roots: Option<&str>, host: &str) -> Result<Self, String> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| "no certificate can be for the name of its host")?;
        // Named, for in a build with other programs rustls may have another one, too.
        let provider = Arc::new(ring::default_provider());
        let verifier = certificates::Verifier::new(trust, roots, provider.clone())?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.dangerous();
        let mut config = config.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        // PostgreSQL resumes no connection, and forked processes would all have a copy of what it takes.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }
}

/// The TLS of one connection.
pub(super) struct Layer {
    connection: Box<ClientConnection>,
    /// Whether the database has said that it has TLS. What is sent before is kept back until it is encrypted.
    is_agreed: bool,
}

impl Layer {
    /// Writes the question whether the database has TLS.
    pub(super) fn begin(tls: &Tls, output: &mut BytesMut) -> Result<Self, Error> {
        let connection = ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(failed)?;
        frontend::ssl_request(output);
        Ok(Self { connection: Box::new(connection), is_agreed: false })
    }

    /// Takes bytes that have come. What was encrypted in them goes to `plain`, what TLS itself has to say to `output`.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        plain: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<(), Error> {
        if !self.is_agreed {
            check_reply(bytes)?;
            self.is_agreed = true;
            return self.flush(output);
        }
        while !bytes.is_empty() {
            // Whatever comes after the end of TLS is nobody's.
            if self.connection.read_tls(&mut bytes).map_err(Error::protocol)? == 0 {
                break;
            }
            let state = self.connection.process_new_packets().map_err(failed)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[start..]).map_err(Error::protocol)?;
        }
        self.flush(output)
    }

    /// Writes `plain`, encrypted.
    pub(super) fn send(&mut self, plain: &[u8], output: &mut BytesMut) -> Result<(), Error> {
        // Piece by piece, for rustls keeps only a few back.
        for piece in plain.chunks(RECORD_BYTES) {
            self.connection.writer().write_all(piece).map_err(Error::protocol)?;
            if self.is_agreed {
                self.flush(output)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut BufMut::writer(&mut *output)).map_err(Error::protocol)?;
        }
        Ok(())
    }
}

/// Looks at what the database says to the question whether it has TLS.
fn check_reply(reply: &[u8]) -> Result<(), Error> {
    let why = match reply {
        [b'S'] => return Ok(()),
        // Somebody in between could have added it, so that it seems to have come encrypted.
        [b'S', ..] => "it has sent more than a letter before the encryption began",
        [b'N', ..] => "it has no TLS: set ssl = on in its postgresql.conf, or leave sslmode out of --db",
        _ => "it says neither that it has TLS nor that it has none",
    };
    Err(Error::new(Kind::Tls, why))
}

/// Why there is no TLS.
fn failed(error: rustls::Error) -> Error {
    use CertificateError as Certificate;
    let rustls::Error::InvalidCertificate(wrong) = &error else { return Error::new(Kind::Tls, error.to_string()) };
    let why = match wrong {
        Certificate::UnknownIssuer => "its certificate is signed by nobody in sslrootcert".to_owned(),
        Certificate::Expired | Certificate::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or the clock here is wrong".to_owned()
        }
        // A common name is no name: RFC 9525.
        Certificate::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "its certificate has no subjectAltName".to_owned()
        }
        Certificate::NotValidForNameContext { presented, .. } => {
            format!("its certificate is not for the host in --db, but for {}", presented.join(", "))
        }
        Certificate::NotValidForName => "its certificate is not for the host in --db".to_owned(),
        // One that signs itself is often made as that of an authority: CaUsedAsEndEntity.
        Certificate::Other(wrong) => {
            format!("its certificate is not a server's: {wrong}; a server's is made with basicConstraints=CA:FALSE")
        }
        _ => error.to_string(),
    };
    Error::new(Kind::Tls, why)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::version::{TLS12, TLS13};
    use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, SupportedProtocolVersion};

    use super::super::Question;
    use super::super::connection::{Connection, Step};
    use super::super::target::{Target, Url};
    use super::*;
    use crate::app::Query;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/");
    const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    /// It lets anybody in.
    const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

    fn target(host: &str, sslmode: &str, roots: &str) -> Result<Target, String> {
        let roots = if roots.is_empty() { String::new() } else { format!("&sslrootcert={FOLDER}{roots}") };
        format!("postgres://ada:hunter2@{host}/x?sslmode={sslmode}{roots}").parse::<Url>().unwrap().target()
    }

    /// A connection that has asked for TLS.
    fn started(target: Target) -> Connection {
        let (mut connection, mut output) = (Connection::new(Arc::new(target)), BytesMut::new());
        connection.start(&mut output).unwrap();
        assert_eq!(output, SSL_REQUEST, "nothing else, as long as it is not encrypted");
        connection
    }

    fn database(certificate: &str, versions: &[&'static SupportedProtocolVersion]) -> ServerConnection {
        let certificate = CertificateDer::from_pem_file(format!("{FOLDER}{certificate}")).unwrap();
        let key = PrivateKeyDer::from_pem_file(format!("{FOLDER}key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_protocol_versions(versions).unwrap().with_no_client_auth();
        ServerConnection::new(Arc::new(config.with_single_cert(vec![certificate], key).unwrap())).unwrap()
    }

    /// What the database finds in these bytes.
    fn hear(database: &mut ServerConnection, mut bytes: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        while !bytes.is_empty() {
            database.read_tls(&mut bytes).unwrap();
            database.process_new_packets().unwrap();
            let _ = database.reader().read_to_end(&mut heard);
        }
        heard
    }

    /// Brings what the database says to the connection, in small pieces.
    fn say(
        database: &mut ServerConnection,
        plain: &[u8],
        connection: &mut Connection,
        output: &mut BytesMut,
    ) -> Result<Option<Step>, Error> {
        database.writer().write_all(plain).unwrap();
        let mut bytes = Vec::new();
        while database.wants_write() {
            database.write_tls(&mut bytes).unwrap();
        }
        bytes.chunks(7).try_fold(None, |_, piece| {
            connection.receive(piece, output)?;
            connection.next(output)
        })
    }

    /// Lets a connection in, or says why it does not want to be.
    fn meet(target: Target, database: &mut ServerConnection) -> Result<Connection, Error> {
        let (mut connection, mut output) = (started(target), BytesMut::new());
        connection.receive(b"S", &mut output)?;
        for _ in 0..5 {
            let heard = hear(database, &output.split());
            let is_startup = heard.windows(9).any(|bytes| bytes == b"user\0ada\0");
            let reply = if is_startup { WELCOME } else { b"" };
            if say(database, reply, &mut connection, &mut output)? == Some(Step::Ready) {
                return Ok(connection);
            }
        }
        panic!("they do not come to an end");
    }

    #[test]
    fn all_that_is_said_is_encrypted() {
        for version in [&TLS12, &TLS13] {
            let mut database = database("server.pem", &[version]);
            let mut connection = meet(target("db.example", "verify-full", "root.pem").unwrap(), &mut database).unwrap();
            let (body, mut output) = (vec![b'x'; 100_000], BytesMut::new());
            let question = Question { query: Query::Insert, body: &body, sleep: Duration::ZERO };
            connection.ask(&question, &mut output).unwrap();
            assert!(!output.windows(9).any(|bytes| bytes == b"xxxxxxxxx"));
            let heard = hear(&mut database, &output.split());
            assert!(heard.windows(body.len()).any(|bytes| bytes == body), "{version:?}");
            let row = [&b"D\0\x01\x86\xaa\0\x01\0\x01\x86\xa0"[..], &body].concat();
            let answer = [b"1\0\0\0\x042\0\0\0\x04", &row[..], b"Z\0\0\0\x05I"].concat();
            for piece in answer.chunks(10_000).take(answer.len() / 10_000) {
                assert_eq!(say(&mut database, piece, &mut connection, &mut output), Ok(None));
            }
            let last = &answer[answer.len() / 10_000 * 10_000..];
            let step = say(&mut database, last, &mut connection, &mut output).unwrap();
            assert_eq!(step, Some(Step::Answer(Ok(Some(body)))));
            connection.end(&mut output).unwrap();
            assert_eq!(hear(&mut database, &output), b"X\0\0\0\x04");
        }
    }

    #[test]
    fn a_certificate_is_believed_as_sslmode_says() {
        for (host, sslmode, roots, certificate, why) in [
            ("db.example", "verify-full", "root.pem", "server.pem", ""),
            ("other.example", "verify-full", "root.pem", "server.pem", "not for the host"),
            ("127.0.0.1", "verify-full", "root.pem", "server.pem", "not for the host"),
            ("other.example", "verify-ca", "root.pem", "server.pem", ""),
            ("db.example", "verify-ca", "other-root.pem", "server.pem", "signed by nobody"),
            ("db.example", "verify-full", "other-root.pem", "server.pem", "signed by nobody"),
            ("db.example", "verify-full", "root.pem", "expired.pem", "expired"),
            ("other.example", "verify-ca", "root.pem", "expired.pem", "expired"),
            ("db.example", "verify-full", "authority.pem", "authority.pem", "CA:FALSE"),
            ("other.example", "require", "", "expired.pem", ""),
            ("other.example", "require", "root.pem", "server.pem", ""),
            ("db.example", "require", "other-root.pem", "server.pem", "signed by nobody"),
        ] {
            let case = format!("{sslmode} {roots} for {host}: {certificate}");
            let target = target(host, sslmode, roots).unwrap();
            match meet(target, &mut database(certificate, ALL_VERSIONS)) {
                Ok(_) => assert_eq!(why, "", "{case}"),
                Err(error) => {
                    assert_eq!(error.kind, Kind::Tls, "{case}");
                    assert!(!why.is_empty() && error.to_string().contains(why), "{case}: {error}");
                }
            }
        }
    }

    #[test]
    fn who_has_no_tls_or_says_more_than_that_is_refused() {
        for (reply, why) in [
            (&b"N"[..], "ssl = on"),
            (b"NZ\0\0\0\x05I", "ssl = on"),
            (b"SZ\0\0\0\x05I", "before the encryption began"),
            (&[b"S", WELCOME].concat(), "before the encryption began"),
            (b"E\0\0\0\x05hunter", "neither"),
            (WELCOME, "neither"),
        ] {
            let mut output = BytesMut::new();
            let mut connection = started(target("db.example", "require", "").unwrap());
            let error = connection.receive(reply, &mut output).unwrap_err();
            assert!(error.kind == Kind::Tls && error.to_string().contains(why), "{error}");
            assert!(output.is_empty() && !error.to_string().contains("hunter"), "{error}");
        }
        let mut connection = started(target("db.example", "require", "").unwrap());
        connection.receive(b"S", &mut BytesMut::new()).unwrap();
        let error = connection.receive(WELCOME, &mut BytesMut::new()).unwrap_err();
        assert_eq!(error.kind, Kind::Tls, "it must not go on without");
    }

    #[test]
    fn what_is_missing_or_unusable_is_said() {
        for (sslmode, roots, why) in [
            ("verify-full", "", "need sslrootcert"),
            ("verify-ca", "", "need sslrootcert"),
            ("require", "nowhere.pem", "No such file"),
            ("verify-ca", "README.md", "no certificate in it"),
            ("verify-ca", "key.pem", "no certificate in it"),
        ] {
            let error = target("db.example", sslmode, roots).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for sslmode in ["require", "verify-ca"] {
            assert!(Tls::new(Trust::of(sslmode).unwrap().unwrap(), Some("system"), "a").is_err());
        }
    }
}
