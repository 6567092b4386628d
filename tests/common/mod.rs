//! A WebSocket client as plain as can be: it sends and reads messages, and knows nothing of the
//! store. Every wait ends after [`PATIENCE`] with a sentence.
#![allow(dead_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use sessionstore::{Server, ServerOptions};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// Longest wait for anything; far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn server() -> Server {
    server_with(|_| {})
}

pub fn server_with(change: impl FnOnce(&mut ServerOptions)) -> Server {
    let mut options = ServerOptions::default();
    change(&mut options);
    Server::start(options).expect("the server starts")
}

pub fn encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// One client, joined or not.
pub struct Client<S = TcpStream> {
    pub socket: WebSocket<S>,
    next_id: u64,
    /// Read while something else was waited for.
    skipped: Vec<Value>,
}

impl Client {
    /// Connects with a query; the refusal is the status and the body.
    pub fn try_connect(server: &Server, query: &str, headers: &[(&str, &str)]) -> Result<Client, (u16, Value)> {
        Client::over(reach(server), server, query, headers)
    }

    /// Connects without joining, and reads the policy.
    pub fn connect(server: &Server, query: &str) -> Client {
        let mut client = Client::try_connect(server, query, &[]).expect("admitted");
        let policy = client.read();
        assert_eq!(policy["method"], "on-policy-change", "{policy}");
        client
    }

    /// Joins a room by the query, as the peer, and reads the result and the peer list.
    pub fn join(server: &Server, room: &str, peer: &str) -> Client {
        Client::join_with(server, &format!("room={room}&peer={peer}&name={peer}"))
    }

    pub fn join_with(server: &Server, query: &str) -> Client {
        Client::join_over(reach(server), server, query)
    }

    /// Joins and listens on a socket for which the system buffers little, so that it is full soon.
    pub fn narrow(server: &Server, room: &str, peer: &str, key: &str) -> Client {
        let query = format!("room={room}&peer={peer}&join=j&listen={}", encode(&json!([key]).to_string()));
        let mut client = Client::over(narrow(server), server, &query, &[]).expect("admitted");
        client.result("j");
        client.expect("peer-list");
        client.expect("on-metadata-change");
        client
    }

    /// The same, listening to keys; returns the snapshot's values.
    pub fn listening(server: &Server, room: &str, peer: &str, keys: &[&str]) -> (Client, Vec<Value>) {
        Client::listening_over(reach(server), server, room, peer, keys)
    }

    /// Cuts the connection, as when a cable is pulled or a process is killed.
    pub fn cut(self) {
        self.socket.get_ref().shutdown(std::net::Shutdown::Both).expect("cut");
    }
}

/// A connection to a server.
pub fn reach(server: &Server) -> TcpStream {
    patient(TcpStream::connect(server.local_addr()).expect("connects"))
}

/// The same, for which the system buffers little, so that it is full soon.
pub fn narrow(server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.connect(&server.local_addr().into()).expect("connects");
    patient(socket.into())
}

/// The same stream, whose every wait ends.
pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

