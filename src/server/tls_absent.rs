//! In the place of `tls` in builds without it: there is no such session, and whoever asks for one is told.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::options::TlsOptions;
use super::stream::Stream;
use crate::core::error::{Error, ErrorCode};
use crate::core::room::Time;

pub(super) enum Tls {}

impl Tls {
    pub fn new(_: &TlsOptions, _: Time) -> Result<Tls, Error> {
        let message = "this build has no TLS; build it with the feature `tls`, or put a TLS proxy before the server";
        Err(Error::new(ErrorCode::InvalidConfig, message))
    }

    pub fn reload(&self) -> Result<(), Error> {
        match *self {}
    }

    pub async fn accept(&self, _: TcpStream, _: Time) -> io::Result<Accepted> {
        match *self {}
    }
}

#[allow(dead_code)] // None is ever made.
pub(super) enum Accepted {
    Tls(Stream),
    Plain(Stream),
    Refused(Stream, io::Error),
}

pub(super) struct Session(Infallible);
pub(super) struct Unbound(Infallible);

impl Session {
    pub fn socket(&self) -> &TcpStream {
        match self.0 {}
    }

    pub fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub fn poll_drain(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub fn try_write(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {}
    }

    pub fn holds_back(&self) -> bool {
        match self.0 {}
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }

    pub fn say_goodbye(&mut self) {
        match self.0 {}
    }

    pub fn unbind(self) -> io::Result<Unbound> {
        match self.0 {}
    }
}

impl Unbound {
    pub fn bind(self) -> io::Result<Session> {
        match self.0 {}
    }
}
