//! The protocol of one connection: bytes in, bytes out, and no I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, DataRowBody, Message};
use postgres_protocol::message::frontend;

use super::error::{Error, Kind};
use super::target::Target;
use super::tls::Layer;
use super::{Answer, Question};
use crate::app::Query;

/// The statements, as often as not with a sleep.
const STATEMENTS: [&str; 4] = [
    "select id, name, born from people where id = $1",
    "select id, name, born, pg_sleep($2) from people where id = $1",
    "insert into posts (body) values ($1) returning body",
    "with posted as (insert into posts (body) values ($1) returning body) select body, pg_sleep($2) from posted",
];
/// The names under which they are prepared.
const NAMES: [&str; 4] = ["find", "find_slowly", "insert", "insert_slowly"];

const TEXT: i16 = 0;
const BINARY: i16 = 1;

/// The protocol of one connection. The database answers its questions in the order in which they were asked, and says when it
/// is done with each: an answer cannot be for somebody else's.
pub struct Connection {
    target: Arc<Target>,
    /// What encrypts it, from the start on.
    layer: Option<Layer>,
    phase: Phase,
    /// What has come, decrypted, and is not whole yet.
    input: BytesMut,
    is_prepared: [bool; STATEMENTS.len()],
}

enum Phase {
    /// The database has not let us in yet.
    Starting(Option<ScramSha256>),
    /// These are asked, the next that it answers first.
    Asking(VecDeque<Asked>),
}

/// A question without a whole answer yet.
struct Asked {
    statement: usize,
    /// It is sent with its statement, which is not known to be prepared yet.
    prepares: bool,
    row: Answer,
    error: Option<Error>,
}

/// What the bytes so far make complete.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The database has let us in.
    Ready,
    /// The answer to the first question that had none, or what the database complains of. The connection is good for the next
    /// one either way.
    Answer(Result<Answer, Error>),
}

impl Connection {
    /// A new connection, which has nothing to say before [`start`](Self::start).
    pub fn new(target: Arc<Target>) -> Self {
        let (phase, input) = (Phase::Starting(None), BytesMut::new());
        Self { target, layer: None, phase, input, is_prepared: Default::default() }
    }

    /// Writes what has to be sent first.
    ///
    /// # Errors
    /// It is too long, or cannot be encrypted.
    pub fn start(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        self.layer = self.target.tls.as_ref().map(|tls| Layer::begin(tls, output)).transpose()?;
        let start = output.len();
        let parameters = [
            ("user", &*self.target.user),
            ("database", &*self.target.database),
            ("client_encoding", "UTF8"),
            ("application_name", "c10k"),
        ];
        frontend::startup_message(parameters, output).map_err(Error::protocol)?;
        self.encrypt(output, start)
    }

    /// Writes that nothing more will be asked.
    ///
    /// # Errors
    /// It cannot be encrypted.
    pub fn end(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        let start = output.len();
        frontend::terminate(output);
        self.encrypt(output, start)
    }

    /// Writes a question. It may be asked before the last one is answered.
    ///
    /// # Errors
    /// It is too long, or the database has not let us in yet. Nothing is written then.
    pub fn ask(&mut self, question: &Question<'_>, output: &mut BytesMut) -> Result<(), Error> {
        let start = output.len();
        self.try_ask(question, output).inspect_err(|_| output.truncate(start))
    }

    fn try_ask(&mut self, question: &Question<'_>, output: &mut BytesMut) -> Result<(), Error> {
        let Phase::Asking(asked) = &mut self.phase else { return Err(unexpected()) };
        let is_slow = !question.sleep.is_zero();
        let statement = usize::from(question.query == Query::Insert) * 2 + usize::from(is_slow);
        let name = if self.target.keeps_statements { NAMES[statement] } else { "" };
        let start = output.len();
        let prepares = !self.is_prepared[statement];
        if prepares {
            frontend::parse(name, STATEMENTS[statement], [], output).map_err(Error::protocol)?;
        }
        bind(name, question, is_slow, output)?;
        frontend::execute("", 0, output).map_err(Error::protocol)?;
        frontend::sync(output);
        // Those that are asked before the answer find it prepared.
        self.is_prepared[statement] = self.target.keeps_statements;
        asked.push_back(Asked { statement, prepares, row: None, error: None });
        self.encrypt(output, start)
    }

