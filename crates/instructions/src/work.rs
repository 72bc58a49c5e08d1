//! The work that this program does itself to be counted.

use std::hint::black_box;

use clap::ValueEnum;
use common::http::reply::Reply;
use common::http::{Decoder, Limits, Response, Status};

/// What a browser or a proxy sends, in short.
const REQUEST: &[u8] = b"GET /?wait=250ms HTTP/1.1\r\n\
    Host: 127.0.0.1:8084\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n\
    Accept: text/html,application/json;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\n\r\n";
const BODY: &[u8] = b"{\"id\":1,\"name\":\"Ada Lovelace\",\"born\":1815}\n";
const LIMITS: Limits = Limits { max_head_bytes: 16 * 1024, max_body_bytes: 1024 * 1024 };

/// A part of what happens for each request.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Work {
    /// Decode a request, and encode its answer.
    Codec,
    /// Decode an answer.
    Reply,
}

impl Work {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Work::Codec => "codec",
            Work::Reply => "reply",
        }
    }

    /// Does it so many times.
    pub(crate) fn run(self, times: u64) {
        match self {
            Work::Codec => {
                let mut decoder = Decoder::new(LIMITS);
                for _ in 0..times {
                    let _ = black_box(decoder.decode(black_box(REQUEST)));
                    black_box(response().encode());
                }
            }
            Work::Reply => {
                let (mut reply, bytes) = (Reply::default(), response().encode());
                for _ in 0..times {
                    let _ = black_box(reply.push(black_box(&bytes)));
                }
            }
        }
    }
}

fn response() -> Response {
    Response::new(Status::Ok, "application/json", BODY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::http::Step;

    #[test]
    fn what_is_counted_is_the_work_and_not_a_refusal() {
        let mut decoder = Decoder::new(LIMITS);
        for _ in 0..2 {
            assert!(matches!(decoder.decode(REQUEST), Ok(Step::Request(_))));
        }
        let (mut reply, bytes) = (Reply::default(), response().encode());
        for _ in 0..2 {
            let (used, answer) = reply.push(&bytes).unwrap();
            assert_eq!((used, answer.unwrap().status), (bytes.len(), 200));
        }
        let names: Vec<_> = Work::value_variants().iter().map(|work| work.to_possible_value().unwrap()).collect();
        assert_eq!(names.iter().map(|name| name.get_name()).collect::<Vec<_>>(), ["codec", "reply"]);
    }
}
