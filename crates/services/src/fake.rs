//! What fakes of servers that speak HTTP have in common: listening, and one request after another, each with one answer in JSON, or
//! of bare text.
//!
//! Deliberately absent: what a request means.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::Value;

/// What a fake was asked.
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// By names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// What a header says; nothing where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Answers at a free port until the program ends; the port.
pub(crate) fn serve(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let answer = Arc::new(answer);
    drop(thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            drop(thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(asked) = read(&mut reader) {
                    let (status, said) = answer(&asked);
                    let said = match said {
                        Value::String(text) => text,
                        said => said.to_string(),
                    };
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", said.len());
                    if reader.get_mut().write_all(format!("{head}{said}").as_bytes()).is_err() {
                        return;
                    }
                }
            }));
        }
    }));
    Ok(port)
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim_end().is_empty() {
            break;
        }
        let pair = line.trim_end().split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        headers.extend(pair);
    }
    let mut asked = Asked { method, path, headers, body: Vec::new() };
    asked.body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}