    /// Takes bytes that have come, and writes what TLS wants to be answered with. [`next`](Self::next) says what is in them.
    ///
    /// # Errors
    /// They cannot be decrypted.
    pub fn receive(&mut self, bytes: &[u8], output: &mut BytesMut) -> Result<(), Error> {
        match &mut self.layer {
            Some(layer) => layer.receive(bytes, &mut self.input, output),
            None => {
                self.input.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// What is complete; `None` if more has to come. Writes what the database wants to be answered with.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn next(&mut self, output: &mut BytesMut) -> Result<Option<Step>, Error> {
        let start = output.len();
        let mut step = None;
        while step.is_none()
            && let Some(message) = Message::parse(&mut self.input).map_err(Error::protocol)?
        {
            step = self.take(message, output)?;
        }
        self.encrypt(output, start)?;
        Ok(step)
    }

    /// Whether all that was asked is answered, and nothing has come besides, of which nobody knows to whom it belongs.
    pub fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Asking(asked) if asked.is_empty()) && self.input.is_empty()
    }

    /// Encrypts what has been written since `start`, if the connection is encrypted.
    fn encrypt(&mut self, output: &mut BytesMut, start: usize) -> Result<(), Error> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        let plain = output.split_off(start);
        layer.send(&plain, output)
    }

    fn take(&mut self, message: Message, output: &mut BytesMut) -> Result<Option<Step>, Error> {
        // These may come at any time.
        if let Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::NotificationResponse(_) = message {
            return Ok(None);
        }
        match &self.phase {
            Phase::Starting(_) => self.take_start(message, output),
            Phase::Asking(_) => self.take_answer(message),
        }
    }

    fn take_start(&mut self, message: Message, output: &mut BytesMut) -> Result<Option<Step>, Error> {
        let Phase::Starting(scram) = &mut self.phase else { return Err(unexpected()) };
        let Target { user, password, .. } = &*self.target;
        let answered = match message {
            Message::AuthenticationOk | Message::BackendKeyData(_) => Ok(()),
            Message::AuthenticationCleartextPassword => frontend::password_message(password.as_bytes(), output),
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), body.salt());
                frontend::password_message(hash.as_bytes(), output)
            }
            Message::AuthenticationSasl(body) if offers_scram(&body) => {
                let begun = scram.insert(ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported()));
                frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), output)
            }
            Message::AuthenticationSaslContinue(body) => {
                let scram = scram.as_mut().ok_or_else(unexpected)?;
                scram.update(body.data()).map_err(not_the_database)?;
                frontend::sasl_response(scram.message(), output)
            }
            Message::AuthenticationSaslFinal(body) => {
                return scram
                    .as_mut()
                    .ok_or_else(unexpected)?
                    .finish(body.data())
                    .map(|()| None)
                    .map_err(not_the_database);
            }
            Message::ReadyForQuery(_) => {
                self.phase = Phase::Asking(VecDeque::new());
                return Ok(Some(Step::Ready));
            }
            Message::ErrorResponse(body) => return Err(Error::response(&body)?.0),
            _ => return Err(Error::new(Kind::Authentication, "it wants another way than a password")),
        };
        answered.map(|()| None).map_err(Error::protocol)
    }

    fn take_answer(&mut self, message: Message) -> Result<Option<Step>, Error> {
        let Phase::Asking(asked) = &mut self.phase else { return Err(unexpected()) };
        let Some(first) = asked.front_mut() else {
            return match message {
                Message::ErrorResponse(body) => Err(Error::response(&body)?.0),
                _ => Err(unexpected()),
            };
        };
        match message {
            Message::ParseComplete => first.prepares = false,
            Message::BindComplete | Message::CommandComplete(_) => {}
            Message::DataRow(body) if first.row.is_none() && first.error.is_none() => {
                first.row = Some(read_row(&body, first.statement)?);
            }
            Message::ErrorResponse(body) => match Error::response(&body)? {
                (fatal, true) => return Err(fatal),
                (complaint, false) => first.error = Some(complaint),
            },
            // In no transaction: all that was asked with it is done.
            Message::ReadyForQuery(body) if body.status() == b'I' => {
                let Some(done) = asked.pop_front() else { return Err(unexpected()) };
                if done.prepares {
                    self.is_prepared[done.statement] = false;
                }
                return Ok(Some(Step::Answer(done.error.map_or(Ok(done.row), Err))));
            }
            _ => return Err(unexpected()),
        }
        Ok(None)
    }
}

fn unexpected() -> Error {
    Error::new(Kind::Protocol, "a message that nobody has asked for")
}

/// It does not know the password either, or the password is wrong in a way that shows before the database says so.
fn not_the_database(error: std::io::Error) -> Error {
    Error::new(Kind::Authentication, error.to_string())
}

fn offers_scram(body: &AuthenticationSaslBody) -> bool {
    body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256)).unwrap_or(false)
}