impl<S: Read + Write> Client<S> {
    /// Connects over a stream with a query; the refusal is the status and the body.
    pub fn over(stream: S, server: &Server, query: &str, headers: &[(&str, &str)]) -> Result<Client<S>, (u16, Value)> {
        let mut request = tungstenite::http::Request::builder()
            .uri(format!("{}/ws?{query}", server.url()))
            .header("Host", "localhost")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let config = tungstenite::protocol::WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match tungstenite::client::client_with_config(request.body(()).expect("a request"), stream, Some(config)) {
            Ok((socket, _)) => Ok(Client { socket, next_id: 0, skipped: Vec::new() }),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(body).unwrap_or(Value::Null)))
            }
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    /// Joins over a stream by the query, and reads the result and the peer list.
    pub fn join_over(stream: S, server: &Server, query: &str) -> Client<S> {
        let mut client = Client::over(stream, server, &format!("{query}&join=j"), &[]).expect("admitted");
        assert_eq!(client.result("j")["protocol"], 1);
        client.expect("peer-list");
        client
    }

    /// The same, listening to keys; returns the snapshot's values.
    pub fn listening_over(
        stream: S,
        server: &Server,
        room: &str,
        peer: &str,
        keys: &[&str],
    ) -> (Client<S>, Vec<Value>) {
        let keys = encode(&json!(keys).to_string());
        let query = format!("room={room}&peer={peer}&name={peer}&listen={keys}");
        let mut client = Client::join_over(stream, server, &query);
        let snapshot = client.expect("on-metadata-change");
        assert_eq!(snapshot["snapshot"], true);
        (client, snapshot["values"].as_array().expect("values").clone())
    }

    pub fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).expect("sent");
    }

    /// Sends a request and returns its id.
    pub fn ask(&mut self, method: &str, params: Value) -> String {
        self.next_id += 1;
        let id = self.next_id.to_string();
        self.send_text(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// The next message, whatever it is.
    pub fn read(&mut self) -> Value {
        if !self.skipped.is_empty() {
            return self.skipped.remove(0);
        }
        self.read_new()
    }

    fn read_new(&mut self) -> Value {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return serde_json::from_str(&text).expect("the server sends JSON"),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("expected a message, got {other:?}"),
                Err(error) => panic!("expected a message: {error}"),
            }
        }
    }

    /// The params of the next message, which must be this notification.
    pub fn expect(&mut self, method: &str) -> Value {
        let message = self.read();
        assert_eq!(message["method"], method, "expected {method}, got {message}");
        message["params"].clone()
    }

    /// The one changed state of the next message, as `(key, data)`, with its version.
    pub fn change(&mut self) -> (String, Value, u64) {
        let params = self.expect("on-metadata-change");
        assert!(params.get("snapshot").is_none(), "{params}");
        let values = params["values"].as_array().expect("values");
        assert_eq!(values.len(), 1, "{params}");
        let state = &values[0];
        (
            state["key"].as_str().expect("a key").into(),
            state["data"].clone(),
            state["change_version"].as_u64().expect("a version"),
        )
    }

    /// The result of the next message, which must be the answer to this id.
    pub fn result(&mut self, id: &str) -> Value {
        let message = self.read();
        assert_eq!(message["id"], id, "expected the answer to {id}, got {message}");
        assert!(message.get("error").is_none(), "refused: {message}");
        message["result"].clone()
    }

    /// The code of the next message, which must refuse this id.
    pub fn refusal(&mut self, id: &str) -> (i64, Value) {
        let message = self.read();
        assert_eq!(message["id"], id, "expected the answer to {id}, got {message}");
        let code = message["error"]["code"].as_i64().unwrap_or_else(|| panic!("not refused: {message}"));
        assert!(message["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{message}");
        (code, message["error"]["data"].clone())
    }

    /// Asks, and reads the result, keeping what comes before it for later.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let message = self.answer(method, params);
        assert!(message.get("error").is_none(), "{method} was refused: {message}");
        message["result"].clone()
    }

    /// Asks, and reads the code of the refusal.
    pub fn refused(&mut self, method: &str, params: Value) -> i64 {
        let message = self.answer(method, params);
        message["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method} was not refused: {message}"))
    }

    fn answer(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        loop {
            let message = self.read_new();
            if message["id"] == *id {
                return message;
            }
            self.skipped.push(message);
        }
    }

    pub fn set(&mut self, key: &str, data: Value) -> u64 {
        self.call("set-metadata", json!({"key": key, "data": data}))["change_version"].as_u64().expect("a version")
    }

    /// Asserts that nothing has been sent to this client up to now: the answer to a ping is next.
    pub fn nothing_waits(&mut self) {
        let id = self.ask("ping", json!({}));
        self.result(&id);
    }

    /// Reads to the close frame and returns its code, answering it.
    pub fn closed(&mut self) -> u16 {
        self.closed_because().0
    }

    /// The same with its reason.
    pub fn closed_because(&mut self) -> (u16, String) {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => {
                    let code = frame.as_ref().map_or(CloseCode::Status, |frame| frame.code).into();
                    let reason = frame.map_or(String::new(), |frame| frame.reason.to_string());
                    // The answer goes out with the next read, which also sees the end.
                    while self.socket.read().is_ok() {}
                    return (code, reason);
                }
                Ok(_) => {}
                Err(error) => panic!("expected a close frame: {error}"),
            }
        }
    }
}

/// Sends bytes on a connection of its own and returns all that comes back until it ends.
pub fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(bytes).expect("written");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the connection did not end: {error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET request's status and body.
pub fn get(server: &Server, target: &str) -> (u16, Value) {
    let answer = raw(server, format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let status = answer.get(9..12).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Looks again and again until something holds, for what no message announces.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::yield_now();
    }
}