/// Writes the values of a statement.
fn bind(name: &str, question: &Question<'_>, is_slow: bool, output: &mut BytesMut) -> Result<(), Error> {
    let id;
    let sleep = seconds(question.sleep);
    let (first, format) = match question.query {
        Query::Find(wanted) => {
            id = wanted.to_string();
            (id.as_bytes(), TEXT)
        }
        Query::Insert => (question.body, BINARY),
    };
    let values = [first, sleep.as_bytes()];
    let count = 1 + usize::from(is_slow);
    let formats = [format, TEXT];
    let write = |value: &[u8], output: &mut BytesMut| {
        output.put_slice(value);
        Ok(IsNull::No)
    };
    let bound = frontend::bind(
        "",
        name,
        formats.into_iter().take(count),
        values.into_iter().take(count),
        write,
        [format],
        output,
    );
    bound.map_err(|_| Error::new(Kind::Query, "the body is too long for the database"))
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos())
}

/// The body of the answer: a row as JSON, or what was inserted.
fn read_row(body: &DataRowBody, statement: usize) -> Result<Vec<u8>, Error> {
    let mut ranges = body.ranges();
    let mut column = || match ranges.next() {
        Ok(Some(Some(range))) => Ok(&body.buffer()[range]),
        _ => Err(Error::new(Kind::Protocol, "a column is missing")),
    };
    if statement >= 2 {
        return column().map(<[u8]>::to_vec);
    }
    let (id, name, born) = (column()?, column()?, column()?);
    let mut json = Vec::with_capacity(48);
    json.extend_from_slice(b"{\"id\":");
    json.extend_from_slice(id);
    json.extend_from_slice(b",\"name\":\"");
    write_escaped(name, &mut json);
    json.extend_from_slice(b"\",\"born\":");
    json.extend_from_slice(born);
    json.extend_from_slice(b"}\n");
    Ok(json)
}

/// Writes the inside of a JSON string (RFC 8259 §7).
fn write_escaped(text: &[u8], json: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            0..0x20 => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => json.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Url;
    use super::*;

    const FIND: Question<'_> = Question { query: Query::Find(7), body: b"", sleep: Duration::ZERO };

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn ready() -> Vec<u8> {
        message(b'Z', b"I")
    }

    fn row(columns: &[&[u8]]) -> Vec<u8> {
        let count = i16::try_from(columns.len()).unwrap().to_be_bytes();
        let lengths = columns.iter().map(|column| [&(column.len() as i32).to_be_bytes()[..], column].concat());
        message(b'D', &[&count[..], &lengths.collect::<Vec<_>>().concat()].concat())
    }

    fn complaint(severity: &str, code: &str) -> Vec<u8> {
        message(b'E', format!("SX\0V{severity}\0C{code}\0Mno\0\0").as_bytes())
    }

    fn connected(parameters: &str) -> Connection {
        let target = format!("postgres://ada:pw@h/x{parameters}").parse::<Url>().unwrap().target().unwrap();
        let mut connection = Connection::new(Arc::new(target));
        let mut output = BytesMut::new();
        let letters = [message(b'R', &[0; 4]), message(b'S', b"a\0b\0"), ready()].concat();
        connection.receive(&letters, &mut output).unwrap();
        assert_eq!(connection.next(&mut output), Ok(Some(Step::Ready)));
        connection
    }

    fn asked(connection: &mut Connection) -> Vec<u8> {
        let mut output = BytesMut::new();
        connection.ask(&FIND, &mut output).unwrap();
        output.to_vec()
    }

    fn answer(connection: &mut Connection, bytes: &[u8]) -> Result<Option<Step>, Error> {
        connection.receive(bytes, &mut BytesMut::new())?;
        connection.next(&mut BytesMut::new())
    }

    #[test]
    fn an_answer_is_the_row_whatever_the_pieces() {
        let mut connection = connected("");
        let bytes = [
            message(b'1', b""),
            message(b'2', b""),
            row(&[b"7", b"Al \"\\\n", b"1815"]),
            message(b'C', b"SELECT 1\0"),
            ready(),
        ]
        .concat();
        for size in [1, 3, bytes.len()] {
            asked(&mut connection);
            let steps: Vec<_> = bytes.chunks(size).map(|piece| answer(&mut connection, piece).unwrap()).collect();
            let expected = b"{\"id\":7,\"name\":\"Al \\\"\\\\\\u000a\",\"born\":1815}\n".to_vec();
            assert_eq!(steps.last(), Some(&Some(Step::Answer(Ok(Some(expected))))));
            assert!(steps[..steps.len() - 1].iter().all(Option::is_none) && connection.is_idle());
        }
    }

    #[test]
    fn a_statement_is_prepared_once_unless_it_is_not_kept() {
        let answered = [message(b'1', b""), message(b'2', b""), ready()].concat();
        for (parameters, prepares_again) in [("", false), ("?pgbouncer=true", true)] {
            let mut connection = connected(parameters);
            assert_eq!(asked(&mut connection)[0], b'P');
            assert_eq!(answer(&mut connection, &answered), Ok(Some(Step::Answer(Ok(None)))));
            assert_eq!(asked(&mut connection)[0] == b'P', prepares_again);
        }
    }

    #[test]
    fn a_complaint_leaves_the_connection_and_a_fatal_one_does_not() {
        let mut connection = connected("");
        asked(&mut connection);
        let Ok(Some(Step::Answer(Err(error)))) =
            answer(&mut connection, &[complaint("ERROR", "57014"), ready()].concat())
        else {
            panic!("no complaint");
        };
        assert_eq!(error.kind, Kind::Timeout);
        for (code, kind) in
            [("57P01", Kind::Restarted), ("53300", Kind::TooManyClients), ("28P01", Kind::Authentication)]
        {
            asked(&mut connection);
            assert_eq!(answer(&mut connection, &complaint("FATAL", code)).unwrap_err().kind, kind);
            connection = connected("");
        }
    }

    /// What nobody has asked for is nobody's answer.
    #[test]
    fn surplus_answers_end_the_connection() {
        let two_rows = [row(&[b"7", b"Ada", b"1815"]), row(&[b"8", b"Bob", b"1"])].concat();
        for bytes in [&two_rows, &message(b'Z', b"T")] {
            let mut connection = connected("");
            asked(&mut connection);
            assert_eq!(answer(&mut connection, bytes).unwrap_err().kind, Kind::Protocol);
        }
        let mut connection = connected("");
        assert!(answer(&mut connection, &row(&[b"8"])).is_err(), "before anything was asked");
        let mut connection = connected("");
        asked(&mut connection);
        let surplus = [message(b'2', b""), ready(), row(&[b"8", b"Bob", b"1"])].concat();
        assert_eq!(answer(&mut connection, &surplus), Ok(Some(Step::Answer(Ok(None)))));
        assert!(!connection.is_idle(), "nobody may ask it any more");
        assert_eq!(answer(&mut connection, b"").unwrap_err().kind, Kind::Protocol);
    }

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let mut connection = connected("");
        let (first, second) = (asked(&mut connection), asked(&mut connection));
        assert!(first.starts_with(b"P") && second.starts_with(b"B"), "prepared once");
        let bytes = [
            [message(b'1', b""), message(b'2', b""), row(&[b"7", b"Ada", b"1815"]), ready()].concat(),
            [complaint("ERROR", "57014"), ready()].concat(),
        ];
        let Ok(Some(Step::Answer(Ok(Some(_))))) = answer(&mut connection, &bytes.concat()) else { panic!("no row") };
        assert!(!connection.is_idle());
        let Ok(Some(Step::Answer(Err(error)))) = answer(&mut connection, b"") else { panic!("no complaint") };
        assert_eq!((error.kind, connection.is_idle()), (Kind::Timeout, true));
        assert_eq!(answer(&mut connection, b""), Ok(None));
    }

    /// Those behind it complain, too, and the next one prepares it anew.
    #[test]
    fn a_statement_that_was_not_prepared_is_prepared_again() {
        let mut connection = connected("");
        asked(&mut connection);
        asked(&mut connection);
        let complained = [complaint("ERROR", "53200"), ready()].concat();
        assert!(matches!(answer(&mut connection, &complained), Ok(Some(Step::Answer(Err(_))))));
        assert!(asked(&mut connection).starts_with(b"P"));
        assert!(matches!(answer(&mut connection, &complained), Ok(Some(Step::Answer(Err(_))))));
        assert!(
            asked(&mut connection).starts_with(b"B"),
            "the one that was never prepared by itself says nothing of it"
        );
    }

    #[test]
    fn passwords_are_answered_in_the_way_that_is_asked_for() {
        let target = Arc::new("postgres://ada:pw@h".parse::<Url>().unwrap().target().unwrap());
        let reply = |letter: &[u8]| {
            let mut output = BytesMut::new();
            let mut connection = Connection::new(target.clone());
            connection.receive(&message(b'R', letter), &mut output).unwrap();
            connection.next(&mut output).map(|_| output.to_vec())
        };
        assert_eq!(reply(&[0, 0, 0, 3]).unwrap(), message(b'p', b"pw\0"));
        assert!(reply(&[0, 0, 0, 5, 1, 2, 3, 4]).unwrap().starts_with(b"p\0\0\0\x28md5"));
        let scram = [&[0, 0, 0, 10][..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"].concat();
        assert!(reply(&scram).unwrap()[5..].starts_with(b"SCRAM-SHA-256\0"));
        assert_eq!(reply(&[0, 0, 0, 7]).unwrap_err().kind, Kind::Authentication, "Kerberos");
    }
}
